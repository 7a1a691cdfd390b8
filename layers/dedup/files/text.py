"""The text of a file, whichever encoding it is in, and its lines."""

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain, repeat

from dedup.files.tables import MAX_ROW, Unreadable

_NOT_TEXT: Mapping[bytes, str] = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "compressed twice",
    b"\x28\xb5\x2f\xfd": "compressed twice",
}
NOT_OURS = "not CSV, JSON or NDJSON"

_MARKS: tuple[tuple[bytes, str, str], ...] = (
    (codecs.BOM_UTF8, "utf-8", "surrogateescape"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "surrogatepass"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "surrogatepass"),
)
"""Byte order mark, the encoding it tells, and how to let bytes that aren't in it through: as lone surrogates, by which
the rows that have them are found and rejected."""

_ESCAPED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\0-\x7f]")


def texts_of(chunks: Iterator[bytes]) -> Iterator[str]:
    """The text of bytes in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252. Raises Unreadable."""
    head = next(chunks, b"")
    kind = next((kind for magic, kind in _NOT_TEXT.items() if head.startswith(magic)), None)
    if kind:
        raise Unreadable(f"it is {kind}, {NOT_OURS}")
    mark, encoding, errors = next((m for m in _MARKS if head.startswith(m[0])), (b"", "utf-8", "surrogateescape"))
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    decided = bool(mark)
    pieces = chain([head[len(mark) :]], chunks)
    for chunk, final in chain(zip(pieces, repeat(False)), [(b"", True)]):
        try:
            text = decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise Unreadable("it ends in the middle of a character") from None
        # What was given before this was ASCII, the same in both encodings.
        if not decided and not text.isascii():
            decided = True
            escaped = len(_ESCAPED.findall(text))
            if escaped > len(_BEYOND_ASCII.findall(text)) - escaped:
                data = text.encode("utf-8", "surrogateescape") + decoder.getstate()[0]
                decoder = codecs.getincrementaldecoder("cp1252")("surrogateescape")
                text = decoder.decode(data, final)
        if text:
            yield text


def lines_of(texts: Iterator[str]) -> Iterator[list[str]]:
    """Whole lines with their ends (LF, CRLF or CR), many at a time. One that is longer than MAX_ROW comes cut, and is
    the first of its list."""
    rest = ""
    for text in texts:
        lines = list(io.StringIO(rest + text, newline=""))
        # The last line may go on in the next text, and so may its end: CR there can be the half of CRLF.
        rest = lines.pop()
        if len(rest) > MAX_ROW:
            rest = rest[:MAX_ROW] + rest[-1]
        if lines:
            yield lines
    if rest:
        yield [rest]


def first_line(head: str) -> str:
    """The first line that has more than white space."""
    return re.split(r"[\r\n]", head.lstrip(), maxsplit=1)[0]
