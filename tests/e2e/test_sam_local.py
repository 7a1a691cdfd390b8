"""Every sample event and the end-to-end tests through real containers: `make test-sam-local`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from local.postgres import Postgres
from local.sam_local import HOST, Sam, engine
from tests.conftest import ROOT

BUCKET = "dedup-uploads"
NAMES = {"s3_put": "Ingest"}
EVENTS = sorted((ROOT / "events").glob("*.json"))

GATEWAY = engine() if os.environ.get("SAM_LOCAL") else None

pytestmark = pytest.mark.skipif(
    GATEWAY is None,
    reason="no container engine answers" if os.environ.get("SAM_LOCAL") else "make test-sam-local runs this",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sam]:
    """The functions, built, beside a PostgreSQL and an S3 that containers reach; the bucket has the events' object."""
    here = "127.0.0.1" if sys.platform == "darwin" else str(GATEWAY)
    s3 = ThreadedMotoServer(ip_address=here, port=0, verbose=False)
    s3.start()
    _, s3_port = s3.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{here}:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    client.create_bucket(Bucket=BUCKET)
    rows = b"Record ID,First Name,Last Name,Email\n901,Ada,Example,ada@example.com\n902,Bo,Example,not an address\n"
    client.put_object(Bucket=BUCKET, Key="incoming/hubspot/night export.csv", Body=rows)
    postgres = Postgres(
        tmp_path_factory.mktemp("postgres"),
        listen_addresses=f"127.0.0.1,{here}",
        # Of containers, and not of other machines.
        access=["host all all samenet scram-sha-256"],
    )
    try:
        postgres.start()
        environment = postgres.create_database("dedup").environment() | {
            "DB_HOST": HOST,
            "BUCKET": BUCKET,
            "EVENT_BUS": "default",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{s3_port}",
        }
        made = Sam(tmp_path_factory.mktemp("sam"), environment)
        made.build()
        assert made.invoke("Migrate", ROOT / "events" / "migrate.json").returncode == 0
        yield made
    finally:
        postgres.remove()
        s3.stop()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stem)
def test_sample_event(sam: Sam, event: Path) -> None:
    name = NAMES.get(event.stem, event.stem.title().replace("_", ""))

    done = sam.invoke(name, event)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert "errorMessage" not in answer, done.stderr
    assert answer.get("statusCode", 200) < 500, answer
    assert answer.get("batchItemFailures", []) == []


@pytest.fixture(scope="module")
def url(sam: Sam) -> Iterator[str]:
    port = free_port()
    serving = sam.start_api(port)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and serving.poll() is None:
            try:
                if requests.get(f"http://127.0.0.1:{port}/health", timeout=30).ok:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait(60)


def test_end_to_end(url: str) -> None:
    # SAM's emulator of the runtime cuts an event at 6 MB, where Lambda refuses it: 502 there, 413 on AWS.
    too_large = "tests/e2e/test_api.py::test_body_that_is_none_is_refused[body1-413]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/e2e/test_api.py", "--deselect", too_large],
        cwd=ROOT,
        env=os.environ | {"DEDUP_URL": url},
    )
    assert done.returncode == 0
