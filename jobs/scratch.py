"""Temporary folders that are removed even after a kill -9, because they contain personal data."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs import BadInput


class Scratch(tempfile.TemporaryDirectory[str]):
    """A temporary folder. If its process is killed, the next process that makes one removes it.

    All of them are below one folder of the user, in the system's folder for temporary files. Each is locked; the
    kernel releases the lock when the process and its forks have ended. Raises BadInput if another user owns that one
    folder."""

    def __init__(self, prefix: str) -> None:
        with _home() as home:
            _remove_abandoned(home)
            super().__init__(prefix=prefix, dir=home)
            self._held = os.open(self.name, os.O_RDONLY)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def cleanup(self) -> None:
        """Removes the folder and its files."""
        super().cleanup()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def clear() -> None:
    """Removes the folders of killed processes. Raises BadInput."""
    with _home() as home:
        _remove_abandoned(home)


@contextmanager
def _home() -> Iterator[Path]:
    """The folder of all scratch folders, locked: a folder that another process has made but not yet locked must not
    look abandoned."""
    home = Path(tempfile.gettempdir(), f"dedup-{os.getuid()}")
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BadInput(f"{home} belongs to another user: set TMPDIR to a folder of your own")
    lock = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield home
    finally:
        os.close(lock)


def _remove_abandoned(home: Path) -> None:
    for folder in home.iterdir():
        with suppress(OSError):
            held = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)
