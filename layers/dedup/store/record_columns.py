"""The columns of the optional fields of a record: their types, and how values are written to and read from them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dedup.records import FURTHER, KNOWN, OPTIONAL
from dedup.store.sql import iso

TYPES: Mapping[str, str] = {
    **dict.fromkeys(KNOWN, "text"),
    "emails": "text[]",
    "phones": "text[]",
    "modified_at": "timestamptz",
    "attributes": "json",
}
"""The type of the column of each optional field."""

LONG = ("emails", "phones", "attributes")
"""The fields that make a record up to a hundred times as long as the others."""


def _array(values: Sequence[str]) -> str:
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "emails": _array,
    "phones": _array,
    "attributes": lambda value: json.dumps(value, ensure_ascii=False),
}
"""The text that PostgreSQL reads as the value of a field, where it is not the value itself."""

_JSON: Mapping[str, Callable[[str], str]] = {"modified_at": lambda column: f"""'"' || {iso(column)} || '"'"""}


def written(field: str, value: Any) -> str | None:
    """The text of the value of an optional field, for a literal or for COPY; None if it is unknown."""
    return value if value is None or field not in _WRITTEN else _WRITTEN[field](value)


def all_written(field: str, values: Sequence[Any]) -> Sequence[str | None]:
    """The texts of the values of an optional field; see written()."""
    return [written(field, value) for value in values] if field in _WRITTEN else values


def members(alias: str, *, brief: bool = False) -> str:
    """An expression for the optional fields of a record that are known, as members of a JSON object: each begins with a
    comma. `alias` is the name of the record's row. `brief`: without those that may be long."""
    further = [field for field in FURTHER if field not in LONG] if brief else FURTHER
    # A record without any of them takes one test, and one without the rare ones two.
    return _if_known(
        alias, (*KNOWN, *further), f"{_each(alias, KNOWN)} || {_if_known(alias, further, _each(alias, further))}"
    )


def _each(alias: str, fields: Sequence[str]) -> str:
    return " || ".join(f"""coalesce(',"{field}":' || {as_json(field, f"{alias}.{field}")}, '')""" for field in fields)


def _if_known(alias: str, fields: Sequence[str], members: str) -> str:
    any_known = f"num_nonnulls({', '.join(f'{alias}.{field}' for field in fields)}) > 0"
    return f"CASE WHEN {any_known} THEN {members} ELSE '' END"


def as_json(field: str, column: str) -> str:
    """An expression for the JSON text of the value of a field; NULL if it is unknown."""
    return _JSON[field](column) if field in _JSON else f"to_json({column})::text"


def selected(alias: str, *, nested: bool) -> str:
    """The optional fields of a record for a SELECT whose rows become JSON. Attributes are objects if `nested`,
    otherwise the text of one."""

    def expression(field: str) -> str:
        column = f"{alias}.{field}"
        if TYPES[field] == "timestamptz":
            return f"{iso(column)} AS {field}"
        return f"{column}::text AS {field}" if TYPES[field] == "json" and not nested else column

    return ", ".join(map(expression, OPTIONAL))
