"""A stream of bytes, as a CRM or a spreadsheet wrote it, made into records and rejected rows.

    bytes → decompressed → text → rows of a format → columns of our fields → records

Each arrow is a generator that holds about CHUNK of the file, whatever its size. What a record is, and why one is
refused, is said by records.py alone: whole columns are validated by Record's own types.
"""

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, compress, repeat
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, PydanticKnownError

from dedup.records import KNOWN, CustomerId, Email, Known, Name, Source, email_address, known_source, one_of
from dedup.settings import settings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 1 << 20
"""Bytes of the decompressed file that are worked on at a time, and so about the size of one batch of rows."""

MAX_ROW = 1 << 20
"""Characters of one row; a longer one is rejected. A field of CSV ends at 131,072 (csv.field_size_limit), the longest
text that Salesforce keeps."""
_TOO_LONG = f"the row is longer than {MAX_ROW:,} characters"

MAX_VALUE = 8 << 20
"""Characters of one value in a JSON document; at a longer one the document is given up, for it has no next line."""

MAX_EXCERPT = 10_000
"""Characters of a rejected row that are kept."""

MAX_RATIO = 200
"""Bytes out for one byte in, once BOMB_FROM bytes are out. Exports reach 50; deflate ends at 1,032."""

BOMB_FROM = 50_000_000


class Unreadable(Exception):
    """The file as a whole fails. Its text is the reason, for the user."""


class Stream(Protocol):
    """What is needed of a file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end only."""


class Rejected(NamedTuple):
    """A row that was refused. `line`: the physical line, from 1, on which it begins; in a JSON array its place, from 1.
    `field`: what was refused, empty for the row as a whole. `row`: as it came, MAX_EXCERPT characters at most."""

    line: int
    field: str
    reason: str
    row: str


Row = tuple[Any, ...]
"""What Record says of a row: customer_id, name, email, source, and the fields that its batch names."""


class Batch(NamedTuple):
    """What one CHUNK of the file held: the accepted rows, in the file's order, and the rejected ones. `bytes_read`: of
    the stream so far, which may be compressed. `known`: the fields of records.KNOWN that the rows have at their end.
    `faults`: in how many of the rejected rows a field was at fault, by its name and whether it was missing; the name is
    empty where the row could not be read."""

    rows: list[Row]
    rejected: list[Rejected]
    bytes_read: int
    known: tuple[str, ...] = ()
    faults: Mapping[tuple[str, bool], int] = MappingProxyType({})


def read(stream: Stream, source: str | None = None) -> Iterator[Batch]:
    """The rows of a CSV, JSON or NDJSON file, plain or compressed with gzip or zstd, as it is read.

    `source` is that of the rows that name none; a row that names another is rejected. A bad row stops no good one.
    Raises Unreadable where the file as a whole can't be used, possibly after rows were given: nothing of it should be
    kept then. Errors of the stream itself pass through."""
    if source is not None:
        try:
            known_source(source)
        except PydanticCustomError as error:
            raise Unreadable(f"the upload's source {_quoted(source)}: {error.message()}") from None
    counted = _Counted(stream)
    empty = True
    for table in _tables(_texts(_decompressed(counted))):
        rows, rejected, known, faults = _validated(table, source)
        if rows or rejected:
            empty = False
            yield Batch(rows, rejected, counted.taken, known, faults)
    if empty:
        raise Unreadable("there are no rows in it")


def read_whole(stream: Stream, source: str | None, size: int) -> Iterator[Batch]:
    """What `read` gives of a file of `size` bytes that is to be used whole or not at all.

    Raises Unreadable as well where that is more than settings().max_file_bytes, and where no row is accepted."""
    most = settings().max_file_bytes
    if size > most:
        raise Unreadable(f"The file has {size} bytes, and {most} are the most that is taken: split it")
    accepted = rejected = 0
    for batch in read(stream, source):
        accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
        yield batch
    if not accepted:
        raise Unreadable(f"None of the {rejected} rows could be accepted")


