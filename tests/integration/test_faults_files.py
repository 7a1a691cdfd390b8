"""Faults on a file's way from the bucket to records: S3's, the queue's and the function's own.

docs/explanation/consistency-and-faults.md has a row for each of these tests.
"""

import gzip
import http.client
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Busy
from dedup.services import ingest
from dedup.sets import EVERYBODY
from dedup.settings import settings
from dedup.store import Store, open_store
from dedup.store.uploads import Upload

from tests.conftest import lambda_context, load_function
from tests.integration.conftest import BUCKET

Put = Callable[..., ObjectVersion]
ROWS = 20_000
CSV = b"id,name,email\n" + b"".join(b"%d,Customer %d,c%d@example.com\n" % (n, n, n) for n in range(ROWS))


class S3Proxy:
    """Before moto: answers requests for objects as `plan` says, one after the other, and then as moto does."""

    def __init__(self, url: str) -> None:
        self.plan: deque[str] = deque()
        self.method = "GET"
        proxy, host = self, urlsplit(url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.plan.popleft() if proxy.plan and self.command == proxy.method else ""
                if fault.isdecimal():
                    self.answer(int(fault), [], b"<Error><Code>SlowDown</Code></Error>")
                    return
                upstream = http.client.HTTPConnection(host, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers))
                got = upstream.getresponse()
                self.answer(got.status, got.getheaders(), got.read(), fault)
                upstream.close()

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, fault: str = "") -> None:
                self.send_response(status)
                of_the_hop = ("content-length", "connection", "transfer-encoding", "server", "date")
                for name, value in headers:
                    if name.lower() not in of_the_hop:
                        self.send_header(name, value)
                length = len(body)
                if self.command == "HEAD":
                    length = int({name.lower(): value for name, value in headers}.get("content-length", 0))
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if fault == "truncated":
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                elif fault == "slow":
                    for start in range(0, len(body), len(body) // 10 + 1):
                        self.wfile.write(body[start : start + len(body) // 10 + 1])
                        time.sleep(0.15)
                elif self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def put(s3: Any) -> Put:
    def put(key: str, body: bytes, **metadata: str) -> ObjectVersion:
        made = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)
        return ObjectVersion(BUCKET, key, made["VersionId"])

    return put


@pytest.fixture
def proxy(environment: pytest.MonkeyPatch, s3: Any, aws_url: str) -> Iterator[S3Proxy]:
    made = S3Proxy(aws_url)
    environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server.server_port}")
    environment.setenv("AWS_MAX_ATTEMPTS", "2")
    bucket.client.cache_clear()
    yield made
    made.server.shutdown()
    made.server.server_close()


def plenty() -> float:
    return 900.0


def deliver(version: ObjectVersion, store: Store) -> Upload | None:
    """Delivers a file as the queue does: again where another delivery is being worked on."""
    while True:
        try:
            return ingest.ingest(version, store, plenty)
        except Busy:
            time.sleep(0.01)


def total(store: Store) -> int:
    return store.questions.select({"ids": EVERYBODY}, {}, 1).records


@pytest.mark.parametrize(
    ("method", "faults", "delivered", "compress"),
    [
        ("GET", ["500"], 1, bytes),
        ("GET", ["503"] * 2, 2, bytes),
        ("HEAD", ["500"] * 2, 2, bytes),
        ("GET", ["truncated"], 2, bytes),
        ("GET", ["truncated"], 2, gzip.compress),
        ("GET", ["slow"], 1, gzip.compress),
        ("PUT", ["503"] * 2, 2, bytes),
    ],
)
def test_s3_that_fails_costs_a_delivery_at_most(
    store: Store, put: Put, proxy: S3Proxy, method: str, faults: list[str], delivered: int, compress: Any
) -> None:
    """What is read, and what is written: the PUT is that of the rejected rows."""
    version = put("incoming/hubspot/night", compress(CSV + b"1e9,,\n"))
    proxy.plan.extend(faults)
    proxy.method = method
    deliveries, upload = 0, None

    while upload is None and deliveries < 4:
        deliveries += 1
        try:
            upload = ingest.ingest(version, store, plenty)
        except (BotoCoreError, ClientError):
            assert {(one.status, one.accepted) for one in store.uploads.page(None, 10)} <= {("waiting", 0)}
            assert total(store) == 0

    assert upload
    assert (upload.status, upload.accepted, upload.rejected, deliveries) == ("done", ROWS, 1, delivered)
    assert (total(store), store.questions.counts()) == (ROWS, {frozenset({"hubspot"}): ROWS})
    assert store.maintenance.verify().agreed


def test_slow_s3_lets_another_delivery_take_over_and_nothing_comes_twice(
    environment: pytest.MonkeyPatch, new_store: Callable[..., Store], put: Put, proxy: S3Proxy
) -> None:
    environment.setattr(ingest, "LEASE", 0.3)
    version = put("incoming/hubspot/night.csv", CSV)
    proxy.plan.append("slow")

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(ingest.ingest, version, new_store(), plenty)
        time.sleep(0.7)
        fast = pool.submit(deliver, version, new_store())
        loaded_uploads = [done.result() for done in (slow, fast)]

    assert [upload and upload.status for upload in loaded_uploads][1] == "done"
    assert total(new_store()) == ROWS
    assert new_store().maintenance.verify().agreed


def test_events_out_of_order_and_ten_times_each_count_once(new_store: Callable[..., Store], put: Put) -> None:
    """The newest snapshot stays, whichever comes last; files are added once each."""
    versions = [put(f"incoming/internal/{n}.csv", CSV[: 5000 + 1000 * n]) for n in range(4)]
    rows = sum(len(CSV[: 5000 + 1000 * n].splitlines()) - 1 for n in range(4))
    for night, last in enumerate((3000, 6000)):
        time.sleep(1.1 * night)  # S3 tells the time of an object in whole seconds
        versions.append(put("incoming/hubspot/snapshot/night.csv", CSV[: CSV.index(b"\n%d," % last) + 1]))
    events = versions * 10
    random.Random(8).shuffle(events)
    stores = [new_store() for _ in range(3)]

    def deliver_all(number: int) -> None:
        for version in events[number::3]:
            deliver(version, stores[number])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(deliver_all, range(3)))

    loaded_uploads = stores[0].uploads.page(None, 100)
    assert len(loaded_uploads) == len(versions)
    assert {upload.status for upload in loaded_uploads} <= {"done", "failed"}
    assert all("newer snapshot" in str(upload.reason) for upload in loaded_uploads if upload.status == "failed")
    cut = [upload.accepted + upload.rejected for upload in loaded_uploads if upload.mode == "add"]
    assert sum(cut) == rows
    added = sum(upload.accepted for upload in loaded_uploads if upload.mode == "add")
    assert total(stores[0]) == added + 6000
    assert stores[0].maintenance.verify().agreed


