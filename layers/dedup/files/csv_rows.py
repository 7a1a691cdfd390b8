"""Reads CSV (RFC 4180) with a comma, semicolon, tab or pipe as delimiter."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Any

from dedup.customer_ids import CustomerId
from dedup.files.columns import is_known
from dedup.files.footer import count_candidates, count_footer_rows
from dedup.files.mapping import SAMPLE_CHARS, SAMPLE_ROWS, Cells, Layout, Mapper, sampled
from dedup.files.tables import MAX_EXCERPT, MAX_ROW, TOO_LONG, Table, reject
from dedup.files.text import first_line, lines_of
from dedup.files.values import meant_id
from dedup.records import OPTIONAL
from dedup.traces import addresses

_DELIMITERS = ",;\t|"
_OPTIONAL = {*OPTIONAL, "source"}
"""Fields whose cells may be missing at the end of a short row. If other cells are missing, the row was cut off."""

_SEP_LINE = re.compile(r'"?sep=(\t|[^\w\s"])"?\s*', re.IGNORECASE)
"""A line above the header that tells Excel the delimiter."""
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


def is_csv(head: str) -> bool:
    """Whether the file may be CSV: its first line has no binary characters."""
    return not _BINARY.search(first_line(head))


def _reader(lines: Iterable[str], delimiter: str) -> Any:
    # Strict, because the lenient reader silently returns wrong values if a quote inside a field is not doubled.
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def read_csv(texts: Iterator[str], mapper: Mapper) -> Iterator[Table]:
    """Yields the rows below the header, one table for each text. Raises NeedsMapping or Unreadable if the header lacks
    a required column."""
    blocks = lines_of(texts)
    lines, line = _filled([], 1, blocks)
    sep_line = _SEP_LINE.fullmatch(lines[0])
    if sep_line:
        lines, line = _filled(lines[1:], line + 1, blocks)
    delimiter, header, done = _header(lines, sep_line[1] if sep_line else _DELIMITERS)
    layout = mapper.layout(header, lambda: _sample(lines[done:], line + done, blocks, delimiter))
    while True:
        line += done
        lines = lines[done:]
        more = next(blocks, None)
        closed = more is None or _starts_too_long(more)
        table, done = _table(lines, line, delimiter, len(header), layout, closed, more is None)
        yield table
        if more is None:
            return
        # Not in place: the table has the list.
        lines = lines + more


def _sample(lines: list[str], line: int, blocks: Iterator[list[str]], delimiter: str) -> list[tuple[int, Cells]]:
    """Returns the first rows that are valid, with their line numbers. Consumes the file."""
    for more in blocks:
        if len(lines) >= SAMPLE_ROWS or sum(map(len, lines)) >= SAMPLE_CHARS:
            break
        lines = lines + more
    rows, spans, _, _ = _rows(lines[: 10 * SAMPLE_ROWS], delimiter, closed=True)
    found = ((line + begin, row) for row, (begin, _) in zip(rows, spans, strict=True) if any(map(str.strip, row)))
    return sampled(found)


def _filled(lines: list[str], line: int, blocks: Iterator[list[str]]) -> tuple[list[str], int]:
    """Returns the first block of lines that is not blank, from its first line that is not blank, and the number of that
    line in the file. `lines` is the current block, which starts at the file's line `line`."""
    for some in chain([lines], blocks):
        for at, text in enumerate(some):
            if text.strip():
                return some[at:], line + at
        line += len(some)
    return [], line


def _header(lines: Sequence[str], delimiters: str) -> tuple[str, list[str], int]:
    """Returns the delimiter, the cells of the header, and the number of lines up to the end of the header. The
    delimiter is the one that splits the header into most known columns."""

    def read_with(delimiter: str) -> tuple[str, list[str], int]:
        reader = _reader(lines, delimiter)
        try:
            return delimiter, next(row for row in reader if any(map(str.strip, row))), reader.line_num
        except (csv.Error, StopIteration):
            return delimiter, [], 0

    def count_known(header: Sequence[str]) -> int:
        return sum(map(is_known, header))

    return max(map(read_with, delimiters), key=lambda found: (count_known(found[1]), len(found[1])))