def rejected_csv(rejected: Iterable[Rejected]) -> Iterator[bytes]:
    """The lines of a CSV file (RFC 4180, UTF-8) of the rejected rows, its header first.

    The header begins with a byte order mark, without which Excel takes UTF-8 for Windows-1252. Where a spreadsheet,
    whatever its separator, would see a formula, an apostrophe stands before it (OWASP, CSV injection)."""
    yield csv_header(Rejected._fields)
    yield from map(csv_line, rejected)


def csv_header(names: Iterable[str]) -> bytes:
    """The first line of a CSV file that Excel reads as UTF-8."""
    return codecs.BOM_UTF8 + csv_line(names)


# A cell can begin at each separator: a program that splits at semicolons sees cells that we did not write. It matches
# whole runs of them, formula or not: else a row of line breaks only would take seconds.
_CELL_START = re.compile(r"""((?:^|[,;|\t\r\n])[,;|\s"']*+)([=+\-@＝＋－＠]?)""")


def csv_line(cells: Iterable[object]) -> bytes:
    """One line of a CSV file: every text in quotes, and none a formula. A number is none, also below zero."""
    return (
        ",".join([str(cell) if isinstance(cell, int) else _csv_text(str(cell)) for cell in cells]) + "\r\n"
    ).encode()


# What begins with no formula, holds no separator at which another cell could begin, and no quote: nearly every cell.
_PLAIN = re.compile(r"""(?:[^=+\-@＝＋－＠,;|\s"'][^,;|\t\r\n"]*+)?""")


def _csv_text(cell: str) -> str:
    if not _PLAIN.fullmatch(cell):
        cell = without_formula(cell).replace('"', '""')
    return f'"{cell}"'


def without_formula(cell: str) -> str:
    """The text with an apostrophe wherever a spreadsheet, whatever its separator, would begin a formula."""
    text = _CELL_START.sub(lambda start: f"{start[1]}'{start[2]}" if start[2] else start[1], cell)
    return f"'{text}" if text.startswith(("\t", "\r")) else text


# Bytes


class _Counted:
    """A stream whose first bytes are known as `head`, and which counts the bytes taken from it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.taken = 0
        self.head = self._unread = _filled(stream, 8)

    def read(self, size: int = CHUNK, /) -> bytes:
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


def _decompressed(stream: _Counted) -> Iterator[bytes]:
    """The file's own bytes by CHUNK."""
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


# Text

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
_NOT_OURS = "not CSV, JSON or NDJSON"

_MARKS: tuple[tuple[bytes, str, str], ...] = (
    (codecs.BOM_UTF8, "utf-8", "surrogateescape"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "surrogatepass"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "surrogatepass"),
)
"""Byte order mark, the encoding it tells, and how to let bytes that aren't in it through: as lone surrogates, by which
the rows that have them are found and rejected."""

_ESCAPED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\0-\x7f]")


def _texts(chunks: Iterator[bytes]) -> Iterator[str]:
    """The text, in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252."""
    head = next(chunks, b"")
    kind = next((kind for magic, kind in _NOT_TEXT.items() if head.startswith(magic)), None)
    if kind:
        raise Unreadable(f"it is {kind}, {_NOT_OURS}")
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


def _lines(texts: Iterator[str]) -> Iterator[list[str]]:
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


# Formats


@dataclass(frozen=True, slots=True)
class _Table:
    """Some rows of the file. `lines`, `rows` (as they came) and each column have one element for each."""

    lines: Sequence[int]
    rows: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    rejected: Sequence[Rejected] = ()


