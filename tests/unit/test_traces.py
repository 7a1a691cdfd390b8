"""Whom a rejected row is about: the id in its own column, and addresses however they are written."""

import io
import json
import unicodedata
from typing import Any

import pytest
from dedup.customer_ids import CustomerId
from dedup.files.reading import read
from dedup.files.tables import Rejected
from dedup.traces import Hashes, addresses, addresses_in_key, words
from dedup.validation import email_address

from tests.conftest import LONG_NAME


def rejected_of(data: str) -> list[Rejected]:
    batches = read(io.BytesIO(data.encode()), "hubspot")
    return [row for batch in batches for row in batch.rejected]


def about(data: str) -> tuple[CustomerId | None, set[str]]:
    """Whom the one rejected row of a file is about."""
    [row] = rejected_of(data)
    return row.customer_id, set(row.addresses)


@pytest.mark.parametrize(
    ("written", "customer_id"),
    [
        ("00042", "00042"),
        ('"=""42"""', 42),
        ("'42", 42),
        ("0035g00000XyZ1a", "0035g00000XyZ1aAAF"),
        ("42.0", 42),
        (" 42 ", 42),
        ('"1,234,567"', 1234567),
        ("1.234.567", 1234567),
        ("1 234 567", 1234567),
        ("-1'042'000", -1042000),
        ('"1,234"', 1234),
        ("1.234", 1234),
        ("x", "x"),
        ("n/a", None),
        ("1.23E+12", None),
        ("x" * 256, None),
        (str(2**63), str(2**63)),
    ],
)
def test_id_of_a_rejected_row_however_written_is_the_one_that_the_reader_reads(
    written: str, customer_id: CustomerId | None
) -> None:
    assert about(f"id,name,email\n{written},{LONG_NAME},ann@example.com\n") == (customer_id, {"ann@example.com"})


@pytest.mark.parametrize(
    ("value", "customer_id"),
    [(7, 7), (7.0, 7), ("7", 7), (2**63, str(2**63)), (True, None), (None, None), ([7], None), (7.5, None)],
)
def test_id_of_a_rejected_row_in_json_is_the_one_that_the_reader_reads(
    value: Any, customer_id: CustomerId | None
) -> None:
    assert about(json.dumps([{"id": value, "name": LONG_NAME, "email": "ann@example.com"}]))[0] == customer_id


def test_id_in_another_column_is_not_the_rows_id() -> None:
    row = f"9,{LONG_NAME},b@example.com,+1 (202) 555 0101,1 Main Street"
    assert about(f"id,name,email,phone,street\n{row}\n") == (9, {"b@example.com"})


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "id,name,email",
            f"7,{LONG_NAME},Ann <ANN@Example.com>; second@x.example",
            {"ann@example.com", "second@x.example"},
        ),
        ("id,name,email", f"7,{LONG_NAME},mailto:ann@example.com?subject=x", {"ann@example.com"}),
        ("id,name,email", f"7,{LONG_NAME},'ann@example.com", {"ann@example.com"}),
        ("id,name,email", f"7,{LONG_NAME},o'brien@example.com", {"o'brien@example.com"}),
        ("id,name,email,Work E-Mail", f"7,{LONG_NAME},,ann@work.example", {"ann@work.example"}),
        ("id,name,email,note", f"7,{LONG_NAME},,ann@example.com called", set()),
        ("id,name,email", "7,Smith, Ann,ann@example.com", {"ann@example.com"}),
        ("id,name,email", '7,"Ann "A" Lee",ann@example.com', {"ann@example.com"}),
    ],
)
def test_addresses_of_a_rejected_row_are_those_in_columns_for_them(header: str, row: str, expected: set[str]) -> None:
    assert about(f"{header}\n{row}\n") == (7, expected)


@pytest.mark.parametrize(
    "row",
    [
        r'{"id": 7, "name": ["Ann"], "email": "ann\u002Bnews@example.com"}',
        r'{"id": "7", "email": ["x", {"work": "Ann\u002bNews@example.com"}]}',
        r'{"name": {"x": ""}, "id": 7, "company": [1], "e-mail": "", "email 2": "ann+news@example.com"}',
        r'{"id": 7, "email": "ann\u002Bnews@example.com", }',
        r'{"record id": 9, "id": "7", "email": "ann\u002Bnews\u0040example.com',
    ],
)
def test_json_escapes_hide_no_address_and_no_id(row: str) -> None:
    good = json.dumps({"id": 1, "name": "B", "email": "b@example.com"})
    assert about(f"{good}\n{row}\n{good}\n") == (7, {"ann+news@example.com"})


@pytest.mark.parametrize(
    "written",
    [
        "rené@münchen.example",
        "RENÉ@MÜNCHEN.EXAMPLE",
        unicodedata.normalize("NFD", "rené@münchen.example"),
        "rené@xn--mnchen-3ya.example",
        "René@XN--MNCHEN-3YA.example.",
        "ｒené＠münchen.example",
    ],
)
def test_addresses_of_one_mailbox_are_normalised_to_the_same_value(written: str) -> None:
    assert addresses(written) == addresses(email_address("rené@münchen.example"))


@pytest.mark.parametrize("text", ["", "@", "a@", "@b", "a b", "a@.", "\udcff@\udcff", "@" * 10_000, "x" * 10_000 + "@"])
def test_any_text_has_addresses_or_none(text: str) -> None:
    hashes = Hashes(b"salt")
    assert all(-(2**63) <= one < 2**63 for one in hashes.emails(addresses(text)))


def test_places_of_rows_in_several_arrays_are_not_the_same() -> None:
    rows = rejected_of('{"customers": [{"id": 1}, {"id": 2}], "Customers": [{"id": 3}]}')
    assert [(row.line, row.customer_id) for row in rows] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(
    "key",
    [
        "incoming/hubspot/ann.lee@example.com",
        "incoming/hubspot/17-Ann.Lee@Example.com.csv.gz",
        "incoming/ann.lee%40example.com/x.csv",
        "incoming/hubspot/export of (ann.lee@example.com)_2026.csv",
    ],
)
def test_address_in_an_objects_key_is_found(key: str) -> None:
    assert "ann.lee@example.com" in addresses_in_key(key)


def test_object_key_of_many_parts_has_few_candidates() -> None:
    assert len(addresses_in_key("a-" * 400 + "@" + "b." * 400)) <= 64
    assert addresses_in_key("incoming/hubspot/night.csv") == set()


def test_words_of_a_text_have_no_case_and_no_accents() -> None:
    assert words("Zoë_MEIER-2026.csv") == {"zoe", "meier", "2026", "csv"}
