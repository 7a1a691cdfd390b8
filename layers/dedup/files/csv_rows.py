"""The rows of CSV (RFC 4180), with a comma, semicolon, tab or pipe between the fields."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress
from operator import itemgetter
from typing import Any

from dedup.files.columns import fields, first_told, is_known, more_emails
from dedup.files.tables import MAX_EXCERPT, MAX_ROW, TOO_LONG, Table, Unreadable, reject
from dedup.files.text import first_line, lines_of
from dedup.files.values import meant_id
from dedup.records import KNOWN
from dedup.traces import addresses

Places = Mapping[str, Sequence[int]]
"""The columns of each field, as columns.fields has them."""

_DELIMITERS = ",;\t|"
_LEFT_OUT = {*KNOWN, "source"}
"""Fields whose cells a row may leave out at its end: the others' are missing because it was cut off."""

_SAID = re.compile(r'"?sep=(\t|[^\w\s"])"?\s*', re.IGNORECASE)
"""A line above the header, by which Excel is told the delimiter."""
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def is_csv(head: str) -> bool:
    """Whether it may be CSV: its first line is text."""
    return not _BINARY.search(first_line(head))


def _reader(lines: Iterable[str], delimiter: str) -> Any:
    # Strict: the lenient reader makes a wrong value of a quote that was not doubled, and says nothing.
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def read_csv(texts: Iterator[str]) -> Iterator[Table]:
    """The rows below the header, those of a text at a time. Raises Unreadable where the header has not what is
    needed."""
    blocks = lines_of(texts)
    lines, line = _filled([], 1, blocks)
    said = _SAID.fullmatch(lines[0])
    if said:
        lines, line = _filled(lines[1:], line + 1, blocks)
    delimiter, header, done = _header(lines, said[1] if said else _DELIMITERS)
    places = fields(header)
    _require(places, header)
    others = more_emails(header, places)
    while True:
        line += done
        lines = lines[done:]
        more = next(blocks, None)
        closed = more is None or _begins_too_long(more)
        table, done = _table(lines, line, delimiter, len(header), places, others, closed)
        yield table
        if more is None:
            return
        lines += more


def _filled(lines: list[str], line: int, blocks: Iterator[list[str]]) -> tuple[list[str], int]:
    """`lines`, or the next of the blocks that has more than blank lines, from the first that isn't blank; and which of
    the file's lines that is, where `lines` begins with the file's line `line`."""
    for some in chain([lines], blocks):
        for at, text in enumerate(some):
            if text.strip():
                return some[at:], line + at
        line += len(some)
    return [], line


def _header(lines: Sequence[str], delimiters: str) -> tuple[str, list[str], int]:
    """Which of the delimiters it is, the first row that isn't blank, and how many lines it ends after."""

    def read_with(delimiter: str) -> tuple[str, list[str], int]:
        reader = _reader(lines, delimiter)
        try:
            return delimiter, next(row for row in reader if any(map(str.strip, row))), reader.line_num
        except (csv.Error, StopIteration):
            return delimiter, [], 0

    def ours(header: Sequence[str]) -> int:
        return sum(map(is_known, header))

    return max(map(read_with, delimiters), key=lambda found: (ours(found[1]), len(found[1])))


def _require(places: Places, header: Sequence[str]) -> None:
    named = "name" in places or {"first_name", "last_name"} <= places.keys()
    missing = [name for name in ("customer_id", "email") if name not in places]
    missing += [] if named else ["name (or first name and last name)"]
    if missing:
        # Without what it says: where a file has no header, this is somebody's row, and the reason is kept and sent on.
        width = f"{len(header)} columns" if len(header) > 1 else "one column" if header else "nothing"
        raise Unreadable(f"no usable header: no column for {' and '.join(missing)}; its first row has {width}")


