"""`make run` as its user sees it: a process that starts, answers, says what is wrong, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from local import ROOT
from local.postgres import Postgres

STARTED = "Ctrl-C stops all of it"
RECORD = {"customer_id": 7, "name": "Ada", "email": "ada@example.com", "source": "salesforce"}


class Run:
    """One `python -m local`, with its data in `folder`, in a process group of its own."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.folder = folder
        self.port = port
        self.environment = os.environ | {"DEDUP_LOCAL_DIR": str(folder), "PORT": str(port)} | environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "local"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until_started(self) -> None:
        assert self.process.stdout
        assert self.process.stderr
        for line in self.process.stdout:
            if STARTED in line:
                return
        pytest.fail(f"did not start: {self.process.stderr.read()}")

    def descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def request(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def refusal(self) -> str:
        """The one line on stderr of a run that can't start."""
        _, stderr = self.process.communicate(timeout=30)
        assert self.process.returncode == 1
        assert stderr.count("\n") == 1, stderr
        return stderr


def invoke(function: str, folder: Path) -> Any:
    """What `make event` prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "local.invoke"],
        cwd=ROOT,
        env=os.environ | {"DEDUP_LOCAL_DIR": str(folder), "FUNCTION": function, "EVENT": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    Postgres(tmp_path).remove()


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    started = Run(folder, free_port())
    try:
        started.wait_until_started()
        yield started
    finally:
        stop(started)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    started = Run(folder, free_port(), DEDUP_LOCAL_FSYNC="off")
    try:
        started.wait_until_started()
        yield started
    finally:
        stop(started)
        Postgres(folder).remove()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(run: Run) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGINT)
    run.process.communicate(timeout=60)


def remaining(processes: list[psutil.Process], seconds: float = 15) -> list[psutil.Process]:
    """Those of `processes` that still run after at most `seconds`; a zombie is nobody's fault but its new parent's."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_answers_and_stops_without_leaving_a_process(run: Run, number: signal.Signals) -> None:
    assert run.request("GET", "/health") == {"status": "healthy"}
    processes = run.descendants()
    assert len(processes) >= 4, "PostgreSQL, its watchdog, S3, and an environment"
    os.killpg(run.process.pid, number)
    assert run.process.wait(timeout=30) == 0
    assert run.process.stderr
    assert run.process.stderr.read() == ""
    assert remaining(processes, 0) == []


@pytest.mark.parametrize("group", [True, False], ids=["the whole group", "only the parent"])
def test_what_was_answered_is_there_after_kill_9(run: Run, folder: Path, group: bool) -> None:
    stored = run.request("POST", "/api/v1/customers", RECORD)
    processes = run.descendants()
    if group:
        os.killpg(run.process.pid, signal.SIGKILL)
    else:
        run.process.kill()
    run.process.communicate(timeout=30)

    again = Run(folder, run.port)
    try:
        again.wait_until_started()
        assert again.request("GET", "/api/v1/customers") == [stored]
    finally:
        stop(again)
    assert remaining(processes) == []


def test_data_survives_a_kill_9_of_everything(run: Run, folder: Path) -> None:
    stored = run.request("POST", "/api/v1/customers", RECORD)
    for process in run.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    run.process.kill()
    run.process.communicate(timeout=30)

    again = Run(folder, run.port)
    try:
        again.wait_until_started()
        assert again.request("GET", "/api/v1/customers") == [stored]
    finally:
        stop(again)


def test_a_second_run_of_the_clone_says_where_the_first_is(shared_run: Run) -> None:
    refusal = Run(shared_run.folder, free_port()).refusal()
    assert f"http://127.0.0.1:{shared_run.port}" in refusal
    assert str(shared_run.process.pid) in refusal


def test_a_taken_port_is_one_sentence(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"Port {port} is taken" in Run(folder, port).refusal()


def test_a_connection_is_kept(shared_run: Run) -> None:
    connection = HTTPConnection("127.0.0.1", shared_run.port, timeout=30)
    sockets = []
    for _ in range(2):
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"healthy"}'
        sockets.append(connection.sock)
    connection.close()

    assert sockets[0] is not None
    assert sockets[0] is sockets[1]


def test_an_environment_that_is_killed_is_replaced(shared_run: Run) -> None:
    shared_run.request("GET", "/health")
    environments = [one for one in shared_run.descendants() if any("environment.py" in part for part in one.cmdline())]
    assert environments
    for environment in environments:
        environment.kill()
    assert remaining(environments) == []
    assert shared_run.request("GET", "/health") == {"status": "healthy"}


def test_functions_can_be_invoked_beside_it_and_without_it(run: Run, folder: Path) -> None:
    run.request("POST", "/api/v1/customers", RECORD)
    found = {"agreed": True, "records": 1, "customers": 1, "wrong_customers": 0, "wrong_regions": 0}
    found |= {"entities": 0, "wrong_entities": 0, "wrong_entity_regions": 0}

    assert invoke("Verify", folder) == found
    stop(run)
    assert invoke("Verify", folder) == found


def test_functions_can_be_invoked_where_it_never_ran(folder: Path) -> None:
    assert json.loads(invoke("BulkUpload", folder)["body"])["details"] == {"count": 3, "upload_id": 1}
    assert json.loads(invoke("Analyze", folder)["body"])["total_records"] == 3


def test_what_the_caller_has_of_aws_is_left_alone(folder: Path) -> None:
    nowhere = "http://127.0.0.1:1"
    started = Run(
        folder,
        free_port(),
        AWS_PROFILE="production",
        AWS_ENDPOINT_URL_S3=nowhere,
        AWS_ENDPOINT_URL_SQS=nowhere,
        HTTP_PROXY=nowhere,
        http_proxy=nowhere,
    )
    try:
        started.wait_until_started()
        url = started.request("POST", "/api/v1/uploads", {"filename": "a.csv"})["url"]
        assert url.startswith("http://127.0.0.1:")
        assert not url.startswith(nowhere)
        body = b"customer_id,name,email,source\n7,Ada,ada@example.com,hubspot\n"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT", data=body), timeout=30) as answer:
            assert answer.status == 200
        while started.request("GET", "/api/v1/uploads")[0]["status"] in ("waiting", "loading"):
            time.sleep(0.05)
        assert started.request("GET", "/api/v1/uploads")[0]["status"] == "done"
    finally:
        stop(started)
