"""Reads the optional fields of a record that are more than one text. A value that cannot be used rejects no row: it is
noticed."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dedup.files.tables import UNWRITABLE
from dedup.files.values import Problems
from dedup.findings import Kind
from dedup.moments import Ambiguous, Column
from dedup.records import MAX_ATTRIBUTE, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTES, MAX_VALUES, distinct
from dedup.validation import is_address

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
UNREADABLE_ATTRIBUTES = Kind(
    "attributes", "The attributes are no JSON object: they are not stored", False, "unreadable_attributes"
)
TOO_MANY_ATTRIBUTES = Kind(
    "attributes",
    f"There are more than {MAX_ATTRIBUTES} attributes: the first {MAX_ATTRIBUTES} are stored",
    False,
    "too_many_attributes",
)
LONG_ATTRIBUTE = Kind(
    "attributes",
    f"An attribute has more than {MAX_ATTRIBUTE:,} characters: the others are not stored",
    False,
    "long_attribute",
)
TOO_MANY_VALUES = {
    field: Kind(
        f"{field}s",
        f"There are more than {MAX_VALUES} {field}s: the first {MAX_VALUES} are stored",
        False,
        f"too_many_{field}s",
    )
    for field in ("email", "phone")
}

_SEPARATORS = (";", ",", ":::", "\n")
_SEPARATED = re.compile(r";|,|:::|\n")
_LONGEST_LIST = 10_000
"""Most characters of a list in one cell, so that no cell takes long. MAX_VALUES of the longest emails take half."""

_PHONE_DIGITS = 5
"""Fewest digits of a part of a text that is a phone number of its own, and not an extension or a group of digits."""

Check = Callable[[Sequence[Any], Problems], tuple[list[Any], Sequence[int]]]
"""Validates values: returns them as Record converts them, and the positions of those that are stored as written."""


def lists(
    field: str, values: Sequence[Any], check: Check, problems: Problems, noticed: Noticed
) -> tuple[list[Any], list[list[str] | None], Sequence[int]]:
    """Returns the email or phone of each row, all of them of the rows that have several (empty if no row has), and the
    positions of rows with a value that is stored as written. Valid values come first. A value is a text, which may have
    several values, or a list."""
    singles, found = _separated(field, values)
    firsts, invalid = check(singles, problems)
    if not found:
        return firsts, [], invalid
    owners = [position for position, items in found.items() for _ in items]
    refused: Problems = defaultdict(list)
    items, unusable = check([item for items in found.values() for item in items], refused)
    for at, reasons in refused.items():
        known = problems[owners[at]]
        known += [reason for reason in reasons if reason not in known]
    last = {*unusable}
    ordered: dict[int, list[str]] = {position: [] for position in found}
    for at in sorted(range(len(items)), key=lambda at: at in last):
        if items[at] is not None:
            ordered[owners[at]].append(items[at])
    several: list[list[str] | None] = [None] * len(values)
    for position, of_row in ordered.items():
        different = distinct(field, of_row)
        if len(different) > MAX_VALUES:
            noticed.append((position, TOO_MANY_VALUES[field]))
        firsts[position] = different[0] if different else None
        several[position] = different[:MAX_VALUES] if len(different) > 1 else None
    return firsts, several if any(several) else [], sorted({*invalid, *(owners[at] for at in unusable)})


def _separated(field: str, values: Sequence[Any]) -> tuple[Sequence[Any], dict[int, list[Any]]]:
    """Returns the values with None for those that are several, and these by position."""
    try:
        text = "".join(filter(None, values))
        if not any(separator in text for separator in _SEPARATORS):
            return values, {}
    except TypeError:
        pass
    found: dict[int, list[Any]] = {}
    for position, value in enumerate(values):
        items = [*_items(field, value)] if isinstance(value, str | list) else ()
        if isinstance(value, list) or len(items) > 1:
            found[position] = [*items]
    return [None if position in found else value for position, value in enumerate(values)], found


def _items(field: str, value: Any) -> Iterator[Any]:
    """Yields the values in a text or a list. Systems that are read by their API write objects with a `value`."""
    for item in value if isinstance(value, list) else [value]:
        one = item["value"] if isinstance(item, dict) and "value" in item else item
        if not isinstance(one, str):
            if one is not None:
                yield one
            continue
        parts = [part for text in _SEPARATED.split(one[:_LONGEST_LIST]) if (part := text.strip())]
        if len(one) > _LONGEST_LIST:
            is_list = False
        elif field == "email":
            is_list = any("@" in part and is_address(part) for part in parts)
        else:
            is_list = all(sum(map(str.isdigit, part)) >= _PHONE_DIGITS for part in parts)
        yield from parts if is_list else filter(None, [one.strip()])


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


_NOT_PLAIN = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def attributes(
    whole: Sequence[Any], more: Sequence[Mapping[str, Any]], noticed: Noticed
) -> list[dict[str, str] | None]:
    """Returns the attributes of each row: those of `whole`, a column of JSON objects, and `more`, by name. One of the
    two may be empty."""
    found = [_members_of(value, position, noticed) for position, value in enumerate(whole)] or [{} for _ in more]
    for members, others in zip(found, more, strict=False):
        members.update(others)
    return [_limited(members, position, noticed) if members else None for position, members in enumerate(found)]


def _members_of(value: Any, position: int, noticed: Noticed) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    try:
        members = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        return members
    noticed.append((position, UNREADABLE_ATTRIBUTES))
    return {}


def _limited(members: Mapping[str, Any], position: int, noticed: Noticed) -> dict[str, str] | None:
    """Returns the members as attributes that Record accepts."""
    texts = {_plain(name)[:MAX_ATTRIBUTE_NAME].strip(): _as_text(value) for name, value in members.items()}
    filled = {name: text for name, text in texts.items() if name and text}
    if len(filled) > MAX_ATTRIBUTES:
        noticed.append((position, TOO_MANY_ATTRIBUTES))
        filled = dict(list(filled.items())[:MAX_ATTRIBUTES])
    if any(len(text) > MAX_ATTRIBUTE for text in filled.values()):
        noticed.append((position, LONG_ATTRIBUTE))
        filled = {name: text[:MAX_ATTRIBUTE].strip() for name, text in filled.items()}
    return filled or None


def _as_text(value: Any) -> str:
    """Returns a value of JSON or of a cell as text: lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return _plain(value or "")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _plain(json.dumps(value, ensure_ascii=False))


def _plain(text: str) -> str:
    """Returns the text on one line, without characters that cannot be stored."""
    text = text.strip()
    return text if text.isprintable() else UNWRITABLE.sub("\ufffd", _NOT_PLAIN.sub(" ", text)).strip()
