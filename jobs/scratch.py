"""Folders for files that are in nobody's way afterwards, also after a kill -9: they hold everybody's records."""

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
    """A temporary folder that is removed at its end; and where its process is killed, by whoever needs one next.

    All are below one folder of this user's, in that for temporary files. Each is held by a lock, which the kernel drops
    with the process and those that it forked. Raises BadInput where that one folder is another user's."""

    def __init__(self, prefix: str) -> None:
        with _home() as home:
            _remove_abandoned(home)
            super().__init__(prefix=prefix, dir=home)
            self._held = os.open(self.name, os.O_RDONLY)
            fcntl.flock(self._held, fcntl.LOCK_SH)

    def cleanup(self) -> None:
        """Removes the folder and all that is in it."""
        super().cleanup()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def clear() -> None:
    """Removes what processes that were killed left behind. Raises BadInput."""
    with _home() as home:
        _remove_abandoned(home)


@contextmanager
def _home() -> Iterator[Path]:
    """The folder of the folders, for one process at a time: a folder that has no lock yet must not look abandoned."""
    home = Path(tempfile.gettempdir(), f"dedup-{os.getuid()}")
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BadInput(f"{home} belongs to somebody else: set TMPDIR to a folder of your own")
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
