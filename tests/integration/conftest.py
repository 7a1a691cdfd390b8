"""A local AWS for tests: moto's server, reset for each test."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
import requests
from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.settings import settings
from dedup.store import Store
from dedup.store.uploads import Upload
from moto.server import ThreadedMotoServer

from tests.conftest import ROOT, api_event

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "uploads"
REGION: Final = "eu-west-1"
Ask = Callable[..., tuple[int, Any]]
"""Calls an operation of the API: its status and body."""

Deliver = Callable[..., Upload]

LOCAL_RUNNER = str(ROOT / "jobs" / "local_runner.py")
"""What BATCH_RUNNER is on a stack of this machine."""


def plenty() -> float:
    """The seconds that a function has left when it has just started."""
    return 900.0


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def aws_session() -> boto3.Session:
    """Shared by all tests, since loading a service's definition takes a tenth of a second."""
    return boto3.Session("test", "test", region_name=REGION)


@pytest.fixture
def s3(environment: pytest.MonkeyPatch, aws_url: str, aws_session: boto3.Session) -> Iterator["S3Client"]:
    """A client of a local S3 with one versioned bucket, which the functions' environment points to."""
    requests.post(f"{aws_url}/moto-api/reset", timeout=30)
    for name, value in {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "BUCKET": BUCKET,
    }.items():
        environment.setenv(name, value)
    environment.setattr(boto3, "DEFAULT_SESSION", aws_session)
    settings.cache_clear()
    bucket.client.cache_clear()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    bucket.client.cache_clear()


@pytest.fixture
def deliver(s3: "S3Client", store: Store) -> Deliver:
    """Puts a file with a key into the bucket, with metadata, and delivers its event; the upload."""

    def deliver(body: str, key: str, **metadata: str) -> Upload:
        made = s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode(), Metadata=metadata)
        upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
        assert upload
        return upload

    return deliver


@pytest.fixture
def files_queue(environment: pytest.MonkeyPatch, s3: "S3Client") -> str:
    """The address of the queue from which Ingest gets its messages."""
    url: str = boto3.client("sqs").create_queue(QueueName="files")["QueueUrl"]
    environment.setenv("FILES_QUEUE", url)
    settings.cache_clear()
    return url


@pytest.fixture
def work(files_queue: str, functions: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Callable[[], int]:
    """Gives Ingest the messages that wait; returns how many there were."""

    def work() -> int:
        found = boto3.client("sqs").receive_message(QueueUrl=files_queue, MaxNumberOfMessages=10).get("Messages", [])
        for number, message in enumerate(found):
            delivered = {"messageId": str(number), "eventSource": "aws:sqs", "body": message["Body"], "attributes": {}}
            assert functions("ingest", {"Records": [delivered]}) == {"batchItemFailures": []}
            boto3.client("sqs").delete_message(QueueUrl=files_queue, ReceiptHandle=message["ReceiptHandle"])
        return len(found)

    return work


@pytest.fixture
def ask(functions: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Ask:
    """Calls an operation of the API: its status and body."""

    def ask(name: str, method: str, path: str, body: Any = None, **parameters: str) -> tuple[int, Any]:
        query = parameters.pop("query", None)
        event = api_event(method, f"/api/v1/{path}", body, query, parameters=parameters)  # type: ignore[arg-type]
        answer = functions(name, event)
        return answer["statusCode"], json.loads(answer["body"])

    return ask


def shown(ask: Ask, upload_id: int) -> Any:
    """What the API says about an upload."""
    status, body = ask("show_upload", "GET", f"uploads/{upload_id}", upload_id=str(upload_id))
    assert status == 200
    return body
