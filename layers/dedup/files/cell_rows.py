"""Makes tables of rows of cells, for formats that have cells instead of text: workbooks and Parquet."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time
from itertools import compress, islice
from types import SimpleNamespace

from dedup.files import compression, footer
from dedup.files.compression import BOMB_FROM, MAX_RATIO
from dedup.files.mapping import Mapper, sampled
from dedup.files.tables import MAX_EXCERPT, MAX_ROW, TOO_LONG, Table, Unreadable, reject
from dedup.files.values import INEXACT, meant_id
from dedup.traces import addresses

Cell = str | float
"""The text of a cell as a CSV file would have it. A float is a number that may have lost digits, for `values` to
refuse."""

Rows = Iterable[tuple[int, list[Cell]]]
"""Rows with their number in the file, from 1."""

_MAX_ROWS = 10_000
"""Most rows of a table, whatever their length."""


def number(text: str) -> Cell:
    """The cell of a floating-point number: 123 for 123.0 and for 1.23E+2. Numbers from 2**53 on stay floats."""
    if len(text) < 16 and text.isdigit():
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    if not abs(value) < INEXACT:
        return value
    return str(int(value)) if value.is_integer() else repr(value)


def moment(value: datetime) -> str:
    """A point in time in ISO 8601; at midnight only its date, because most systems have no other type for dates."""
    return value.date().isoformat() if value.time() == time.min else value.isoformat(timespec="seconds")


def tables_of_cells(header: Sequence[Cell], rows: Rows, size: int, mapper: Mapper) -> Iterator[Table]:
    """Yields tables of about compression.CHUNK characters. `size` is that of the file, in bytes. Raises NeedsMapping or
    Unreadable if the header lacks a required column, and Unreadable if the rows are a decompression bomb."""
    rows = iter(rows)
    layout = mapper.layout(header, lambda: sampled(row for row in rows if not is_blank(row[1])))
    width, total = len(header), 0
    for lines, block in _blocks(rows, width):
        raws: list[str] = []
        csv.writer(SimpleNamespace(write=raws.append), lineterminator="").writerows(block)
        total += sum(map(len, raws))
        if total > BOMB_FROM and total > MAX_RATIO * size:
            raise Unreadable(f"The file expands to more than {MAX_RATIO} times its size. Save it as CSV")
        rejected = []
        if max(map(len, raws)) > MAX_ROW:
            short = [len(raw) <= MAX_ROW for raw in raws]
            at = layout.id_position
            rejected = [
                reject(line, "", TOO_LONG, raw, None if at is None else meant_id(row[at]), addresses(raw[:MAX_EXCERPT]))
                for line, raw, row, is_short in zip(lines, raws, block, short, strict=True)
                if not is_short
            ]
            lines, raws = list(compress(lines, short)), list(compress(raws, short))
            block = list(compress(block, short))
        yield layout.table(lines, raws, block, rejected)


def _blocks(rows: Rows, width: int) -> Iterator[tuple[list[int], list[list[Cell]]]]:
    """Collects rows, cut or filled to `width` cells. Cells beyond the header have no column, and blank rows are
    skipped."""
    lines: list[int] = []
    block: list[list[Cell]] = []
    length = 0
    for line, cells in _without_footer(rows):
        row = cells[:width] if len(cells) >= width else [*cells, *[""] * (width - len(cells))]
        if not is_blank(row):
            lines.append(line)
            block.append(row)
            length += len("".join(map(str, row)))
            if length >= compression.CHUNK or len(block) >= _MAX_ROWS:
                yield lines, block
                lines, block, length = [], [], 0
    if block:
        yield lines, block


def _without_footer(rows: Rows) -> Rows:
    """Leaves out the footer of a Salesforce report. Rows that may belong to one are held back."""
    held: deque[tuple[int, list[Cell]]] = deque()
    for row in rows:
        if not is_blank(row[1][1:]):
            yield from held
            held.clear()
            yield row
            continue
        held.append(row)
        if len(held) > footer.MAX_ROWS:
            yield held.popleft()
    found = footer.count_footer_rows([[str(cell).strip() for cell in cells] for _, cells in held])
    yield from islice(held, len(held) - found)


def is_blank(cells: Iterable[Cell]) -> bool:
    """Whether no cell has more than white space."""
    return not any(isinstance(cell, float) or cell.strip() for cell in cells)