def test_dead_letters_redriven_are_loaded_once(
    environment: pytest.MonkeyPatch, functions: Any, store: Store, put: Put
) -> None:
    """The database is down for three deliveries, the queue buries the message, and somebody sends it again."""
    sqs = boto3.client("sqs")
    dead = sqs.create_queue(QueueName="files-dead")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 3})
    queue = sqs.create_queue(QueueName="files", Attributes={"RedrivePolicy": redrive, "VisibilityTimeout": "0"})[
        "QueueUrl"
    ]
    version = put("incoming/hubspot/night.csv", CSV[:5000])
    rows = len(CSV[:5000].splitlines()) - 1
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(created(version)))

    def work() -> list[bool]:
        """Hands messages to the function until there are none, as Lambda does; which of them were done."""
        done = []
        while messages := sqs.receive_message(QueueUrl=queue).get("Messages"):
            [message] = messages
            record = {"messageId": message["MessageId"], "eventSource": "aws:sqs", "body": message["Body"]}
            event = {"Records": [record | {"attributes": {}, "receiptHandle": message["ReceiptHandle"]}]}
            failed = load_function("ingest").handler(event, lambda_context("ingest"))["batchItemFailures"]
            if not failed:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            done.append(not failed)
        return done

    with environment.context() as down:
        down.setenv("DB_PORT", "1")
        _renew()
        assert work() == [False] * 3
    _renew()
    assert work() == []
    assert total(store) == 0

    # What start-message-move-task does, which moto has not.
    [buried] = sqs.receive_message(QueueUrl=dead)["Messages"]
    sqs.send_message(QueueUrl=queue, MessageBody=buried["Body"])
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=buried["ReceiptHandle"])

    assert work() == [True]
    [upload] = store.uploads.page(None, 10)
    assert (upload.status, upload.accepted + upload.rejected) == ("done", rows)
    assert total(store) == upload.accepted
    assert not sqs.receive_message(QueueUrl=dead).get("Messages")
    assert store.maintenance.verify().agreed


def created(version: ObjectVersion) -> dict[str, Any]:
    named = {"key": version.key, "versionId": version.version_id}
    return {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": version.bucket}, "object": named}}]}


def arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def _renew() -> None:
    settings.cache_clear()
    open_store.cache_clear()