_COLUMNS: Mapping[str, Sequence[str]] = {
    "customer_id": ("customer id", "id", "record id"),
    "name": ("name", "full name"),
    "first_name": ("first name",),
    "last_name": ("last name",),
    "email": ("email", "email address"),
    "source": ("source",),
    "phone": ("phone", "phone number", "business phone", "mobile phone", "mobile phone number", "mobile"),
    "company": ("company", "company name", "account name", "associated company", "organization", "organisation"),
    "address": ("address", "street", "street address", "mailing street", "billing street"),
    "city": ("city", "mailing city", "billing city", "town"),
    "postcode": (
        "postcode",
        "postal code",
        "zip",
        "zip code",
        "mailing zip/postal code",
        "mailing postal code",
        "billing zip/postal code",
        "billing postal code",
        "zip/postal code",
    ),
    "country": ("country", "country/region", "mailing country", "billing country", "mailing country code"),
    "date_of_birth": ("date of birth", "birthdate", "birth date", "birthday", "dob"),
}
"""What each field is called by Salesforce, HubSpot and others. Case, spaces, hyphens and underscores don't count. Of a
field in KNOWN a file may have several: the first of these names counts."""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


_FIELD_OF = {_plain(alias): field for field, aliases in _COLUMNS.items() for alias in aliases}
_RANK = {_plain(alias): rank for aliases in _COLUMNS.values() for rank, alias in enumerate(aliases)}


def _fields(names: Sequence[str]) -> dict[str, int]:
    """The place in `names` of each field that they have. Raises Unreadable when two name one that every record has."""
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        known = _FIELD_OF.get(_plain(name))
        if known is None:
            continue
        if known not in found:
            found[known] = place
        elif known not in KNOWN:
            raise Unreadable(f"{_quoted(names[found[known]])} and {_quoted(name)} are both the {known}")
        elif _RANK[_plain(name)] < _RANK[_plain(names[found[known]])]:
            found[known] = place
    return found


def _tables(texts: Iterator[str]) -> Iterator[_Table]:
    head = next(texts, "")
    if not head.strip():
        raise Unreadable("it is empty")
    reader = next((reader for recognises, reader in _FORMATS if recognises(head)), None)
    if reader is None:
        raise Unreadable(f"it is {_NOT_OURS}" + (", or UTF-16 without a byte order mark" if "\0" in head else ""))
    return reader(chain([head], texts))


# CSV (RFC 4180)

_DELIMITERS = ",;\t|"
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def _is_csv(head: str) -> bool:
    return not _BINARY.search(_first_line(head))


def _first_line(head: str) -> str:
    return re.split(r"[\r\n]", head.lstrip(), maxsplit=1)[0]


def _csv_reader(lines: Iterable[str], delimiter: str) -> Any:
    # Strict: the lenient reader makes a wrong value of a quote that was not doubled, and says nothing.
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def _csv(texts: Iterator[str]) -> Iterator[_Table]:
    blocks = _lines(texts)
    line = 1
    for lines in blocks:
        if any(map(str.strip, lines)):
            break
        line += len(lines)
    delimiter, header, done = _csv_header(lines)
    places = _fields(header)
    _require(places, header)
    while True:
        line += done
        lines = lines[done:]
        more = next(blocks, None)
        closed = more is None or _begins_too_long(more)
        table, done = _csv_table(lines, line, delimiter, len(header), places, closed)
        yield table
        if more is None:
            return
        lines += more


def _csv_header(lines: Sequence[str]) -> tuple[str, list[str], int]:
    """The delimiter, the first row that isn't blank, and how many lines it ends after."""

    def read_with(delimiter: str) -> tuple[str, list[str], int]:
        reader = _csv_reader(lines, delimiter)
        try:
            return delimiter, next(row for row in reader if any(map(str.strip, row))), reader.line_num
        except (csv.Error, StopIteration):
            return delimiter, [], 0

    def ours(header: Sequence[str]) -> int:
        return sum(_plain(name) in _FIELD_OF for name in header)

    return max(map(read_with, _DELIMITERS), key=lambda found: (ours(found[1]), len(found[1])))


def _require(places: Mapping[str, int], header: Sequence[str]) -> None:
    named = "name" in places or {"first_name", "last_name"} <= places.keys()
    missing = [name for name in ("customer_id", "email") if name not in places]
    missing += [] if named else ["name (or first name and last name)"]
    if missing:
        found = ", ".join(map(_quoted, header[:20])) or "nothing"
        raise Unreadable(f"no usable header: no column for {' and '.join(missing)}; found {found}")


