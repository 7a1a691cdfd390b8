"""The objects of JSON (RFC 8259), one by one out of a document of any size, and of NDJSON."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

from dedup.files.columns import COLUMNS, fields, first_told, more_emails
from dedup.files.tables import MAX_EXCERPT, MAX_ROW, TOO_LONG, Rejected, Table, Unreadable, quoted, reject
from dedup.files.text import first_line, lines_of
from dedup.files.values import meant_id
from dedup.records import one_of
from dedup.traces import addresses
from dedup.validation import plain

MAX_VALUE = 8 << 20
"""Characters of one value in a JSON document; at a longer one the document is given up, for it has no next line."""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a value of JSON")


# Not strict about control characters in strings: Record refuses them, with the row that has them and not the file.
_JSON: Any = json.JSONDecoder(strict=False, parse_constant=_no_constant)
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


class _Document:
    """The text of a JSON document, read value by value."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self._text = ""
        self._at = 0

    def next(self) -> str:
        """The character that the next token begins with, which is not taken. Empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr] # it matches anything
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> str:
        """Takes the next token, one of the characters in `expected`."""
        found = self.next()
        if not found or found not in expected:
            raise Unreadable(
                f"not JSON: expected {one_of(tuple(expected))}, found {quoted(found) if found else 'the end'}"
            )
        self._at += 1
        return found

    def value(self) -> tuple[Any, str]:
        """Takes the next value: what it is, and its text."""
        self.next()
        while True:
            begin = self._at
            try:
                value, end = _JSON.scan_once(self._text, begin)
            except (ValueError, RecursionError, StopIteration) as error:
                if len(self._text) - begin <= MAX_VALUE and self._more():
                    continue
                reason = "it is cut off, or not a value" if isinstance(error, StopIteration) else _reason(error)
                raise Unreadable(f"not JSON: {reason}") from None
            # A number that ends with the text may go on in the next.
            if end < len(self._text) or not self._more():
                self._at = end
                return value, self._text[begin:end]

    def items(self) -> Iterator[list[tuple[Any, str]]]:
        """Takes an array, about as many items at a time as are in one of the texts."""
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
        """Takes the items that a comma follows in this text."""
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
        """Takes an object, key by key: the caller takes the value after each."""
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
    """Whether it is one document: an array, or an object with the array "customers" or one that goes on in the next
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
    """Whether it has an object in its first line."""
    return head.lstrip().startswith("{")


def read_json(texts: Iterator[str]) -> Iterator[Table]:
    """The objects of the array, or of the array "customers", those of a text at a time. Raises Unreadable where it is
    not JSON, or has no such array."""
    document = _Document(texts)
    found = False
    if document.next() == "[":
        found = True
        yield from _tables(document, count(1))
    else:
        # Of all arrays: no two rows of a file have one place.
        places = count(1)
        for key in document.keys():  # noqa: SIM118 # not a mapping's
            if plain(key) == "customers" and document.next() == "[":
                found = True
                yield from _tables(document, places)
            else:
                document.value()
    if document.next():
        raise Unreadable("not JSON: it goes on after its end")
    if not found:
        raise Unreadable('there is no array "customers" in it')


def _tables(document: _Document, places: Iterator[int]) -> Iterator[Table]:
    for items in document.items():
        yield _object_table([(next(places), item, row) for item, row in items])


def read_ndjson(texts: Iterator[str]) -> Iterator[Table]:
    """The objects, one in a line, those of a text at a time. A line that is no JSON is rejected."""
    before = 0
    for lines in lines_of(texts):
        items: list[tuple[int, Any, str]] = []
        rejected = []
        for line, row in enumerate(lines, before + 1):
            try:
                if row.strip():
                    items.append((line, _JSON.decode(row) if len(row) <= MAX_ROW else None, row))
            except (ValueError, RecursionError) as error:
                rejected.append(reject(line, "", f"not JSON: {_reason(error)}", row, *_about(row)))
        before += len(lines)
        yield _object_table(items, rejected)


def _object_table(items: Sequence[tuple[int, Any, str]], rejected: Sequence[Rejected] = ()) -> Table:
    lines, rows, values, spare, refused = [], [], [], [], list(rejected)
    for line, item, row in items:
        try:
            if len(row) > MAX_ROW:
                raise Unreadable(TOO_LONG)
            if not isinstance(item, dict):
                raise Unreadable("Input should be an object")
            get = item.get
            keys, others, emails = _object_keys(tuple(item))
            told = [get(key) for key in keys]
            for at, names in others:
                [told[at]] = first_told([[get(name)] for name in names])
            values.append(told)
        except Unreadable as error:
            refused.append(reject(line, "", str(error), row, *_about(row)))
        else:
            lines.append(line)
            rows.append(row)
            spare.append([get(name) for name in emails])
    columns = dict(zip(COLUMNS, zip(*values, strict=True), strict=True)) if values else dict.fromkeys(COLUMNS, ())
    return Table(lines, rows, columns, refused, spare)


_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MEMBER = re.compile(r""""((?:[^"\\]|\\.){1,100})"\s*:\s*("(?:[^"\\]|\\.)*"?|[^\s,}\]]+)""")


def _about(row: str) -> tuple[int | None, set[str]]:
    """Whom a row is about that is not an object of JSON: the id that it seems to say, and the addresses in it."""
    text = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), row[:MAX_EXCERPT]).replace("\\/", "/")
    said = {plain(name): value.strip('"') for name, value in _MEMBER.findall(text)}
    ids = [said[name] for name in map(plain, COLUMNS["customer_id"]) if name in said]
    return meant_id(ids[0]) if ids else None, addresses(text)


@lru_cache(maxsize=32)
def _object_keys(keys: tuple[str, ...]) -> tuple[list[str | None], list[tuple[int, list[str]]], list[str]]:
    """The key of each field of COLUMNS in an object with these keys; the fields that several keys say: the place in
    COLUMNS, and all of the keys; and the keys of further addresses."""
    found = fields(keys)
    places = {name: [keys[place] for place in several] for name, several in found.items()}
    several = [(at, places[name]) for at, name in enumerate(COLUMNS) if len(places.get(name, ())) > 1]
    emails = [keys[place] for place in more_emails(keys, found)]
    return [places[name][0] if name in places else None for name in COLUMNS], several, emails
