"""`make attack` with few steps, so that the campaigns do not rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.conftest import ROOT


def attack(place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.attack"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'layers'}", "TMPDIR": str(place), "SEED": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def processes_of(place: Path) -> list[psutil.Process]:
    """Those that were told of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            told = " ".join([*process.cmdline(), *process.environ().values()])
        except psutil.Error:
            continue
        if str(place) in told:
            found.append(process)
    return found


def test_attack_with_few_steps_finds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    done = attack(tmp_path, STEPS="6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("nothing found") == 3
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_attack_that_finds_something_exits_with_1_and_says_what(tmp_path: Path) -> None:
    add = {"op": "add", "name": "u", "records": [["hubspot", 1, "Ann", "ann@example.com"]], "keyed": True}
    lie = {"op": "again", "of": "u"}
    unknown = {"op": "one", "name": "v", "records": [["nosuch", 1, "Ann", "ann@example.com"]], "keyed": False}
    history = tmp_path / "history.json"
    history.write_text(json.dumps([add, lie, unknown]))
    done = attack(tmp_path, REPLAY=str(history))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FOUND: POST customers: 422" in done.stdout
    history.unlink()
    assert list(tmp_path.iterdir()) == []
