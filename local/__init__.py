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
    """An error that the user can fix. Its text is one sentence that says how."""


def sample_event(function: str) -> Path:
    """The path of a function's sample event: events/bulk_upload.json for BulkUpload."""
    return ROOT / "events" / f"{re.sub(r'(?<!^)(?=[A-Z])', '_', function).lower()}.json"


def lock(path: Path) -> TextIO | None:
    """Lock `path` until the returned file is closed. None if another process holds the lock.

    The kernel releases it with the process, so that a kill -9 leaves no lock behind.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