def _table(
    lines: list[str],
    line: int,
    delimiter: str,
    width: int,
    layout: Layout,
    closed: bool,
    last: bool,
) -> tuple[Table, int]:
    """Returns the rows that end in `lines`, and the number of lines that they take. `line` is the number of the first
    line in the file. Unless `closed`, a last row that may continue in the next block is left to be read again. So are
    rows that may be the footer of the file, unless the block is the `last`, whose footer is left out."""
    try:
        rows = list(_reader(lines, delimiter))
    except csv.Error:
        rows = []
    starts: Sequence[int] = range(len(lines))
    raws = lines
    errors: list[tuple[int, str]] = []
    done = len(lines)
    # A row has at least one line, so if the numbers are equal, each row has exactly one.
    if len(rows) != len(lines) or _starts_too_long(lines):
        rows, spans, errors, done = _rows(lines, delimiter, closed)
        starts = [begin for begin, _ in spans]
        raws = ["".join(lines[begin:end]) for begin, end in spans]
    left_out = count_footer_rows(rows) if last else 0 if closed else count_candidates(rows)
    if left_out:
        kept_rows = len(rows) - left_out
        done = done if last else starts[kept_rows]
        rows, starts, raws = rows[:kept_rows], starts[:kept_rows], raws[:kept_rows]
        errors = [error for error in errors if error[0] < done]
    rejected = [
        reject(line + at, "", reason, lines[at], *_traces(lines[at], lines[at][:MAX_EXCERPT].split(delimiter), layout))
        for at, reason in errors
    ]
    if {*map(len, rows)} - {width} or not all(map(any, rows)):
        reasons = [_misshapen(row, width, layout) for row in rows]
        rejected += [
            reject(line + at, "", reason, raw, *_traces(raw, row, layout), _kind_of_shape(row, width))
            for at, reason, raw, row in zip(starts, reasons, raws, rows, strict=True)
            if reason
        ]
        kept = [reason is None for reason in reasons]
        rows = [[*row, *[""] * (width - len(row))] for row in compress(rows, kept)]
        starts, raws = list(compress(starts, kept)), list(compress(raws, kept))
    return layout.table([line + at for at in starts], raws, rows, rejected), done


def _traces(raw: str, row: Sequence[str], layout: Layout) -> tuple[CustomerId | None, set[str]]:
    """Returns the customer id and the addresses in a row that does not have the header's shape. The id is read from its
    column, addresses from the whole row."""
    at = layout.id_position
    return meant_id(row[at]) if at is not None and at < len(row) else None, addresses(raw[:MAX_EXCERPT])


def _rows(
    lines: list[str], delimiter: str, closed: bool
) -> tuple[list[list[str]], list[tuple[int, int]], list[tuple[int, str]], int]:
    """Returns the rows, the lines (from, to) of each, the lines at which no row can start with the reasons, and the
    number of lines of all of them. It is slower than the csv module alone, because it restarts after each error."""
    rows: list[list[str]] = []
    spans: list[tuple[int, int]] = []
    errors: list[tuple[int, str]] = []
    at = base = 0
    if _starts_too_long(lines):
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
            errors.append((at, f"Not valid CSV: {_reason(error)}"))
            # Continue with the next line, not after the error: an unclosed quote would take valid rows with it.
            at += 1
            if end != at:
                base = at
                reader = _reader(_from(lines, at), delimiter)


def _starts_too_long(lines: Sequence[str]) -> bool:
    return any(len(line) > MAX_ROW for line in lines[:1])


def _from(lines: list[str], at: int) -> Iterable[str]:
    return map(lines.__getitem__, range(at, len(lines))) if at else lines


def _reason(error: csv.Error) -> str:
    reason = str(error)
    if reason == "unexpected end of data":
        return "a quote is not closed"
    return f"{reason} (is a quote not closed?)" if "limit" in reason else reason


def _misshapen(row: Sequence[str], width: int, layout: Layout) -> str | None:
    """Returns the reason why a row does not fit the header: None if it fits, empty if the row is blank."""
    if not any(map(str.strip, row)):
        return ""
    places = layout.positions.items()
    missing = [name for name, (position, *_) in places if position >= len(row) and name not in _OPTIONAL]
    if missing or any(map(str.strip, row[width:])):
        found = f"The row has {len(row)} fields, but the header has {width}"
        return f"{found}: no {' and '.join(missing)}" if missing else found
    return None


def _kind_of_shape(row: Sequence[str], width: int) -> str:
    return f"The row has {'fewer' if len(row) < width else 'more'} fields than the header"
