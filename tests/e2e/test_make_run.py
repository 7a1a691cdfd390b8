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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from local import ROOT
from local.postgres import Postgres
from tests.e2e.conftest import NO_RUNS

STARTED = "Ctrl-C stops all of it"
RECORD = {"customer_id": 7, "name": "Ada", "email": "ada@example.com", "source": "salesforce"}


class Run:
    """One `python -m local`, with its data in `folder`, in a process group of its own."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.folder = folder
        self.port = port
        self.printed: dict[str, str] = {}
        """What it said of itself, by the first word of each line."""
        self.said = ""
        """What it said on stderr, once it is stopped."""
        self.environment = os.environ | {"DEDUP_LOCAL_DIR": str(folder), "PORT": str(port)} | NO_RUNS | environment
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
            name, _, value = line.strip().partition(" ")
            self.printed[name] = value.strip()
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
    yield from started_run(folder, DEDUP_LOCAL_FSYNC="off")


@pytest.fixture
def durable_run(folder: Path) -> Iterator[Run]:
    """One that waits for the disk, as a user's does."""
    yield from started_run(folder)


def started_run(folder: Path, **environment: str) -> Iterator[Run]:
    started = Run(folder, free_port(), **environment)
    try:
        started.wait_until_started()
        yield started
    finally:
        stop(started)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared")
    yield from started_run(folder, DEDUP_LOCAL_FSYNC="off")
    Postgres(folder).remove()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(run: Run) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGINT)
    if run.process.returncode is None or not run.said:
        with contextlib.suppress(ValueError):  # it was read to its end before
            _, run.said = run.process.communicate(timeout=60)


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
def test_what_was_answered_is_there_after_kill_9(durable_run: Run, folder: Path, group: bool) -> None:
    run = durable_run
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


def kill_everything(run: Run) -> None:
    """Kills make run and all that it started with -9."""
    for process in run.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    run.process.kill()
    run.process.communicate(timeout=30)


def test_data_survives_a_kill_9_of_everything(durable_run: Run, folder: Path) -> None:
    stored = durable_run.request("POST", "/api/v1/customers", RECORD)
    kill_everything(durable_run)

    again = Run(folder, durable_run.port)
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


def process_of(run: Run, *words: str) -> psutil.Process:
    """The process that the run started whose command line has all of the words."""
    children = psutil.Process(run.process.pid).children()
    [found] = [one for one in children if all(word in " ".join(one.cmdline()) for word in words)]
    return found


def killed(run: Run, *words: str) -> psutil.Process:
    """The same after a kill -9 of it."""
    found = process_of(run, *words)
    found.kill()
    assert remaining([found]) == []
    return found


