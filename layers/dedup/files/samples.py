"""The rows of a file that are kept with the question about its columns, and the values that are shown of each."""

from collections.abc import Sequence

from dedup.files.tables import writable
from dedup.records import MAX_ATTRIBUTE

PREVIEW_ROWS = 10
"""Rows of a file with a question that a preview shows."""

_MOST_ROWS = 30
_SAMPLES = 3
"""Values that are shown of each column: further rows are kept for them, up to _MOST_ROWS."""

_MAX_KEPT = 200_000
"""Most characters of the rows that are kept."""


def chosen_rows(rows: Sequence[tuple[int, Sequence[str]]], width: int) -> list[tuple[int, list[str]]]:
    """Returns the rows that are kept, of `width` columns, with their lines: the first ones, and those with values of
    columns that have few."""
    chosen: list[tuple[int, list[str]]] = []
    seen: list[set[str]] = [set() for _ in range(width)]
    size = 0
    for number, (line, cells) in enumerate(rows):
        row = [writable(cell, MAX_ATTRIBUTE) for cell in cells[:width]]
        row += [""] * (width - len(row))
        new = [at for at, cell in enumerate(row) if cell.strip() and len(seen[at]) < _SAMPLES and cell not in seen[at]]
        size += sum(map(len, row))
        if size > _MAX_KEPT or len(chosen) >= _MOST_ROWS:
            break
        if number < PREVIEW_ROWS or new:
            chosen.append((line, row))
            for at in new:
                seen[at].add(row[at])
    return chosen


def samples_of(rows: Sequence[Sequence[str]], position: int) -> list[str]:
    """Returns up to three different values of a column."""
    values = (row[position].strip() for row in rows)
    return [writable(value, 200) for value in dict.fromkeys(filter(None, values))][:_SAMPLES]
