"""Reads the objects of JSON (RFC 8259) documents of any size, and of NDJSON, one by one."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, NamedTuple

from dedup.customer_ids import CustomerId
from dedup.files.columns import COLUMNS, key, names_of, recognised, values_of
from dedup.files.mapping import SAMPLE_CHARS, SAMPLE_ROWS, Mapper, NeedsMapping
from dedup.files.tables import (
    MAX_EXCERPT,
    MAX_ROW,
    NO_RULES,
    TOO_LONG,
    Rejected,
    Rules,
    Table,
    Unreadable,
    quoted,
    reject,
)
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


_Items = tuple[list[tuple[int, Any, str]], list[Rejected]]
"""The values of one text, each with its line and its text, and the rows that are not JSON."""


def read_json(texts: Iterator[str], mapper: Mapper) -> Iterator[Table]:
    """Yields the objects of the array, or of the array "customers", one table for each text. Raises NeedsMapping if the
    first objects lack a required key, and Unreadable if the file is not valid JSON, or has no such array."""
    return _tables(_json_items(texts), mapper)


def _json_items(texts: Iterator[str]) -> Iterator[_Items]:
    document = _Document(texts)
    found = False
    if document.next() == "[":
        found = True
        yield from _array(document, count(1))
    else:
        # Shared by all arrays, so that the line numbers of a file's rows are unique.
        positions = count(1)
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if plain(key) == "customers" and document.next() == "[":
                found = True
                yield from _array(document, positions)
            else:
                document.value()
    if document.next():
        raise Unreadable("Not valid JSON: there is text after the end of the document")
    if not found:
        raise Unreadable('The file has no array "customers"')


def _array(document: _Document, positions: Iterator[int]) -> Iterator[_Items]:
    for items in document.items():
        yield [(next(positions), item, row) for item, row in items], []


def read_ndjson(texts: Iterator[str], mapper: Mapper) -> Iterator[Table]:
    """Yields the objects, one table for each text. A line that is not valid JSON is rejected. Raises NeedsMapping if
    the first objects lack a required key."""
    return _tables(_ndjson_items(texts), mapper)


def _ndjson_items(texts: Iterator[str]) -> Iterator[_Items]:
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
        yield items, rejected


def _tables(found: Iterator[_Items], mapper: Mapper) -> Iterator[Table]:
    """Yields the tables, after the keys of the first objects were accepted as a header."""
    held = _first(found, mapper)
    shapes = _Shapes(mapper)
    while held:  # not kept in memory while the others are read
        yield _object_table(*held.pop(0), shapes)
    for items, rejected in found:
        yield _object_table(items, rejected, shapes)


def _first(found: Iterator[_Items], mapper: Mapper) -> list[_Items]:
    """Takes items until their keys are recognised, or until there are enough for a question."""
    held: list[_Items] = []
    size = 0
    for items in found:
        held.append(items)
        size += sum(len(row) for _, _, row in items[0])
        objects = _objects(held)
        if len(objects) >= SAMPLE_ROWS or size >= SAMPLE_CHARS or mapper.recognises(_keys(objects)):
            break
    _accept(_objects(held), mapper)
    return held


def _objects(held: Sequence[_Items]) -> list[tuple[int, Mapping[str, Any]]]:
    """The first objects, flattened, with their lines."""
    values = ((line, item) for items, _ in held for line, item, _ in items if isinstance(item, dict))
    return [(line, _flattened(item)) for line, item in islice(values, SAMPLE_ROWS)]


def _keys(objects: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """The keys of all objects, each once whatever its spelling. If most objects have no conflict of their own, the keys
    have none: the others are rejected one by one."""
    items = [item for _, item in objects]
    certain = [item for item in items if not recognised(tuple(item))[1]]
    are_certain = 2 * len(certain) >= len(items)
    spelt: dict[str, str] = {}
    for item in certain if are_certain else items:
        for name in item:
            spelt.setdefault(key(name), name)
    keys = list(spelt.values())
    while are_certain and (conflicts := recognised(keys)[1]):
        keys.remove(conflicts[0].other)
    return keys


def _accept(objects: Sequence[tuple[int, Mapping[str, Any]]], mapper: Mapper) -> None:
    """Raises NeedsMapping if the keys of the objects are not certain. Objects that nobody could map are rejected one by
    one instead."""
    keys = _keys(objects)
    try:
        mapper.layout(keys, lambda: [(line, [item.get(name) for name in keys]) for line, item in objects])
    except NeedsMapping:
        raise
    except Unreadable:
        if mapper.is_stated:
            raise


def _object_table(items: Sequence[tuple[int, Any, str]], rejected: Sequence[Rejected], shapes: "_Shapes") -> Table:
    lines: list[int] = []
    rows, values, spare, refused = [], [], [], list(rejected)
    kept: dict[int, dict[str, Any]] = {}
    rules = NO_RULES
    for line, item, row in items:
        try:
            if len(row) > MAX_ROW:
                raise Unreadable(TOO_LONG)
            if not isinstance(item, dict):
                raise Unreadable("Expected a JSON object")
            if any(type(value) is dict for value in item.values()):
                item = _flattened(item)
            get = item.get
            keys, others, emails, kept_keys, rules = shapes.keys_of(tuple(item))
            found = [get(key) for key in keys]
            for at, field, names in others:
                [found[at]] = values_of(field, [[get(name)] for name in names])
            values.append(found)
        except Unreadable as error:
            refused.append(reject(line, "", str(error), row, *_traces(row), error.kind))
        else:
            if kept_keys:
                kept[len(lines)] = {name: get(member) for name, member in kept_keys.items()}
            lines.append(line)
            rows.append(row)
            spare.append([get(name) for name in emails])
    columns = dict(zip(COLUMNS, zip(*values, strict=True), strict=True)) if values else dict.fromkeys(COLUMNS, ())
    attributes = [kept.get(at, {}) for at in range(len(lines))] if kept else ()
    return Table(lines, rows, columns, refused, spare, shapes.header, attributes, rules)


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


_MAX_SHAPES = 32
"""Shapes that are remembered."""

_MAX_NAMES = 1_000
"""Keys that are remembered as the header."""


class _Keys(NamedTuple):
    """The keys of objects of one shape: the first key of each field of COLUMNS (None without one), the fields with
    several keys as (index in COLUMNS, field, keys), the keys of further addresses, and those of attributes by name."""

    first: list[str | None]
    several: list[tuple[int, str, list[str]]]
    emails: list[str]
    kept: dict[str, str]
    rules: Rules


class _Shapes:
    """The keys of objects, by their shape: nearly all objects of a file have one of a few."""

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper
        self._known: dict[tuple[str, ...], _Keys] = {}
        self._names: dict[str, None] = {}

    @property
    def header(self) -> list[str]:
        """The keys of the objects so far, the first of them."""
        return list(self._names)

    def keys_of(self, keys: tuple[str, ...]) -> _Keys:
        """Maps the keys of an object to fields. Raises Unreadable if it is not certain which key feeds a field."""
        if keys not in self._known:
            if len(self._known) >= _MAX_SHAPES:
                self._known.clear()
            self._known[keys] = self._mapped(keys)
        return self._known[keys]

    def _mapped(self, keys: tuple[str, ...]) -> _Keys:
        if len(self._names) < _MAX_NAMES:
            self._names.update(dict.fromkeys(keys[:_MAX_NAMES]))
        layout = self._mapper.shape(keys)
        positions = {name: [keys[position] for position in several] for name, several in layout.positions.items()}
        several = [(at, name, positions[name]) for at, name in enumerate(COLUMNS) if len(positions.get(name, ())) > 1]
        first = [positions[name][0] if name in positions else None for name in COLUMNS]
        kept = {name: keys[at] for name, at in layout.kept.items()}
        return _Keys(first, several, [keys[position] for position in layout.more_emails], kept, layout.rules)