def _csv_table(
    lines: list[str], line: int, delimiter: str, width: int, places: Mapping[str, int], closed: bool
) -> tuple[_Table, int]:
    """The rows that end in `lines`, of which the first is the file's line `line`, and how many lines they are. The last
    row is left to be read again when it may go on after them: unless `closed`."""
    try:
        rows = list(_csv_reader(lines, delimiter))
    except csv.Error:
        rows = []
    starts: Sequence[int] = range(len(lines))
    raws = lines
    errors: list[tuple[int, str]] = []
    done = len(lines)
    # A row takes a line or more: as many rows as lines are one on each.
    if len(rows) != len(lines) or _begins_too_long(lines):
        rows, spans, errors, done = _csv_rows(lines, delimiter, closed)
        starts = [begin for begin, _ in spans]
        raws = ["".join(lines[begin:end]) for begin, end in spans]
    rejected = [_reject(line + at, "", reason, lines[at]) for at, reason in errors]
    if not (all(map(any, rows)) and all(map(width.__eq__, map(len, rows)))):
        reasons = [_misshapen(row, width) for row in rows]
        rejected += [
            _reject(line + at, "", reason, raw) for at, reason, raw in zip(starts, reasons, raws, strict=True) if reason
        ]
        kept = [reason is None for reason in reasons]
        rows, starts, raws = list(compress(rows, kept)), list(compress(starts, kept)), list(compress(raws, kept))
    columns = {name: list(map(itemgetter(place), rows)) for name, place in places.items()}
    return _Table([line + at for at in starts], raws, columns, rejected), done


def _csv_rows(
    lines: list[str], delimiter: str, closed: bool
) -> tuple[list[list[str]], list[tuple[int, int]], list[tuple[int, str]], int]:
    """The rows, the lines of each (from, to), the lines that no row can begin at with the reasons, and how many lines
    all of them are. Slower than csv alone."""
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    errors: list[tuple[int, str]] = []
    at = base = 0
    if _begins_too_long(lines):
        errors.append((0, _TOO_LONG))
        at = base = 1
    reader = _csv_reader(_from(lines, at), delimiter)
    while True:
        try:
            for row in reader:
                end = base + reader.line_num
                rows.append(row)
                spans.append((at, end))
                at = end
            return rows, spans, errors, at
        except csv.Error as error:
            end = base + reader.line_num
            if end == len(lines) and not closed and sum(map(len, lines[at:])) <= MAX_ROW:
                return rows, spans, errors, at
            errors.append((at, f"not a row of CSV: {_csv_reason(error)}"))
            # With the next line, not with the one after the error: a quote left open would take good rows with it.
            at += 1
            if end != at:
                base = at
                reader = _csv_reader(_from(lines, at), delimiter)


def _begins_too_long(lines: Sequence[str]) -> bool:
    return any(len(line) > MAX_ROW for line in lines[:1])


def _from(lines: list[str], at: int) -> Iterable[str]:
    return map(lines.__getitem__, range(at, len(lines))) if at else lines


def _csv_reason(error: csv.Error) -> str:
    reason = str(error)
    if reason == "unexpected end of data":
        return "a quote is opened and not closed"
    return f"{reason}: is a quote left open?" if "limit" in reason else reason


def _misshapen(row: Sequence[str], width: int) -> str | None:
    """Why a row can't be read by the header: None when it can, empty when there is nothing in it."""
    if not any(map(str.strip, row)):
        return ""
    if len(row) < width or any(map(str.strip, row[width:])):
        return f"{len(row)} fields where the header has {width}"
    return None


# JSON (RFC 8259) and NDJSON


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a value of JSON")


# Not strict about control characters in strings: Record refuses them, with the row that has them and not the file.
_JSON: Any = json.JSONDecoder(strict=False, parse_constant=_no_constant)
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


