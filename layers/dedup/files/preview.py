"""Shows how the rows of a question would be read with a mapping."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dedup.files.checks import Times, validated
from dedup.files.deletions import without_deleted
from dedup.files.mapping import Cells, ColumnMapping, layout_of
from dedup.files.samples import PREVIEW_ROWS
from dedup.files.tables import Rejected


class Preview(NamedTuple):
    """The first records as they would be stored, by field, and the first rows that would be rejected."""

    records: list[Mapping[str, Any]]
    rejected: list[Rejected]


def preview(
    names: Sequence[str],
    rows: Sequence[tuple[int, Cells]],
    mapping: ColumnMapping,
    source: str | None,
    *,
    strict: bool = False,
) -> Preview:
    """Reads the first rows of a file that needs a mapping, as they would be stored. `names` are its columns, `source`
    is the source of rows without one, and `strict` that of FileOptions. All rows decide about the order of dates. Rows
    that are marked as deleted are no records. Raises Unreadable if the mapping does not fit."""
    layout = layout_of(mapping, names, names, strict=True)
    cells = [row for _, row in rows]
    whole = layout.table([line for line, _ in rows], [" ".join(row) for row in cells], cells)
    times = Times.of(layout.rules.date_order)
    times.births.decided_by(whole.columns.get("date_of_birth", ()))
    # The order of the last changes is decided by the rows that were read before.
    validated(without_deleted(whole)[0], source, times, strict=strict)
    shown = layout.table(whole.lines[:PREVIEW_ROWS], whole.rows[:PREVIEW_ROWS], cells[:PREVIEW_ROWS])
    accepted, rejected, known, _ = validated(without_deleted(shown)[0], source, times, strict=strict)
    fields = ("customer_id", "name", "email", "source", *known)
    return Preview([dict(zip(fields, row, strict=True)) for row in accepted], rejected)
