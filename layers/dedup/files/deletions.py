"""Rows that are marked as deleted: the source no longer has the customer."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from dedup.files.further import Noticed
from dedup.files.tables import Table
from dedup.findings import Findings, Kind
from dedup.records import trimmed

FIELD = "deleted"
"""The field that a column with marks feeds."""

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"", "false", "f", "no", "n", "0"})
"""What marks a row as deleted, and what does not, in lower case."""

LEFT_OUT = Kind(FIELD, "The row is marked as deleted: it is left out", False, "deleted_row")
UNREADABLE_MARK = Kind(
    FIELD, "The mark of a deletion is neither true nor false: the row counts as not deleted", False, "unreadable_mark"
)

_KEPT = ("customer_id", "source", "modified_at")
"""The columns of a deleted row that count."""


def marks(values: Sequence[Any], noticed: Noticed) -> list[bool]:
    """Returns which rows are marked as deleted. The value of a row is a list if several columns have one: the row is
    marked if any of them says so."""
    marked = []
    for position, value in enumerate(values):
        written = {_mark(one) for one in (value if isinstance(value, list) else [value])}
        marked.append(not written.isdisjoint(TRUE))
        if not written <= TRUE | FALSE:
            noticed.append((position, UNREADABLE_MARK))
    return marked


def _mark(value: Any) -> str:
    if value is None or isinstance(value, str):
        return str(trimmed(value or "")).casefold()
    return str(int(value)) if value in (0, 1) else repr(value)


def without_deleted(table: Table) -> tuple[Table, int, Findings]:
    """Returns the table without the rows that are marked as deleted, how many these are, and what was noticed."""
    findings = Findings()
    if FIELD not in table.columns:
        return table, 0, findings
    noticed: Noticed = []
    marked = marks(table.columns[FIELD], noticed)
    for position, kind in noticed:
        if not marked[position]:
            findings.add(kind, table.lines[position])
    columns = {name: values for name, values in table.columns.items() if name != FIELD}
    if not any(marked):
        return replace(table, columns=columns), 0, findings
    for line in compress(table.lines, marked):
        findings.add(LEFT_OUT, line)
    stays = [not one for one in marked]

    def staying(values: Sequence[Any]) -> list[Any]:
        return list(compress(values, stays))

    live = replace(
        table,
        lines=staying(table.lines),
        rows=staying(table.rows),
        columns={name: staying(values) for name, values in columns.items()},
        more_emails=staying(table.more_emails),
        attributes=staying(table.attributes),
    )
    return live, sum(marked), findings


def emptied(
    table: Table, columns: Mapping[str, Sequence[Any]], marked: Sequence[bool]
) -> tuple[Table, dict[str, Sequence[Any]]]:
    """Returns a table and its columns in which rows that are marked have only the values that say which record is
    deleted, and when."""

    def blanked(values: Sequence[Any], blank: Any) -> list[Any]:
        return [blank if is_marked else value for value, is_marked in zip(values, marked, strict=True)]

    live = replace(table, attributes=blanked(table.attributes, {})) if table.attributes else table
    return live, {name: values if name in _KEPT else blanked(values, None) for name, values in columns.items()}