def eventually(answer: Callable[[], Any], wanted: Any, seconds: float = 60) -> None:
    """Waits until an answer is the wanted one; requests may fail meanwhile."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < deadline:
        try:
            found = answer()
        except OSError as error:  # HTTP errors too
            found = error
        if found == wanted:
            return
        time.sleep(0.1)
    pytest.fail(f"still {found!r} after {seconds} s")


def test_database_that_is_killed_is_started_again_with_all_that_was_answered(run: Run) -> None:
    stored = run.request("POST", "/api/v1/customers", RECORD)

    killed(run, "postgres", "-D")

    eventually(lambda: run.request("GET", "/api/v1/customers"), [stored])
    stop(run)
    assert run.process.returncode == 0
    assert "PostgreSQL ended" in run.said
    assert "started again" in run.said
    assert run.said.count("\n") == 1, run.said


def test_local_s3_that_is_killed_is_started_again_and_takes_files(run: Run) -> None:
    lost = run.request("POST", "/api/v1/uploads", {"filename": "lost.csv"})

    killed(run, "local.s3")

    # It takes connections all the time, and answers when it is back: without the bucket at first.
    eventually(lambda: run.request("GET", f"/api/v1/uploads/{lost['id']}")["status"], "failed")
    upload = run.request("POST", "/api/v1/uploads", {"filename": "a.csv"})
    body = b"customer_id,name,email,source\n7,Ada,ada@example.com,hubspot\n"
    with urllib.request.urlopen(urllib.request.Request(upload["url"], method="PUT", data=body), timeout=30) as answer:
        assert answer.status == 200
    eventually(lambda: run.request("GET", f"/api/v1/uploads/{upload['id']}")["status"], "done")
    stop(run)
    assert run.process.returncode == 0
    assert "local S3 ended" in run.said
    assert run.said.count("\n") == 1, run.said


def test_database_that_can_not_be_started_again_ends_the_run_with_a_sentence(run: Run) -> None:
    processes = run.descendants()
    data = Path(run.printed["data"], "postgres18")
    (data / "PG_VERSION").rename(data / "PG_VERSION.gone")

    killed(run, "postgres", "-D")

    sentence = run.refusal()
    assert "PostgreSQL" in sentence
    assert remaining(processes, 0) == []


def test_matching_that_is_killed_leaves_no_process_and_after_a_restart_no_file(run: Run, folder: Path) -> None:
    customers = [
        {"customer_id": n, "name": f"Ann {n % 400:x} Ash", "email": f"ann{n}@example.com", "source": "hubspot"}
        for n in range(3_000)
    ]
    run.request("POST", "/api/v1/customers/bulk", {"customers": customers})
    begun = run.request("POST", "/api/v1/matching/runs", {"settings": {"methods": ["rules"]}})
    while not (files := [*folder.rglob("records.parquet"), *folder.rglob("match.duckdb")]):
        time.sleep(0.01)
    processes = run.descendants()
    assert len(processes) >= 5, "PostgreSQL, its watchdog, S3, and two environments"

    run.process.kill()
    run.process.communicate(timeout=30)

    assert remaining(processes) == []
    assert [path for path in files if path.exists()], "it was killed too late"
    again = Run(folder, run.port)
    try:
        again.wait_until_started()
        assert [path for path in files if path.exists()] == []
        eventually(partial(status, again, f"/api/v1/matching/runs/{begun['id']}"), "done", 300)
        # The run is done a moment before its function is.
        eventually(lambda: [path for path in (folder / "dedup-tmp").rglob("*") if path.is_file()], [])
    finally:
        stop(again)


def status(run: Run, path: str) -> str:
    return str(run.request("GET", path)["status"])


def ask_for_tasks(run: Run) -> dict[str, str]:
    """Asks for a task of each kind; where each is shown, and how it ends. What Java is needed for may not be here."""
    # As many records as a request does not delete itself, of few customers, so that they are quickly matched.
    customers = [
        {"customer_id": n, "name": f"Customer {n}", "email": f"c{n}@example.com", "source": "hubspot"}
        for n in range(100)
        for _ in range(201)
    ]
    run.request("POST", "/api/v1/customers", RECORD)
    upload = run.request("POST", "/api/v1/customers/bulk", {"customers": customers})["details"]["upload_id"]
    process_of(run, "local.s3").suspend()
    asked = [
        ("DELETE", f"/api/v1/uploads/{upload}", None, "deleted"),
        ("POST", "/api/v1/exports", {}, "done"),
        ("POST", "/api/v1/matching/runs", {"settings": {"methods": ["rules"]}}, "done"),
        ("POST", "/api/v1/deduplication/jobs", {"prefix": "incoming/nobody/"}, "failed"),
    ]
    # At the same time, since each request waits for the queue until its timeout.
    with ThreadPoolExecutor() as threads:
        answers = list(threads.map(lambda task: run.request(*task[:3]), asked))
    assert [answer["status"] for answer in answers[1:]] == ["waiting"] * 3
    return {
        path if method == "DELETE" else f"{path}/{answer['id']}": end
        for (method, path, _, end), answer in zip(asked, answers, strict=True)
    }


def test_tasks_that_wait_when_everything_is_killed_are_done_after_a_restart(run: Run, folder: Path) -> None:
    asked = ask_for_tasks(run)
    kill_everything(run)

    again = Run(folder, run.port)
    try:
        again.wait_until_started()
        for path, end in asked.items():
            eventually(partial(status, again, path), end, 120)
        assert again.request("GET", "/api/v1/deduplication/analyze")["total_records"] == 1
    finally:
        stop(again)


def test_tasks_that_are_asked_for_while_the_queues_are_down_are_done_when_they_are_back(run: Run) -> None:
    asked = ask_for_tasks(run)

    process_of(run, "local.s3").resume()

    for path, end in asked.items():
        eventually(partial(status, run, path), end, 120)
    assert run.request("GET", "/api/v1/deduplication/analyze")["total_records"] == 1


@pytest.mark.parametrize("mode", [0o755, 0o1777], ids=["a home", "a folder of everybody's"])
def test_data_folder_that_exists_keeps_its_mode_and_what_is_ours_in_it_is_private(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    started = Run(folder, free_port())
    try:
        started.wait_until_started()
        assert folder.stat().st_mode & 0o7777 == mode
        ours = [path for path in folder.iterdir() if path.is_dir() or "DB_PASSWORD" in path.read_text()]
        assert ours
        assert [path.name for path in ours if path.stat().st_mode & 0o077] == []
    finally:
        stop(started)


def test_temporary_folder_that_somebody_else_made_is_refused_in_a_sentence(folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    (folder / "dedup-tmp").symlink_to(theirs)

    assert f"{folder / 'dedup-tmp'} belongs to another user" in Run(folder, free_port()).refusal()
    assert list(theirs.iterdir()) == []


@pytest.mark.parametrize("module", ["local", "local.invoke"])
@pytest.mark.parametrize("below", ["", "data"], ids=["it is a file", "it is below a file"])
def test_data_folder_that_can_not_be_one_is_refused_in_a_sentence(tmp_path: Path, module: str, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("somebody's")
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | {"DEDUP_LOCAL_DIR": str(file / below), "PORT": str(free_port()), "FUNCTION": "Verify"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(file) in done.stderr
    assert "DEDUP_LOCAL_DIR" in done.stderr
    assert file.read_text() == "somebody's"


def test_place_of_the_database_is_printed_also_where_root_has_it_elsewhere(shared_run: Run) -> None:
    place = Path(shared_run.printed["data"])

    assert (place / "postgres18" / "PG_VERSION").exists()
    assert (place == shared_run.folder) == (os.geteuid() != 0)


def test_functions_can_be_invoked_beside_it_and_without_it(run: Run, folder: Path) -> None:
    run.request("POST", "/api/v1/customers", RECORD)
    found: dict[str, Any] = {"agreed": True, "records": 1, "customers": 1, "wrong_customers": 0, "wrong_regions": 0}
    found |= {"wrong_entities": 0, "wrong_entity_regions": 0, "wrong_changes": 0}

    assert found.items() <= invoke("Verify", folder).items()
    stop(run)
    assert found.items() <= invoke("Verify", folder).items()


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
