"""Bytes, plain or compressed with gzip or zstd, and no more of them than an honest file has."""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from dedup.files.tables import Unreadable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 20
"""Bytes of the decompressed file that are worked on at a time, and so about the size of one batch of rows."""

MAX_RATIO = 200
"""Bytes out for one byte in, once BOMB_FROM bytes are out. Exports reach 50; deflate ends at 1,032."""

BOMB_FROM = 50_000_000


class Stream(Protocol):
    """What is needed of a file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end only."""


class Counted:
    """A stream whose first bytes are known as `head`, and which counts the bytes taken from it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.taken = 0
        self.head = self._unread = _filled(stream, 8)

    def read(self, size: int = CHUNK, /) -> bytes:
        """As a Stream's."""
        given, self._unread = self._unread[:size], self._unread[size:]
        data = given or self._stream.read(size)
        self.taken += len(data)
        return data


def _filled(stream: Stream, size: int) -> bytes:
    """`size` bytes, fewer at the end only: a read from the network may give any number."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _gzip(stream: Any) -> Stream:
    return gzip.GzipFile(fileobj=stream, mode="rb")


def _zstd(stream: Any) -> Stream:
    return zstd.ZstdFile(stream, "r")


_COMPRESSIONS: tuple[tuple[bytes, Callable[[Any], Stream]], ...] = (
    (b"\x1f\x8b", _gzip),  # RFC 1952
    (b"\x28\xb5\x2f\xfd", _zstd),  # RFC 8878
    *((bytes([first]) + b"\x2a\x4d\x18", _zstd) for first in range(0x50, 0x60)),  # a skippable frame, as pzstd writes
)
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)


def decompressed(stream: Counted) -> Iterator[bytes]:
    """The file's own bytes by CHUNK. Raises Unreadable where the compression is damaged, or is a bomb."""
    opener = next((opener for magic, opener in _COMPRESSIONS if stream.head.startswith(magic)), None)
    file: Stream = opener(stream) if opener else stream
    size = 0
    while True:
        try:
            chunk = _filled(file, CHUNK)
        except _DAMAGED as error:
            raise Unreadable(f"its compression is damaged or cut off: {str(error)[:200]}") from None
        if not chunk:
            return
        size += len(chunk)
        if size > BOMB_FROM and size > MAX_RATIO * stream.taken:
            raise Unreadable(f"it expands to more than {MAX_RATIO} times its size, as no export does")
        yield chunk
