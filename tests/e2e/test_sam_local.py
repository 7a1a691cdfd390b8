"""Every sample event and the end-to-end tests through real containers: `make test-sam-local`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile

import boto3
import pytest
import requests

from local.postgres import Postgres
from local.s3 import BUCKET, S3
from local.sam_local import HOST, Sam, engine
from local.workers import Answer
from tests.conftest import ROOT
from tests.routes import read_template

NAMES = {"s3_put": "Ingest"}
EVENTS = sorted((ROOT / "events").glob("*.json"))
GATEWAY = engine() if os.environ.get("SAM_LOCAL") else None


def can_build(dockerfile: Path) -> bool:
    """Whether the image that a Dockerfile begins with is there, or comes from its registry."""
    [base] = [line.split()[1] for line in dockerfile.read_text().splitlines() if line.startswith("FROM ")]
    commands = (["docker", "image", "inspect", base], ["docker", "pull", "--quiet", base])
    return any(subprocess.run(command, capture_output=True).returncode == 0 for command in commands)


IMAGES = {
    name
    for name, resource in read_template()["Resources"].items()
    if resource.get("Properties", {}).get("PackageType") == "Image"
}
LEFT_OUT = set() if GATEWAY and can_build(ROOT / "jobs" / "Dockerfile") else IMAGES
"""Functions whose image begins with one that no registry gives here."""

pytestmark = pytest.mark.skipif(
    GATEWAY is None,
    reason="no container engine answers" if os.environ.get("SAM_LOCAL") else "make test-sam-local runs this",
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sam]:
    """The functions, built, beside a PostgreSQL and an S3 that containers reach; the bucket has the events' object, and
    what is put into it starts Ingest."""
    here = "127.0.0.1" if sys.platform == "darwin" else str(GATEWAY)
    folder = tmp_path_factory.mktemp("sam")
    postgres = Postgres(
        tmp_path_factory.mktemp("postgres"),
        listen_addresses=f"127.0.0.1,{here}",
        # Of containers, and not of other machines.
        access=["host all all samenet scram-sha-256"],
    )
    with ExitStack() as stack:
        s3 = stack.enter_context(S3(0, folder / "s3.log", here))
        stack.callback(postgres.remove)
        postgres.start()
        made = Sam(folder, postgres.create_database("dedup").environment() | {"DB_HOST": HOST} | s3.environment())
        made.build(without=LEFT_OUT)
        assert made.invoke("Migrate", ROOT / "events" / "migrate.json").returncode == 0
        for poller in s3.create(made.template.queues):
            if poller.queue.function not in LEFT_OUT:
                poller.start(partial(answer_of, made, poller.queue.function, folder))
                stack.callback(poller.stop)
        client = boto3.client(
            "s3",
            endpoint_url=s3.url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        rows = b"Record ID,First Name,Last Name,Email\n901,Ada,Example,ada@example.com\n902,Bo,Example,not an address\n"
        client.put_object(Bucket=BUCKET, Key="incoming/hubspot/night export.csv", Body=rows)
        yield made


def answer_of(sam: Sam, function: str, folder: Path, event: bytes) -> Answer:
    """What the function answers in a container of its own."""
    with NamedTemporaryFile(dir=folder, suffix=".json") as file:
        file.write(event)
        file.flush()
        done = sam.invoke(function, Path(file.name))
    answer = done.stdout.strip().splitlines()[-1:] or ["{}"]
    return Answer(answer[0].encode(), failed=done.returncode != 0 or "errorMessage" in answer[0])


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stem)
def test_sample_event(sam: Sam, event: Path) -> None:
    name = NAMES.get(event.stem, event.stem.title().replace("_", ""))
    if name in LEFT_OUT:
        pytest.skip("no registry gives the image that its own begins with")

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


@pytest.mark.parametrize("about", ["api", "uploads", "cli", "page", "people", "contract"])
def test_end_to_end(url: str, about: str) -> None:
    if about == "people" and LEFT_OUT:
        pytest.skip("no registry gives the image that the matching's begins with")
    # SAM's emulator of the runtime cuts an event at 6 MB, where Lambda refuses it: 502 there, 413 on AWS.
    too_large = "tests/e2e/test_api.py::test_invalid_or_too_large_body_is_refused[body1-413]"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            f"tests/e2e/test_{about}.py",
            "--deselect",
            too_large,
        ],
        cwd=ROOT,
        env=os.environ | {"DEDUP_URL": url, "DEDUP_IMAGES": "no" if LEFT_OUT else "yes"},
    )
    assert done.returncode == 0
