"""Decompresses gzip and zstd, and stops decompression bombs."""

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
"""Bytes of the decompressed file in one batch of rows."""

MAX_RATIO = 200
"""Most decompressed bytes for one compressed byte, applied from BOMB_FROM decompressed bytes on. Exports of CRMs reach
50; the maximum of deflate is 1,032."""

BOMB_FROM = 50_000_000


class Stream(Protocol):
    """A readable stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; empty only at the end."""


class Counted:
    """A stream that counts the bytes read from it. `head` has its first bytes, which read() returns again."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.taken = 0
        self.head = self._unread = _filled(stream, 8)

    def read(self, size: int = CHUNK, /) -> bytes:
        """Returns at most `size` bytes; empty only at the end."""
        given, self._unread = self._unread[:size], self._unread[size:]
        data = given or self._stream.read(size)
        self.taken += len(data)
        return data


def _filled(stream: Stream, size: int) -> bytes:
    """Reads `size` bytes, or fewer at the end. A single read from the network may return any number."""
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
    """Yields the decompressed bytes in chunks of CHUNK bytes. Raises Unreadable if the compression is damaged, or if
    the file is a decompression bomb."""
    opener = next((opener for magic, opener in _COMPRESSIONS if stream.head.startswith(magic)), None)
    file: Stream = opener(stream) if opener else stream
    size = 0
    while True:
        try:
            chunk = _filled(file, CHUNK)
        except _DAMAGED as error:
            raise Unreadable(f"The compression is damaged or cut off: {str(error)[:200]}") from None
        if not chunk:
            return
        size += len(chunk)
        if size > BOMB_FROM and size > MAX_RATIO * stream.taken:
            raise Unreadable(f"The file expands to more than {MAX_RATIO} times its size. Upload it without compression")
        yield chunk
