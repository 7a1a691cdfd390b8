"""Reads the objects of JSON (RFC 8259) documents of any size, and of NDJSON, one by one."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

from dedup.customer_ids import CustomerId
from dedup.files.columns import COLUMNS, kept_columns, key, map_header, more_emails, names_of, values_of
from dedup.files.tables import MAX_EXCERPT, MAX_ROW, TOO_LONG, Rejected, Table, Unreadable, quoted, reject
from dedup.files.text import first_line, lines_of
from dedup.files.values import meant_id
from dedup.records import one_of
from dedup.traces import addresses
from dedup.validation import plain

MAX_VALUE = 8 << 20
"""Most characters of one value in a JSON document. A longer value makes the file fail, because reading cannot continue
after it."""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid in JSON")


# Control characters in strings are allowed here, so that Record refuses the row and not the whole file.
_JSON: Any = json.JSONDecoder(strict=False, parse_constant=_no_constant)
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


class _Document:
    """A JSON document that is read value by value."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._text = ""
        self._at = 0

    def next(self) -> str:
        """Returns the first character of the next token without consuming it; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it matches anything
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Consumes the next token, which must be one of the characters in `expected`, and returns it."""
        found = self.next()
        if not found or found not in expected:
            raise Unreadable(
                f"Not valid JSON: expected {one_of(tuple(expected))}, found {quoted(found) if found else 'the end'}"
            )
        self._at += 1
        return found

    def value(self) -> tuple[Any, str]:
        """Consumes the next value. Returns the value and its text."""
        self.next()
        while True:
            begin = self._at
            try:
                value, end = _JSON.scan_once(self._text, begin)
            except (ValueError, RecursionError, StopIteration) as error:
                if len(self._text) - begin <= MAX_VALUE and self._more():
                    continue
                reason = "a value is cut off or not valid" if isinstance(error, StopIteration) else _reason(error)
                raise Unreadable(f"Not valid JSON: {reason}") from None
            # A number at the end of the text may continue in the next text.
            if end < len(self._text) or not self._more():
                self._at = end
                return value, self._text[begin:end]

    def items(self) -> Iterator[list[tuple[Any, str]]]:
        """Consumes an array. Yields about as many items at a time as one text has."""
        self.take("[")
        if self.next() == "]":
            self.take("]")
            return
        while True:
            items = self._whole_items()
            items.append(self.value())
            yield items
            if self.take(",]") == "]":
                return

    def _whole_items(self) -> list[tuple[Any, str]]:
        """Consumes the items that are followed by a comma in the current text."""
        self.next()
        items = []
        text, at, scan, comma = self._text, self._at, _JSON.scan_once, _COMMA.match
        try:
            while True:
                value, end = scan(text, at)
                if not (found := comma(text, end)):
                    break
                items.append((value, text[at:end]))
                at = found.end()
        except (ValueError, RecursionError, StopIteration):
            pass
        self._at = at
        return items

    def keys(self) -> Iterator[str]:
        """Consumes an object and yields its keys. The caller must consume the value after each key."""
        self.take("{")
        if self.next() == "}":
            self.take("}")
            return
        while True:
            if self.next() != '"':
                self.take('"')
            key, _ = self.value()
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def _more(self) -> bool:
        text = next(self._texts, "")
        self._text = self._text[self._at :] + text
        self._at = 0
        return bool(text)


def is_json(head: str) -> bool:
    """Whether the file is one document: an array, or an object that has the key "customers" or continues on the next
    line."""
    start = head.lstrip()
    return start.startswith("[") or (
        start.startswith("{") and (first_line(head).strip() == "{" or _has_customers(head))
    )


def _has_customers(head: str) -> bool:
    document = _Document(iter([head]))
    try:
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if plain(key) == "customers":
                return True
            document.value()
    except Unreadable:
        pass
    return False


def is_ndjson(head: str) -> bool:
    """Whether the first line starts an object."""
    return head.lstrip().startswith("{")


def read_json(texts: Iterator[str]) -> Iterator[Table]:
    """Yields the objects of the array, or of the array "customers", one table for each text. Raises Unreadable if the
    file is not valid JSON, or has no such array."""
    document = _Document(texts)
    found = False
    if document.next() == "[":
        found = True
        yield from _tables(document, count(1))
    else:
        # Shared by all arrays, so that the line numbers of a file's rows are unique.
        positions = count(1)
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if plain(key) == "customers" and document.next() == "[":
                found = True
                yield from _tables(document, positions)
            else:
                document.value()
    if document.next():
        raise Unreadable("Not valid JSON: there is text after the end of the document")
    if not found:
        raise Unreadable('The file has no array "customers"')


