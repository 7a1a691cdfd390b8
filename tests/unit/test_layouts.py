"""Exports of CRMs, shops and address books load unchanged, with the right fields."""

import io
import json
from importlib.resources import files as resources
from typing import Any

import pytest
from dedup.files.columns import COLUMNS, is_known, key, map_header, more_emails, systems
from dedup.files.reading import read
from dedup.files.recognition import system_of
from dedup.files.tables import Unreadable
from dedup.records import KNOWN
from hypothesis import given
from hypothesis import strategies as st

from tests.crm_exports import LAYOUTS, contacts, expected, id_of, write
from tests.exports import xlsx

CONTACTS = contacts(200)

WITHOUT_ID = ("google_contacts", "outlook")


def load(data: bytes) -> tuple[list[dict[str, object]], list[str], list[tuple[str, int]]]:
    """The records of a file, the reasons of its rejected rows, and its warnings with their number of rows."""
    batches = list(read(io.BytesIO(data), "hubspot"))
    records = [
        dict(zip(("customer_id", "name", "email", "source", *batch.known), row, strict=True))
        for batch in batches
        for row in batch.rows
    ]
    warnings = [(found.kind.warning, found.rows) for b in batches for found in b.findings if found.kind.warning]
    return records, [row.reason for batch in batches for row in batch.rejected], warnings


@pytest.mark.parametrize("system", LAYOUTS)
def test_export_loads_unchanged(system: str) -> None:
    data = write(system, CONTACTS)

    if system in WITHOUT_ID:
        with pytest.raises(Unreadable, match="no column for customer_id"):
            load(data)
        return
    records, reasons, _ = load(data)

    assert (len(records), reasons) == (len(CONTACTS), [])
    assert [record["customer_id"] for record in records] == [id_of(system, contact) for contact in CONTACTS]


@pytest.mark.parametrize("system", LAYOUTS)
def test_fields_of_an_export_are_recognised(system: str) -> None:
    data = write(system, CONTACTS, "ID" if system in WITHOUT_ID else None)

    records, reasons, warnings = load(data)

    assert reasons == []
    assert [{name: value for name, value in record.items() if value is not None} for record in records] == [
        {**{name: value for name, value in expected(system, one).items() if value is not None}, "source": "hubspot"}
        for one in CONTACTS
    ]
    invalid = sum(contact.email in ("n/a", f"person.{contact.number}@example") for contact in CONTACTS)
    assert warnings == [("invalid_email", invalid)]


# Columns

NAMED = [
    (path.name, field, name)
    for path in (resources("dedup.files") / "systems").iterdir()
    for field, names in json.loads(path.read_text())["fields"].items()
    for name in names
]
ALL_NAMES = sorted({*(name for *_, name in NAMED), *(name for names in COLUMNS.values() for name in names)})


def test_a_typical_name_is_no_field_and_belongs_to_one_system() -> None:
    every = [key(name) for system in systems().values() for name in system["typical"]]

    assert len(every) == len({*every})
    fields = {key(name) for *_, name in NAMED}
    assert {*every} & fields == set()


def test_a_name_means_the_same_field_in_every_system() -> None:
    meaning = {key(name): field for field, names in COLUMNS.items() for name in names}
    for system, field, name in NAMED:
        assert meaning.setdefault(key(name), field) == field, (system, name)
        assert field in COLUMNS


@given(st.lists(st.sampled_from(ALL_NAMES) | st.text(max_size=8), max_size=12))
def test_no_column_is_mapped_twice_and_none_is_lost(header: list[str]) -> None:
    try:
        found = map_header(header)
    except Unreadable:  # several columns for the id, or the same name twice
        return

    mapped = [position for positions in found.values() for position in positions]
    assert len(mapped) == len({*mapped})
    known = {position for position, name in enumerate(header) if is_known(name)}
    assert {*mapped} <= known
    # Only another column for the id, or for the source, is left out.
    for position in known - {*mapped}:
        assert any(key(header[position]) in names_of_field for names_of_field in SINGLE)
    assert {*more_emails(header, found)}.isdisjoint(found.get("email", [])[:1])


@pytest.mark.parametrize("system", LAYOUTS)
def test_system_of_an_export_is_recognised(system: str) -> None:
    header = list(LAYOUTS[system].columns)

    found = system_of(header)

    assert found
    assert found.source == ("salesforce" if system.startswith("salesforce") else system)
    assert system_of([name.upper() for name in header[::-1]]) == found


@pytest.mark.parametrize(
    "header",
    [
        [],
        ["customer_id", "name", "email", "source"],
        ["Id", "First Name", "Last Name", "Email", "Phone", "Mailing Street", "Birthdate"],
        ["id", "name", "Lifecycle Stage"],
        ["id", "Lifecycle Stage", "Create Date", "MEMBER_RATING", "EUID"],
        ["Lifecycle Stage", "lifecycle_stage"],
    ],
)
def test_system_is_not_guessed_from_names_that_others_write_too(header: list[str]) -> None:
    assert system_of(header) is None


