"""The columns of the optional fields of a record: their types, and how values are written to and read from them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dedup.records import FURTHER, KNOWN
from dedup.store.sql import iso

TYPES: Mapping[str, str] = {**dict.fromkeys(KNOWN, "text"), "modified_at": "timestamptz"}
"""The type of the column of each optional field."""

_WRITTEN: Mapping[str, Callable[[Any], str]] = {}
"""The text that PostgreSQL reads as the value of a field, where it is not the value itself."""

_JSON: Mapping[str, Callable[[str], str]] = {"modified_at": lambda column: f"""'"' || {iso(column)} || '"'"""}


def written(field: str, value: Any) -> str | None:
    """The text of the value of an optional field, for a literal or for COPY; None if it is unknown."""
    return value if value is None or field not in _WRITTEN else _WRITTEN[field](value)


def written_rows(fields: Sequence[str], rows: list[tuple[Any, ...]], first: int) -> list[tuple[Any, ...]]:
    """Rows of which the values of `fields`, which begin at position `first`, are written for COPY."""
    special = {first + at: field for at, field in enumerate(fields) if field in _WRITTEN}
    if not special:
        return rows
    return [
        tuple(written(special[at], value) if at in special else value for at, value in enumerate(row)) for row in rows
    ]


def members(alias: str) -> str:
    """An expression for the optional fields of a record that are known, as members of a JSON object: each begins with a
    comma. `alias` is the name of the record's row."""
    # A record without any of them takes one test for each group.
    return " || ".join(_group(alias, fields) for fields in (KNOWN, FURTHER))


def _group(alias: str, fields: Sequence[str]) -> str:
    known = " || ".join(f"""coalesce(',"{field}":' || {_json(field, f"{alias}.{field}")}, '')""" for field in fields)
    any_known = f"num_nonnulls({', '.join(f'{alias}.{field}' for field in fields)}) > 0"
    return f"CASE WHEN {any_known} THEN {known} ELSE '' END"


def _json(field: str, column: str) -> str:
    return _JSON[field](column) if field in _JSON else f"to_json({column})::text"


def selected(alias: str) -> str:
    """The optional fields of a record for a SELECT whose rows become JSON."""
    return ", ".join(
        f"{iso(f'{alias}.{field}')} AS {field}" if TYPES[field] == "timestamptz" else f"{alias}.{field}"
        for field in (*KNOWN, *FURTHER)
    )