def _tables(document: _Document, positions: Iterator[int]) -> Iterator[Table]:
    for items in document.items():
        yield _object_table([(next(positions), item, row) for item, row in items])


def read_ndjson(texts: Iterator[str]) -> Iterator[Table]:
    """Yields the objects, one table for each text. A line that is not valid JSON is rejected."""
    before = 0
    for lines in lines_of(texts):
        items: list[tuple[int, Any, str]] = []
        rejected = []
        for line, row in enumerate(lines, before + 1):
            try:
                if row.strip():
                    items.append((line, _JSON.decode(row) if len(row) <= MAX_ROW else None, row))
            except (ValueError, RecursionError) as error:
                reason = f"Not valid JSON: {_reason(error)}"
                rejected.append(reject(line, "", reason, row, *_traces(row), "Not valid JSON"))
        before += len(lines)
        yield _object_table(items, rejected)


def _object_table(items: Sequence[tuple[int, Any, str]], rejected: Sequence[Rejected] = ()) -> Table:
    lines: list[int] = []
    rows, values, spare, refused = [], [], [], list(rejected)
    header: dict[str, None] = {}
    shapes: set[tuple[str, ...]] = set()
    attributes: dict[int, dict[str, Any]] = {}
    for line, item, row in items:
        try:
            if len(row) > MAX_ROW:
                raise Unreadable(TOO_LONG)
            if not isinstance(item, dict):
                raise Unreadable("Expected a JSON object")
            if any(type(value) is dict for value in item.values()):
                item = _flattened(item)
            get = item.get
            shape = tuple(item)
            keys, others, emails, kept = _object_keys(shape)
            if shape not in shapes:
                shapes.add(shape)
                header.update(dict.fromkeys(shape))
            found = [get(key) for key in keys]
            for at, field, names in others:
                [found[at]] = values_of(field, [[get(name)] for name in names])
            values.append(found)
        except Unreadable as error:
            refused.append(reject(line, "", str(error), row, *_traces(row), error.kind))
        else:
            if kept:
                attributes[len(lines)] = {name: get(member) for name, member in kept}
            lines.append(line)
            rows.append(row)
            spare.append([get(name) for name in emails])
    columns = dict(zip(COLUMNS, zip(*values, strict=True), strict=True)) if values else dict.fromkeys(COLUMNS, ())
    more = [attributes.get(at, {}) for at in range(len(lines))] if attributes else ()
    return Table(lines, rows, columns, refused, spare, list(header), more)


MAX_DEPTH = 5
"""Levels of nested objects whose members are read."""


def _flattened(item: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Returns the object with the members of nested objects as its own, named by their path: `MailingAddress.city`."""
    flat: dict[str, Any] = {}
    for name, value in item.items():
        if type(value) is dict and depth < MAX_DEPTH:
            flat = _flattened(value, f"{prefix}{name}.", depth + 1) | flat
        else:
            flat[prefix + name] = value
    return flat


_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MEMBER = re.compile(r""""((?:[^"\\]|\\.){1,100})"\s*:\s*("(?:[^"\\]|\\.)*"?|[^\s,}\]]+)""")


def _traces(row: str) -> tuple[CustomerId | None, set[str]]:
    """Returns the customer id and the addresses that seem to be in a row that is not a JSON object."""
    text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), row[:MAX_EXCERPT]).replace("\\/", "/")
    members = {key(name): value.strip('"') for name, value in _MEMBER.findall(text)}
    ids = [members[name] for name in names_of("customer_id") if name in members]
    return meant_id(ids[0]) if ids else None, addresses(text)


@lru_cache(maxsize=32)
def _object_keys(
    keys: tuple[str, ...],
) -> tuple[list[str | None], list[tuple[int, str, list[str]]], list[str], list[tuple[str, str]]]:
    """Maps the keys of an object to fields. Returns the first key of each field of COLUMNS (None without one), the
    fields with several keys as (index in COLUMNS, field, keys), the keys of further addresses, and the attributes with
    their keys."""
    found = map_header(keys)
    positions = {name: [keys[position] for position in several] for name, several in found.items()}
    several = [(at, name, positions[name]) for at, name in enumerate(COLUMNS) if len(positions.get(name, ())) > 1]
    emails = [keys[position] for position in more_emails(keys, found)]
    kept = [(name, keys[position]) for name, position in kept_columns(keys, found).items()]
    return [positions[name][0] if name in positions else None for name in COLUMNS], several, emails, kept
