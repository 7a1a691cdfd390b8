"""The laptop runtime: template.yaml served without Docker and without an AWS account. Start it with `make run`."""

import fcntl
import re
import sys
from pathlib import Path
from typing import TextIO

if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    raise SystemExit(f"Python 3.11 to 3.14 is needed; {sys.executable} is {sys.version.split()[0]}.")

ROOT = Path(__file__).resolve().parents[1]


class LocalError(Exception):
    """Something the person at the terminal has to change; its text is the one sentence that they need."""


def sample_event(function: str) -> Path:
    """The event in events/ that is named after a function: bulk_upload.json of BulkUpload."""
    return ROOT / "events" / f"{re.sub(r'(?<!^)(?=[A-Z])', '_', function).lower()}.json"


def lock(path: Path) -> TextIO | None:
    """Take the lock on `path` for as long as the file returned stays open; None when another process has it.

    The kernel drops it with the process, so that a kill -9 never leaves a lock behind.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