@pytest.mark.parametrize("kind", ["csv", "xlsx", "json", "ndjson"])
def test_source_is_guessed_in_every_format(kind: str) -> None:
    header = ["id", "Email", "Lifecycle Stage", "Create Date"]
    rows = [[number, f"c{number}@example.com", "lead", ""] for number in range(3)]
    table: list[list[Any]] = [header, *rows]
    items = [{name: value for name, value in zip(header, row, strict=True) if value != ""} for row in rows]
    items[0].update(dict.fromkeys(header[3:], "2026-11-27"))
    data = {
        "csv": "\n".join(",".join(map(str, row)) for row in table).encode(),
        "xlsx": xlsx(table),
        "json": json.dumps(items).encode(),
        "ndjson": "\n".join(map(json.dumps, items)).encode(),
    }[kind]

    batches = list(read(io.BytesIO(data)))

    assert {batch.guessed_source for batch in batches} == {"hubspot"}
    assert [row[3] for batch in batches for row in batch.rows] == ["hubspot"] * 3


def test_source_of_some_objects_is_not_guessed_for_the_others() -> None:
    items = [{"id": 1, "email": "a@example.com", "Lifecycle Stage": "lead", "Create Date": ""}]
    items.append({**items[0], "source": "internal"})

    [batch] = read(io.BytesIO(json.dumps(items).encode()))

    assert (batch.guessed_source, [row[3] for row in batch.rows], len(batch.rejected)) == (None, ["internal"], 1)


SINGLE = [
    {key(name) for *_, named, name in NAMED if named == field} | {key(name) for name in COLUMNS[field]}
    for field in ("customer_id", "source")
]


def test_nested_objects_are_read_by_the_path_of_their_members() -> None:
    contact = {
        "Id": 7,
        "attributes": {"type": "Contact", "url": "/services/data/v62.0/sobjects/Contact/7"},
        "Name": "Ann Lee",
        "Email": None,
        "MailingAddress": {"street": "1 Main St", "city": "Springfield", "postalCode": "02134", "country": "US"},
        "Account": {"Name": "Acme"},
    }
    customer = {"id": 8, "name": "Bo", "email": "bo@example.com", "address": {"line1": "2 High St", "postal_code": "1"}}

    records, reasons, _ = load(json.dumps([contact, customer]).encode())

    assert reasons == []
    place = {"address": "1 Main St", "city": "Springfield", "postcode": "02134", "country": "US"}
    assert records[0] == {
        "customer_id": 7, "name": "Ann Lee", "email": None, "source": "hubspot", "company": "Acme", **place,
    }  # fmt: skip
    assert (records[1]["address"], records[1]["postcode"]) == ("2 High St", "1")


def test_row_takes_the_first_email_that_has_a_value() -> None:
    records, _, _ = load(b"id,E-mail 2 - Value,E-mail 1 - Value\n1,b@example.com,a@example.com\n2,c@example.com,\n")

    assert [record["email"] for record in records] == ["a@example.com", "c@example.com"]


# Unknown values


def test_empty_name_and_email_are_unknown() -> None:
    records, reasons, warnings = load(
        b"id,name,email,phone,company,city\n1,,a@example.com\n2,Ann,,,\n3,,,7,\n4,,,,Acme\n5,,,,,Rome\n"
    )

    assert [(one["customer_id"], one["name"], one["email"]) for one in records] == [
        (1, None, "a@example.com"), (2, "Ann", None), (3, None, None), (4, None, None),
    ]  # fmt: skip
    assert reasons == ["A record needs at least one of name, email, phone and company"]
    assert warnings == []


@pytest.mark.parametrize("written", ["n/a", "ann@example", "Lee, Ann; a@b", "ann@example.test", "x" * 2_000, "a\tb"])
def test_address_that_is_not_valid_is_stored_with_a_warning(written: str) -> None:
    records, reasons, warnings = load(f'id,name,email\n1,Ann,"{written}"\n'.encode())

    assert ([one["email"] for one in records], reasons) == ([written.replace("\t", " ")], [])
    assert warnings == [("invalid_email", 1)]


@given(st.text(max_size=20), st.sampled_from(["name", "email", *KNOWN]))
def test_no_control_character_is_stored_or_rejects_a_row(text: str, field: str) -> None:
    item = {"id": 1, "name": "Ann", "email": "ann@example.com", field: f"a{text}b"}
    records, reasons, _ = load(json.dumps([item]).encode())

    if not any(ord(c) == 0 or 0xD800 <= ord(c) < 0xE000 for c in text):
        assert reasons == []
    for record in records:
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for value in record.values() for c in str(value))


# Lines below the table

FOOTER = LAYOUTS["salesforce_report"].footer
HEADER, ROW = '"Id","Last Name","Email"\n', '"7","Lee","ann@example.com"\n'


def footer(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("chunk", [7, 40, 150, 1 << 20])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_that_salesforce_adds_are_no_rows(chunk: int, newline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.files.compression.CHUNK", chunk)
    for lines in (FOOTER, FOOTER[1:], FOOTER[:-1], [*FOOTER, ""], FOOTER[2:]):
        text = (HEADER + ROW * 3 + footer(*lines)).replace("\n", newline)
        records, reasons, _ = load(text.encode())
        assert (len(records), reasons) == (3, [])


def test_lines_that_salesforce_adds_are_rows_elsewhere() -> None:
    _, reasons, _ = load((HEADER + ROW + footer(*FOOTER) + ROW).encode())
    assert len(reasons) == 5
    _, reasons, _ = load((HEADER + ROW + footer("", '"All Contacts"', '"Example Ltd"')).encode())
    assert len(reasons) == 2
    _, reasons, _ = load((HEADER + ROW + footer('"8"', *FOOTER)).encode())
    assert len(reasons) == 1
