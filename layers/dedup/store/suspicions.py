"""Why a snapshot may be a truncated or broken export: it removes many customers, or a field is missing in many rows."""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.differences import Comparison, customers_removed
from dedup.store.snapshots import count_differences, size_of_source
from dedup.store.staging import CONTENT

MIN_CUSTOMERS = 100
"""Customers of a source from which its snapshots are checked. In a small source, a few changes are a large share."""

MIN_VALUES = 20
"""Records with a value from which a field is checked, for the same reason."""

NEVER = 100
"""The share of customers, in per cent, that a snapshot may remove if nothing is checked: all of them."""


@dataclass(frozen=True)
class Suspicion:
    """What makes a snapshot suspicious. `removed`: how many customers it would remove, if these are too many, otherwise
    0; `fields`: those of which the share of records with a value would drop by more than half; `reason`: both in words
    and figures, empty if nothing is suspicious."""

    removed: int = 0
    fields: tuple[str, ...] = ()
    reason: str = ""


def find(connection: Connection, compared: Comparison, max_removed: int) -> Suspicion:
    """Returns what is suspicious about a file. `max_removed`: the share of its source's customers, in per cent, that a
    snapshot may remove. With NEVER, and if the file is no snapshot, nothing is suspicious."""
    if compared.source_bit is None or not compared.replaced or max_removed >= NEVER:
        return Suspicion()
    _, customers = size_of_source(connection, compared.source_bit)
    if customers < MIN_CUSTOMERS:
        return Suspicion()
    reasons = []
    most, (_, _, removed) = customers * max_removed / 100, count_differences(connection)
    if removed > most:
        removed = customers_removed(connection, compared)
    if many := removed > most:
        share = _percent(removed, customers, above=max_removed)
        reasons.append(f"The snapshot would remove {removed:,} of {customers:,} customers ({share})")
    dropped = _dropped(connection, compared)
    reasons += [
        f"{f'Only {now}' if now else 'None'} of its rows have a value in {field}, instead of {then}"
        for field, then, now in dropped
    ]
    return Suspicion(removed if many else 0, tuple(field for field, *_ in dropped), ". ".join(reasons))


def _dropped(connection: Connection, compared: Comparison) -> list[tuple[str, str, str]]:
    """The fields whose share of rows with a value drops by more than half, with this share before and after, which is
    empty if no row has a value."""
    counts = ", ".join(("count(*)", *(f"count({field})" for field in CONTENT)))
    [[records, *before]] = connection.run(f"SELECT {counts} FROM record WHERE {compared.replaced}")
    [[rows, *after]] = connection.run(f"SELECT {counts} FROM {compared.staged}")
    return [
        (field, _percent(then, records), _percent(now, rows) if now else "")
        for field, then, now in zip(CONTENT, before, after, strict=True)
        # The shares then / records and now / rows, without a division. A file without rows has no shares.
        if rows and then >= MIN_VALUES and 2 * now * records < then * rows
    ]


def _percent(part: int, whole: int, above: int = 0) -> str:
    """A share in per cent: with a decimal if it is small, or if it would look like the limit that it is above."""
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 or round(share) <= above < share else f"{share:.0f} %"
