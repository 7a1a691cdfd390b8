"""Writes files like exports of CRMs and spreadsheets, in every format, encoding and compression that is supported.

python -m tests.exports 100000 --form hubspot --compression gzip > contacts.csv.gz
"""

import argparse
import gzip
import json
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@dataclass(frozen=True)
class Person:
    """A made-up customer of a source."""

    customer_id: int
    first_name: str
    last_name: str
    email: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"

    @property
    def row(self) -> tuple[int, str, str, str]:
        """The row that must be read for the person, whatever the form of the file."""
        return self.customer_id, self.name, self.email, self.source


FIRST_NAMES = ("Ann", "Zoë", "José", "Søren", "Anaïs", "Jürgen", "Niño", "Bob")
LAST_NAMES = ("O'Brien", "Müller, PhD", 'Smith "Smitty"', "Núñez", "de la Cruz", "Ångström", "Lee; Park", "Tab|Pipe")


def people(count: int, source: str, seed: int = 0) -> list[Person]:
    """`count` different people; the same people for the same seed."""
    chance = random.Random(seed)
    return [
        Person(
            customer_id,
            chance.choice(FIRST_NAMES),
            chance.choice(LAST_NAMES),
            f"person.{customer_id}@{chance.choice(('example.com', 'mail.example.org', 'example.co.uk'))}",
            source,
        )
        for customer_id in chance.sample(range(1, max(10 * count, 1_000_000)), count)
    ]


NOTE = 'Called twice,\n"not in"; tab\there | pipe'

FORMS: Mapping[str, Mapping[str, Callable[[Person], object]]] = {
    "salesforce": {
        "Id": lambda person: person.customer_id,
        "FirstName": lambda person: person.first_name,
        "LastName": lambda person: person.last_name,
        "Email": lambda person: person.email,
        "Description": lambda person: NOTE if person.customer_id % 5 == 0 else "",
        "LeadSource": lambda _: "Web",
    },
    "salesforce with Name": {
        "Id": lambda person: person.customer_id,
        "IsDeleted": lambda _: "false",
        "Name": lambda person: person.name,
        "Email": lambda person: person.email,
    },
    "hubspot": {
        "Record ID": lambda person: person.customer_id,
        "First Name": lambda person: person.first_name,
        "Last Name": lambda person: person.last_name,
        "Phone Number": lambda _: "+44 20 7946 0000",
        "Email": lambda person: person.email,
        "Lifecycle Stage": lambda _: "",
    },
    "plain": {
        "customer_id": lambda person: person.customer_id,
        "name": lambda person: person.name,
        "email": lambda person: person.email,
        "source": lambda person: person.source,
    },
    "spreadsheet": {
        "E-mail Address": lambda person: f" {person.email} ",
        "SOURCE": lambda person: person.source.capitalize(),
        "Full Name": lambda person: person.name,
        "Customer-ID": lambda person: f"{person.customer_id:07}",
    },
}
"""The columns of each form, in order, with the value of each for a person."""

FORMATS = ("csv", "json", "array", "ndjson")
DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "cp1252")
COMPRESSIONS: Mapping[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def write(
    persons: Iterable[Person],
    form: str = "plain",
    fmt: str = "csv",
    delimiter: str = ",",
    encoding: str = "utf-8",
    compression: str | None = None,
    newline: str = "\r\n",
) -> bytes:
    """The content of the file. UTF-16 starts with a byte order mark; `delimiter` and `newline` are for CSV."""
    columns = FORMS[form]
    rows = [[tell(person) for tell in columns.values()] for person in persons]
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    text = {
        "csv": lambda: csv_text([list(columns), *rows], delimiter, newline),
        "json": lambda: json.dumps({"total": len(rows), "customers": objects}, ensure_ascii=False, indent=1),
        "array": lambda: json.dumps(objects, ensure_ascii=False),
        "ndjson": lambda: "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects),
    }[fmt]()
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    return COMPRESSIONS[compression]((mark + text).encode(encoding))


def csv_text(rows: Iterable[Sequence[object]], delimiter: str = ",", newline: str = "\r\n") -> str:
    """CSV (RFC 4180), with quotes only where they are needed."""
    special = {delimiter, '"', "\r", "\n"}

    def cell(value: object) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if special & set(text) or text != text.strip() else text

    return "".join(delimiter.join(map(cell, row)) + newline for row in rows)


def main() -> None:
    """Writes a file of made-up people to standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.exports", description=main.__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--form", choices=FORMS, default="plain")
    parser.add_argument("--source", default="hubspot")
    parser.add_argument("--format", choices=FORMATS, default="csv", dest="fmt")
    parser.add_argument("--delimiter", choices=DELIMITERS, default=",")
    parser.add_argument("--encoding", choices=ENCODINGS, default="utf-8")
    parser.add_argument("--compression", choices=[name for name in COMPRESSIONS if name])
    parser.add_argument("--seed", type=int, default=0)
    said = vars(parser.parse_args())
    persons = people(said.pop("count"), said.pop("source"), said.pop("seed"))
    sys.stdout.buffer.write(write(persons, **said))


if __name__ == "__main__":
    main()
