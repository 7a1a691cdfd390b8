"""Input data: people with several ids, ids at the limits of their range, and files of every format."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dedup.customer_ids import CustomerId

from tests.exports import COMPRESSIONS, csv_text

Values = tuple[str, CustomerId, str, str]
"""A record: source, customer id, name and email."""

IDS: tuple[CustomerId, ...] = (
    *range(1, 13), 0, -1, 2**63 - 1, -(2**63), 2**53, 2**53 + 1,
    "0035g00000XyZ1aAAF", "0035g00000XyZ1AAAV", "cus_1", "CUS_1", "007", str(2**63), "ä/ö?&#%41", "\U0001f600", "'; --",
    'a"b\\c', "x" * 255,
)  # fmt: skip
PEOPLE = (
    ("Ann Lee", "ann.lee@example.com"),
    ("Anne Lee", "ann.lee@example.com"),
    ("Bob O'Brien", "bob@example.org"),
    ("Robert O'Brien", "bob@example.org"),
    ("Zoë Núñez", "zoe@example.com"),
    ("Zoe Nunez", "zoe@example.net"),
    ("李小龙", "lee@example.com"),
    ("محمد علي", "ali@example.com"),
    ('Smith "Smitty", Jr', "smith@example.com"),
    ("\U0001f600" * 20, "smile@example.com"),
)
FORMATS = ("csv", "json", "ndjson", "array")
BAD = (
    {"customer_id": "1.2e15"},
    {"customer_id": "x" * 256},
    {"customer_id": ""},
    {"email": "a\0b"},
    {"name": "a\0b"},
    {"name": "x" * 256},
)
"""Values that make a row rejected, whatever its other values."""


def values(chance: random.Random, sources: Sequence[str]) -> Values:
    """A random record."""
    name, email = chance.choice(PEOPLE)
    if chance.random() < 0.3:
        name, email = f"Person {chance.randrange(40)}", f"p{chance.randrange(40)}@example.com"
    return chance.choice(sources), chance.choice(IDS), name, email


def body(record: Sequence[Any]) -> dict[str, Any]:
    """A record as the JSON object of the API."""
    return dict(zip(("source", "customer_id", "name", "email"), record, strict=True))


def file(
    rows: Sequence[Sequence[Any]], bad: Sequence[Mapping[str, str]], fmt: str, compression: str | None, named: bool
) -> bytes:
    """A file with the rows, and among them a rejected row for each of `bad`. `named`: with a column for the source."""
    objects: list[dict[str, Any]] = [body(row) for row in rows]
    for place, fault in enumerate(bad):
        first = objects[0] if objects else {"customer_id": 1, "name": "N", "email": "n@example.com", "source": ""}
        objects.insert((place * 7) % (len(objects) + 1), {**first, **fault})
    if not named:
        objects = [{name: value for name, value in one.items() if name != "source"} for one in objects]
    columns = ["customer_id", "name", "email", *(["source"] if named else [])]
    text = {
        "csv": lambda: csv_text([columns, *([one[name] for name in columns] for one in objects)]),
        "json": lambda: json.dumps({"customers": objects}, ensure_ascii=False),
        "array": lambda: json.dumps(objects),
        "ndjson": lambda: "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects),
    }[fmt]()
    return COMPRESSIONS[compression](text.encode())