class _Document:
    """The text of a JSON document, read value by value."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._text = ""
        self._at = 0

    def next(self) -> str:
        """The character that the next token begins with, which is not taken. Empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it matches anything
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Takes the next token, one of the characters in `expected`."""
        found = self.next()
        if not found or found not in expected:
            raise Unreadable(
                f"not JSON: expected {one_of(tuple(expected))}, found {_quoted(found) if found else 'the end'}"
            )
        self._at += 1
        return found

    def value(self) -> tuple[Any, str]:
        """Takes the next value: what it is, and its text."""
        self.next()
        while True:
            begin = self._at
            try:
                value, end = _JSON.scan_once(self._text, begin)
            except (ValueError, RecursionError, StopIteration) as error:
                if len(self._text) - begin <= MAX_VALUE and self._more():
                    continue
                reason = "it is cut off, or not a value" if isinstance(error, StopIteration) else _json_reason(error)
                raise Unreadable(f"not JSON: {reason}") from None
            # A number that ends with the text may go on in the next.
            if end < len(self._text) or not self._more():
                self._at = end
                return value, self._text[begin:end]

    def items(self) -> Iterator[list[tuple[Any, str]]]:
        """Takes an array, about as many items at a time as are in one of the texts."""
        self.take("[")
        if self.next() == "]":
            self.take("]")
            return
        while True:
            items = self._whole_items()
            items.append(self.value())
            yield items
            if self.take(",]") == "]":
                return

    def _whole_items(self) -> list[tuple[Any, str]]:
        """Takes the items that a comma follows in this text."""
        self.next()
        items = []
        text, at, scan, comma = self._text, self._at, _JSON.scan_once, _COMMA.match
        try:
            while True:
                value, end = scan(text, at)
                if not (found := comma(text, end)):
                    break
                items.append((value, text[at:end]))
                at = found.end()
        except (ValueError, RecursionError, StopIteration):
            pass
        self._at = at
        return items

    def keys(self) -> Iterator[str]:
        """Takes an object, key by key: the caller takes the value after each."""
        self.take("{")
        if self.next() == "}":
            self.take("}")
            return
        while True:
            if self.next() != '"':
                self.take('"')
            key, _ = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def _more(self) -> bool:
        text = next(self._texts, "")
        self._text = self._text[self._at :] + text
        self._at = 0
        return bool(text)


def _is_json(head: str) -> bool:
    start = head.lstrip()
    return start.startswith("[") or (
        start.startswith("{") and (_first_line(head).strip() == "{" or _has_customers(head))
    )


def _has_customers(head: str) -> bool:
    document = _Document(iter([head]))
    try:
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if _plain(key) == "customers":
                return True
            document.value()
    except Unreadable:
        pass
    return False


def _is_ndjson(head: str) -> bool:
    return head.lstrip().startswith("{")


def _json(texts: Iterator[str]) -> Iterator[_Table]:
    document = _Document(texts)
    found = False
    if document.next() == "[":
        found = True
        yield from _json_tables(document)
    else:
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if _plain(key) == "customers" and document.next() == "[":
                found = True
                yield from _json_tables(document)
            else:
                document.value()
    if document.next():
        raise Unreadable("not JSON: it goes on after its end")
    if not found:
        raise Unreadable('there is no array "customers" in it')


def _json_tables(document: _Document) -> Iterator[_Table]:
    before = 0
    for items in document.items():
        yield _object_table([(place, item, row) for place, (item, row) in enumerate(items, before + 1)])
        before += len(items)


def _ndjson(texts: Iterator[str]) -> Iterator[_Table]:
    before = 0
    for lines in _lines(texts):
        items: list[tuple[int, Any, str]] = []
        rejected = []
        for line, row in enumerate(lines, before + 1):
            try:
                if row.strip():
                    items.append((line, _JSON.decode(row) if len(row) <= MAX_ROW else None, row))
            except (ValueError, RecursionError) as error:
                rejected.append(_reject(line, "", f"not JSON: {_json_reason(error)}", row))
        before += len(lines)
        yield _object_table(items, rejected)


def _object_table(items: Sequence[tuple[int, Any, str]], rejected: Sequence[Rejected] = ()) -> _Table:
    lines, rows, values, refused = [], [], [], list(rejected)
    for line, item, row in items:
        try:
            if len(row) > MAX_ROW:
                raise Unreadable(_TOO_LONG)
            if not isinstance(item, dict):
                raise Unreadable("Input should be an object")
            get = item.get
            values.append([get(key) for key in _object_keys(tuple(item))])
        except Unreadable as error:
            refused.append(_reject(line, "", str(error), row))
        else:
            lines.append(line)
            rows.append(row)
    columns = dict(zip(_COLUMNS, zip(*values, strict=True), strict=True)) if values else dict.fromkeys(_COLUMNS, ())
    return _Table(lines, rows, columns, refused)


@lru_cache(maxsize=32)
def _object_keys(keys: tuple[str, ...]) -> tuple[str | None, ...]:
    """The key of each field of _COLUMNS in an object with these keys."""
    places = _fields(keys)
    return tuple(keys[places[name]] if name in places else None for name in _COLUMNS)


Format = Callable[[Iterator[str]], Iterator[_Table]]

_FORMATS: tuple[tuple[Callable[[str], bool], Format], ...] = (
    (_is_json, _json),
    (_is_ndjson, _ndjson),
    (_is_csv, _csv),
)
"""By what a format is recognised in the first CHUNK of text, and what reads it. The first that says yes is taken."""


# Values


_Problems = defaultdict[int, list[tuple[str, str]]]
"""By the place of a row in its table: each field that is refused, and why."""


class _Refused(Exception):
    """A value that Record is not asked about, and why."""


_WRAPPED = re.compile(r"""="(.*)"|"(.*)"|'(.*?)'?""")
_ID_DIGITS = re.compile(r"-?[0-9]+")
_ID_GROUPED = re.compile(
    r"-?[1-9][0-9]{0,2}(?:([ \u00a0\u2009\u202f'’])[0-9]{3}(?:\1[0-9]{3})*|([.,])[0-9]{3}(?:\2[0-9]{3})+)"
)
_ID_DECIMAL = re.compile(r"(-?[0-9]+)[.,]0{1,2}")
_ID_REFUSED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+"),
        "scientific notation has lost digits: export the column as text or as a number without decimals",
    ),
    (
        re.compile(r"-?[0-9]{1,3}[.,][0-9]{3}"),
        "either a thousands separator or a decimal one: write the number without it",
    ),
    (
        re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?"),
        "an id of letters and digits, as Salesforce makes them, is not a whole number: export your own customer number",
    ),
)
_EXACT = 2**53
"""Up to here a 64-bit floating-point number (IEEE 754) is exact; a larger one with a decimal point has lost digits."""


def _customer_id(value: Any) -> Any:
    """A customer_id as spreadsheets write it, as the whole number it says; what else it is, for Record to judge.

    Raises _Refused where it could mean two numbers or none."""
    if isinstance(value, float) and value.is_integer():
        return _exact(int(value))
    if not isinstance(value, str):
        return value
    if wrapped := _WRAPPED.fullmatch(value):
        value = "".join(filter(None, wrapped.groups())).strip()
    if not value:
        return None
    if len(value) <= 64:
        if _ID_DIGITS.fullmatch(value):
            return int(value)
        if _ID_GROUPED.fullmatch(value):
            return int(re.sub(r"[^0-9-]", "", value))
        if decimal := _ID_DECIMAL.fullmatch(value):
            return _exact(int(decimal[1]))
    raise _Refused(
        next((reason for form, reason in _ID_REFUSED if form.fullmatch(value)), "Input should be a whole number")
    )


def _exact(number: int) -> int:
    if abs(number) > _EXACT:
        raise _Refused("a decimal number of this size has lost digits: export the column as text")
    return number


def _customer_ids(values: Sequence[Any], problems: _Problems) -> list[Any]:
    if {*map(type, values)} == {int}:
        return list(values)
    try:
        digits = "".join(values)
        if digits.isascii() and digits.isdigit() and all(values) and max(map(len, values)) <= 64:
            return list(map(int, values))
    except TypeError:
        pass
    return _converted("customer_id", _customer_id, values, 0, problems)


def _sources(values: Sequence[Any], given: str | None, problems: _Problems) -> list[Any]:
    """The source of each row: `given` to those that name none. Refused is another, and none where none is given."""

    def convert(value: Any) -> Any:
        name = value.lower() if isinstance(value, str) else value
        if name in (None, ""):
            if given is None:
                raise _Refused("neither the row nor the upload names a source")
            return given
        if given is not None and name != given:
            raise _Refused(f"{_quoted(str(value))} contradicts the upload's source {given!r}")
        return name

    return _converted("source", convert, values, settings().sources[0], problems)


def _converted(
    name: str, convert: Callable[[Any], Any], values: Sequence[Any], stand_in: Any, problems: _Problems
) -> list[Any]:
    """The values as `convert` makes them; for those that it refuses `stand_in`, which Record accepts."""
    converted = []
    for place, value in enumerate(values):
        try:
            converted.append(convert(value))
        except _Refused as refused:
            problems[place].append((name, str(refused)))
            converted.append(stand_in)
    return converted


def _full_names(columns: Mapping[str, Sequence[Any]], count: int) -> Sequence[Any]:
    """The names; where there is none, first and last name."""
    nothing = [None] * count
    first, last = columns.get("first_name", nothing), columns.get("last_name", nothing)
    names = columns.get("name", nothing)
    if not any(first) and not any(last):
        return names
    return [name or _joined(*parts) or name for name, *parts in zip(names, first, last, strict=True)]


def _joined(*parts: Any) -> Any:
    filled = [part for part in parts if part]
    try:
        return " ".join(filled)
    except TypeError:
        return filled


def _trimmed(values: Sequence[Any]) -> list[Any]:
    try:
        return list(map(str.strip, values))
    except TypeError:
        return [value.strip() if isinstance(value, str) else value for value in values]


# Records

_TYPES: Mapping[str, TypeAdapter[list[Any]]] = {
    "customer_id": TypeAdapter(list[CustomerId]),
    "name": TypeAdapter(list[Name]),
    "email": TypeAdapter(list[Email]),
    "source": TypeAdapter(list[Source]),
    **dict.fromkeys(KNOWN, TypeAdapter(list[Known])),
}
_MISSING = PydanticKnownError("missing").message()
_ONE_LINE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def _known(name: str, values: Sequence[Any], problems: _Problems) -> list[Any]:
    """The values of a field of KNOWN, each on one line; a number in JSON is as good as its digits."""
    told = [str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values]
    try:
        if "".join(filter(None, told)).isprintable():
            return _checked(name, told, problems)
    except TypeError:
        pass
    return _checked(name, [_ONE_LINE.sub(" ", v).strip() if isinstance(v, str) else v for v in told], problems)


def _validated(
    table: _Table, given: str | None
) -> tuple[list[Row], list[Rejected], tuple[str, ...], Counter[tuple[str, bool]]]:
    count = len(table.lines)
    columns = {name: _trimmed(values) for name, values in table.columns.items() if name not in KNOWN or any(values)}
    if given is None and "source" not in columns:
        raise Unreadable("no column for source, and the upload names none")
    problems: _Problems = defaultdict(list)
    _find_damage(table.rows, problems)
    ids = _checked("customer_id", _customer_ids(columns["customer_id"], problems), problems)
    named = _full_names(columns, count)
    names = _checked("name", named, problems)
    emails = _emails(columns["email"], problems)
    if "source" in columns:
        sources = _checked("source", _sources(columns["source"], given, problems), problems)
    else:
        sources = [given] * count
    known = tuple(name for name in KNOWN if name in columns)
    more = [_known(name, columns[name], problems) for name in known]

    rejected = list(table.rejected)
    faults = Counter({("", False): len(rejected)} if rejected else {})
    came = {**columns, "name": named}
    for place, found in problems.items():
        faults.update({(name, name in came and came[name][place] in (None, "")) for name, _ in found})
        fields = ", ".join(dict.fromkeys(name for name, _ in found if name))
        reason = "; ".join(reason for _, reason in found)
        rejected.append(_reject(table.lines[place], fields, reason, table.rows[place]))
    rejected.sort(key=lambda row: row.line)
    rows: Iterator[Row] = zip(ids, names, emails, sources, *more, strict=True)
    kept = list(compress(rows, [place not in problems for place in range(count)]) if problems else rows)
    return kept, rejected, known, faults


# At a domain that is accepted unchanged every address of this form is, which the tests prove. Role names (Info@) have
# only letters, and are put in lower case.
_PLAIN_LOCAL = re.compile(r"(?=.{1,64}\Z)(?:[a-z]+|(?=.*[0-9_+.-])[A-Za-z0-9_+-]++(?:\.[A-Za-z0-9_+-]++)*)\Z")
_PLAIN_DOMAIN_LENGTH = 254 - 65


def _emails(values: Sequence[Any], problems: _Problems) -> list[Any]:
    """As _checked, and three times as fast: most addresses share a domain with others, which is validated once."""
    try:
        parts = [value.rpartition("@") for value in values]
    except AttributeError:
        return _checked("email", values, problems)
    plain = {domain for domain in {domain for local, _, domain in parts if local} if _is_plain_domain(domain)}
    is_plain = _PLAIN_LOCAL.match
    others = [at for at, (local, _, domain) in enumerate(parts) if domain not in plain or not is_plain(local)]
    if not others:
        return list(values)
    emails = list(values)
    found: _Problems = defaultdict(list)
    for at, email in zip(others, _checked("email", [values[at] for at in others], found), strict=True):
        emails[at] = email
    for place, reasons in found.items():
        problems[others[place]] += reasons
    return emails


def _is_plain_domain(domain: str) -> bool:
    address = f"a@{domain}"
    try:
        return len(domain) <= _PLAIN_DOMAIN_LENGTH and email_address(address) == address
    except ValueError:  # PydanticCustomError is one, and so is an encoding's
        return False


def _checked(name: str, values: Sequence[Any], problems: _Problems) -> list[Any]:
    """The values as Record has them, and None for those that it refuses."""
    validate = _TYPES[name].validate_python
    try:
        return validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    refused = {int(e["loc"][0]): e["msg"] for e in errors}
    for place, reason in refused.items():
        problems[place].append((name, _MISSING if values[place] is None else reason))
    good = iter(validate([value for place, value in enumerate(values) if place not in refused]))
    return [None if place in refused else next(good) for place in range(len(values))]


_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _find_damage(rows: Sequence[str], problems: _Problems) -> None:
    """Finds rows with a NUL, or with bytes that are not in the file's encoding."""
    text = "".join(rows)
    try:
        text.encode()  # faster than a search
        if "\0" not in text:
            return
    except UnicodeEncodeError:
        pass
    for place, row in enumerate(rows):
        if found := _UNWRITABLE.search(row):
            reason = "a NUL character" if found[0] == "\0" else "bytes that are not in the encoding of the file"
            problems[place].append(("", reason))


def _reject(line: int, field: str, reason: str, row: str) -> Rejected:
    return Rejected(line, field, _writable(reason, 1_000), _writable(row.rstrip("\r\n"), MAX_EXCERPT))


def _writable(text: str, limit: int) -> str:
    """At most `limit` characters of the text, and none that UTF-8 or PostgreSQL can't hold."""
    return _UNWRITABLE.sub("\ufffd", text if len(text) <= limit else text[: limit - 1] + "…")


def _quoted(text: str) -> str:
    return repr(_writable(text, 60))