def _table(
    lines: list[str], line: int, delimiter: str, width: int, places: Places, others: Sequence[int], closed: bool
) -> tuple[Table, int]:
    """The rows that end in `lines`, of which the first is the file's line `line`, and how many lines they are. The last
    row is left to be read again when it may go on after them: unless `closed`."""
    try:
        rows = list(_reader(lines, delimiter))
    except csv.Error:
        rows = []
    starts: Sequence[int] = range(len(lines))
    raws = lines
    errors: list[tuple[int, str]] = []
    done = len(lines)
    # A row takes a line or more: as many rows as lines are one on each.
    if len(rows) != len(lines) or _begins_too_long(lines):
        rows, spans, errors, done = _rows(lines, delimiter, closed)
        starts = [begin for begin, _ in spans]
        raws = ["".join(lines[begin:end]) for begin, end in spans]
    rejected = [
        reject(line + at, "", reason, lines[at], *_about(lines[at], lines[at][:MAX_EXCERPT].split(delimiter), places))
        for at, reason in errors
    ]
    if not (all(map(any, rows)) and all(map(width.__eq__, map(len, rows)))):
        reasons = [_misshapen(row, width, places) for row in rows]
        rejected += [
            reject(line + at, "", reason, raw, *_about(raw, row, places))
            for at, reason, raw, row in zip(starts, reasons, raws, rows, strict=True)
            if reason
        ]
        kept = [reason is None for reason in reasons]
        rows = [[*row, *[""] * (width - len(row))] for row in compress(rows, kept)]
        starts, raws = list(compress(starts, kept)), list(compress(raws, kept))
    columns = {
        name: first_told([list(map(itemgetter(place), rows)) for place in several]) for name, several in places.items()
    }
    spare = [[row[place] for place in others] for row in rows] if others else ()
    return Table([line + at for at in starts], raws, columns, rejected, spare), done


def _about(raw: str, row: Sequence[str], places: Places) -> tuple[int | None, set[str]]:
    """Whom a row is about that has not the header's shape: the id that is in its place, and the addresses in all of
    it, since these may be in any place."""
    [place] = places["customer_id"]
    return meant_id(row[place]) if place < len(row) else None, addresses(raw[:MAX_EXCERPT])


def _rows(
    lines: list[str], delimiter: str, closed: bool
) -> tuple[list[list[str]], list[tuple[int, int]], list[tuple[int, str]], int]:
    """The rows, the lines of each (from, to), the lines that no row can begin at with the reasons, and how many lines
    all of them are. Slower than csv alone."""
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    errors: list[tuple[int, str]] = []
    at = base = 0
    if _begins_too_long(lines):
        errors.append((0, TOO_LONG))
        at = base = 1
    reader = _reader(_from(lines, at), delimiter)
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
            errors.append((at, f"not a row of CSV: {_reason(error)}"))
            # With the next line, not with the one after the error: a quote left open would take good rows with it.
            at += 1
            if end != at:
                base = at
                reader = _reader(_from(lines, at), delimiter)


def _begins_too_long(lines: Sequence[str]) -> bool:
    return any(len(line) > MAX_ROW for line in lines[:1])


def _from(lines: list[str], at: int) -> Iterable[str]:
    return map(lines.__getitem__, range(at, len(lines))) if at else lines


def _reason(error: csv.Error) -> str:
    reason = str(error)
    if reason == "unexpected end of data":
        return "a quote is opened and not closed"
    return f"{reason}: is a quote left open?" if "limit" in reason else reason


def _misshapen(row: Sequence[str], width: int, places: Places) -> str | None:
    """Why a row can't be read by the header: None when it can, empty when there is nothing in it."""
    if not any(map(str.strip, row)):
        return ""
    missing = [name for name, (place, *_) in places.items() if place >= len(row) and name not in _LEFT_OUT]
    if missing or any(map(str.strip, row[width:])):
        found = f"{len(row)} fields where the header has {width}"
        return f"{found}: no {' and '.join(missing)}" if missing else found
    return None
