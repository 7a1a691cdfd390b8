"""A local AWS for tests: moto's server, emptied for each test."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
import requests
from dedup import bucket
from dedup.settings import settings
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "uploads"


@pytest.fixture(scope="session")
def aws_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(environment: pytest.MonkeyPatch, aws_url: str) -> Iterator["S3Client"]:
    """A client of a local S3 with one versioned bucket; the functions' environment leads there."""
    requests.post(f"{aws_url}/moto-api/reset", timeout=30)
    for name, value in {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "BUCKET": BUCKET,
    }.items():
        environment.setenv(name, value)
    # boto3's session remembers the region that it was made with.
    environment.setattr(boto3, "DEFAULT_SESSION", None)
    settings.cache_clear()
    bucket.client.cache_clear()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    bucket.client.cache_clear()
