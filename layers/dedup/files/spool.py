"""Temporary copies of files that cannot be read front to back: their index is at their end."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import IO

from dedup.files.tables import Unreadable


@contextmanager
def spooled(chunks: Iterator[bytes]) -> Iterator[IO[bytes]]:
    """A temporary file with the content of `chunks`, deleted at the end. Raises Unreadable if it does not fit."""
    with NamedTemporaryFile(prefix="dedup-") as file:
        for chunk in chunks:
            # Only writing is guarded: errors of the stream itself are not caught.
            write(file, chunk)
        file.seek(0)
        yield file


def write(file: IO[bytes], data: bytes) -> None:
    """Appends to a temporary file. Raises Unreadable if it does not fit."""
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise Unreadable("The file does not fit into the temporary storage. Split it, or save it as CSV") from None
