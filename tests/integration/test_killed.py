"""What a kill -9 leaves behind: no process that waits for ever, and no file with everybody's records."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("splink", reason="the jobs need what requirements-dev.txt has for them: splink, duckdb, pyarrow")

from jobs import BadInput, local_runner, scratch
from jobs.scratch import Scratch
from local.workers import Function, Workers
from tests.conftest import ROOT

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Python on a script, in a session of its own, with its temporary files in a folder of the test's."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'layers'}", "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for one in psutil.process_iter():
        # What outlived it after all.
        with contextlib.suppress(psutil.Error):
            if one.environ().get("TMPDIR") == str(tmp_path):
                one.kill()


def below(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout
    return [process.stdout.readline().strip() for _ in range(count)]


def left(processes: list[psutil.Process], seconds: float = 30) -> list[psutil.Process]:
    """Those that still run after so many seconds at most."""
    deadline = time.monotonic() + seconds
    while True:
        running = [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        if not running or time.monotonic() > deadline:
            return running
        time.sleep(0.05)


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


FORKS = """
import os, time
from jobs.matching.processes import in_processes
for pid in in_processes(lambda _: os.getpid(), range(100), 3):
    print(pid, flush=True)
    time.sleep(600)
"""
HOLDS = "import time; {}; print('held', flush=True); time.sleep(600)"
RUNS_A_JOB = "import sys; from jobs import local_runner; local_runner.run('matching', sys.argv[1:], 600)"
CLEARS = "from jobs import scratch; scratch.clear()"
WRITES = """from jobs.scratch import Scratch; from pathlib import Path; folder = Scratch('run-')
Path(folder.name, 'records.csv').write_text('Ann Ash'); print(folder.name)"""


def test_processes_of_a_job_that_is_killed_end_with_it(start: Start) -> None:
    process = start(FORKS)
    lines(process, 1)
    children = below(process.pid)
    assert len(children) == 3

    kill(process)

    assert left(children) == []


def blocked(tmp_path: Path) -> list[str]:
    """Arguments with which jobs.matching waits for settings that nobody writes."""
    fifo = tmp_path / "settings.json"
    os.mkfifo(fifo)
    return [str(ROOT / "samples" / "people.csv"), str(tmp_path / "out"), "--settings", str(fifo)]


def test_job_ends_with_the_function_that_started_it(start: Start, tmp_path: Path) -> None:
    process = start(RUNS_A_JOB, *blocked(tmp_path))
    while not list(tmp_path.glob("dedup-*/match-*")):
        assert process.poll() is None, "it ended before its job began"
        time.sleep(0.05)
    children = below(process.pid)
    assert children

    kill(process)

    assert left(children) == []
    assert list(tmp_path.glob("dedup-*/match-*")), "a process that is killed clears nothing up"
    # Processes that the job started after `children` was read end by themselves, a moment later.
    for _ in range(20):
        lines(start(HOLDS.format(CLEARS)), 1)
        if not list(tmp_path.glob("dedup-*/*")):
            break
        time.sleep(0.1)
    assert not list(tmp_path.glob("dedup-*/*"))


def test_job_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    assert local_runner.run("matching", blocked(tmp_path), 3) == "It took longer than the function's timeout"
    assert [one for one in below(os.getpid()) if "jobs.local_runner" in one.cmdline()] == []


def test_job_says_in_its_last_line_why_it_failed(tmp_path: Path) -> None:
    reason = local_runner.run("matching", [str(tmp_path / "records.doc"), str(tmp_path / "out")], 60)

    assert "records.doc: expected .csv" in str(reason)


HANDLER = """
import os, time
from pathlib import Path

def handler(event, context):
    child = os.fork()
    if child:
        Path(event["note"]).write_text(f"{os.getpid()} {child}")
    time.sleep(600)
"""


def test_function_over_its_time_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANDLER)
    note = tmp_path / "note"
    function = Function("Slow", str(tmp_path), "app.handler", timeout=-8)  # and ten seconds for its start
    workers = Workers({"Slow": function}, tmp_path / "log", tmp_path)

    answer = workers.invoke("Slow", f'{{"note": "{note}"}}'.encode())

    assert b"Timedout" in answer.payload
    processes = [psutil.Process(int(pid)) for pid in note.read_text().split() if psutil.pid_exists(int(pid))]
    assert left(processes) == []
    workers.close()


def test_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_another_stays(
    start: Start, tmp_path: Path
) -> None:
    killed, living = start(HOLDS.format(WRITES)), start(HOLDS.format(WRITES))
    [gone, _], [stays, _] = lines(killed, 2), lines(living, 2)
    assert Path(gone, "records.csv").read_text() == "Ann Ash"
    kill(killed)

    [own, _] = lines(start(HOLDS.format(WRITES)), 2)

    assert not Path(gone).exists()
    assert Path(stays, "records.csv").exists()
    assert Path(own, "records.csv").exists()
    assert {path.stat().st_mode & 0o077 for path in (Path(own), Path(own).parent)} == {0}


def test_folder_is_removed_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Scratch("run-") as folder:
        Path(folder, "records.csv").touch()
        scratch.clear()
        assert Path(folder, "records.csv").exists()
    assert not list(tmp_path.glob("dedup-*/*"))


def test_folder_that_another_user_made_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"dedup-{os.getuid()}").symlink_to(elsewhere)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(BadInput, match="set TMPDIR to a folder of your own"):
        Scratch("run-")
    assert not list(elsewhere.iterdir())
