"""Reads the optional fields of a record that are more than one text. A value that cannot be used rejects no row: it is
noticed."""

from collections.abc import Sequence
from typing import Any

from dedup.findings import Kind
from dedup.moments import Ambiguous, Column

Noticed = list[tuple[int, Kind]]
"""What was noticed about rows, by their position in the table."""

UNREADABLE_TIME = Kind(
    "modified_at",
    "The time of the last change cannot be read: it is not stored. Write it as 2024-01-16T10:22:33Z",
    False,
    "unreadable_time",
)
AMBIGUOUS_TIME = Kind(
    "modified_at",
    "The day and the month of the last change cannot be told apart: it is not stored. Write it as 2024-01-16T10:22:33Z",
    False,
    "ambiguous_time",
)


def modified(values: Sequence[Any], column: Column, noticed: Noticed) -> list[str | None]:
    """Returns the times of the last changes in UTC; None for those that are unknown. `values` are stripped of white
    space."""
    texts = [_text_of(value) for value in values]
    column.learn(text for text in texts if text)
    read: list[str | None] = []
    for position, text in enumerate(texts):
        moment = None
        try:
            moment = column.read(text) if text else None
        except Ambiguous:
            noticed.append((position, AMBIGUOUS_TIME))
        except ValueError:
            noticed.append((position, UNREADABLE_TIME))
        read.append(moment)
    return read


def _text_of(value: Any) -> str:
    """Returns the text of a value; `true`, lists and objects of JSON become a text that is no point in time."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
