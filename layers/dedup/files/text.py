"""Decodes the text of a file, detecting its encoding, and splits it into lines."""

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from itertools import chain, repeat

from dedup.files.tables import MAX_ROW, Unreadable

_CONVERT = "Convert the file to CSV, JSON, NDJSON, xlsx or Parquet"
_RECOMPRESS = "Use gzip or zstd, or upload the file without compression"

_UNSUPPORTED: Mapping[bytes, str] = {
    b"\xd0\xcf\x11\xe0": "Workbooks with a password and those of Excel 97 to 2003 (xls) are not supported. Save the "
    "workbook as xlsx without a password, or as CSV",
    b"PK\x05\x06": "The file is an empty archive",
    b"%PDF": f"PDF documents are not supported. {_CONVERT}",
    b"\x89PNG": f"PNG images are not supported. {_CONVERT}",
    b"\xff\xd8\xff": f"JPEG images are not supported. {_CONVERT}",
    b"PARE": f"Encrypted Parquet files are not supported. {_CONVERT}",
    b"Obj\x01": f"Avro files are not supported. {_CONVERT}",
    b"SQLite format 3": f"SQLite databases are not supported. {_CONVERT}",
    b"BZh": f"Compression with bzip2 is not supported. {_RECOMPRESS}",
    b"\xfd7zXZ": f"Compression with xz is not supported. {_RECOMPRESS}",
    b"7z\xbc\xaf": "Archives (7z) are not supported. Upload the file inside the archive",
    b"\x1f\x8b": "The file is compressed twice. Compress it once",
    b"\x28\xb5\x2f\xfd": "The file is compressed twice. Compress it once",
}
"""The first bytes of files that are often uploaded by mistake, and the reason why each fails."""

_MARKS: tuple[tuple[bytes, str, str], ...] = (
    (codecs.BOM_UTF8, "utf-8", "surrogateescape"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "surrogatepass"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "surrogatepass"),
)
"""Byte order mark, its encoding, and the error handler that decodes invalid bytes as lone surrogates, so that their
rows can be found and rejected."""

_ESCAPED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\0-\x7f]")


def texts_of(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yields the text of bytes in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252. Raises Unreadable if the
    file is not text."""
    head = next(chunks, b"")
    unsupported = next((reason for magic, reason in _UNSUPPORTED.items() if head.startswith(magic)), None)
    if unsupported:
        raise Unreadable(unsupported)
    mark, encoding, errors = next((m for m in _MARKS if head.startswith(m[0])), (b"", "utf-8", "surrogateescape"))
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    decided = bool(mark)
    content = chain([head[len(mark) :]], chunks)
    for chunk, final in chain(zip(content, repeat(False)), [(b"", True)]):
        try:
            text = decoder.decode(chunk, final)
        except UnicodeDecodeError:
            raise Unreadable("The file ends in the middle of a character. It may be cut off") from None
        # The text before this was ASCII, which is the same in both encodings.
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
    """Yields lists of complete lines with their line ends (LF, CRLF or CR). A line longer than MAX_ROW is truncated,
    and is the first of its list."""
    rest = ""
    for text in texts:
        lines = list(io.StringIO(rest + text, newline=""))
        # The last line may continue in the next text, and so may its line end: a CR may be the first half of a CRLF.
        rest = lines.pop()
        if len(rest) > MAX_ROW:
            rest = rest[:MAX_ROW] + rest[-1]
        if lines:
            yield lines
    if rest:
        yield [rest]


def first_line(head: str) -> str:
    """Returns the first line that is not blank."""
    return re.split(r"[\r\n]", head.lstrip(), maxsplit=1)[0]
