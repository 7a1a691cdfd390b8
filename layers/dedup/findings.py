"""What was found in the rows of a file: why rows were rejected, and warnings about accepted rows."""

from collections.abc import Iterator
from typing import NamedTuple


class Kind(NamedTuple):
    """What rows have in common that were rejected for the same reason, or have the same warning.

    `field` is empty for the row as a whole. `reason` contains no value of a row, because it is stored and sent in
    events. `missing` is true if the field has no value. `warning` is the code of a warning; empty if the rows were
    rejected."""

    field: str
    reason: str
    missing: bool = False
    warning: str = ""


class Finding(NamedTuple):
    """A kind, the number of its rows, and the line of the first."""

    kind: Kind
    rows: int
    example_line: int


class Findings:
    """How many rows there are of each kind. A row may be of several kinds."""

    def __init__(self) -> None:
        self._found: dict[Kind, Finding] = {}

    def __iter__(self) -> Iterator[Finding]:
        """Yields the findings, those with most rows first."""
        yield from sorted(self._found.values(), key=lambda found: (-found.rows, found.example_line, found.kind))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Findings) and self._found == other._found

    def add(self, kind: Kind, line: int, rows: int = 1) -> None:
        """Counts rows of a kind, of which the first is at `line`."""
        _, before, first = self._found.get(kind, Finding(kind, 0, line))
        self._found[kind] = Finding(kind, before + rows, min(first, line))

    def update(self, others: "Findings") -> None:
        """Adds the findings of other rows of the file."""
        for kind, rows, line in others:
            self.add(kind, line, rows)
