"""What is read of files, and what is refused of them."""

import csv
import gzip
import io
import json
import random
import re
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from dedup.customer_ids import CustomerId
from dedup.files.cells import rejected_csv
from dedup.files.checks import reason_for
from dedup.files.compression import CHUNK
from dedup.files.reading import read
from dedup.files.tables import MAX_EXCERPT, Rejected, Unreadable
from dedup.records import KNOWN, NOTHING_IDENTIFYING, NamedFields, Record
from dedup.validation import is_address
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.anything import read_anything
from tests.conftest import budget
from tests.exports import (
    COMPRESSIONS,
    DELIMITERS,
    ENCODINGS,
    FORMATS,
    FORMS,
    NOTE,
    Person,
    csv_text,
    people,
    write,
)
from tests.unit.test_records import addresses

Row = tuple[int, str, str, str]

ANN = (1, "Ann Lee", "ann@example.com", "hubspot")
zstd = COMPRESSIONS["zstd"]
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


class Pieces:
    """A stream that gives its pieces one by one, as a network does, and counts what it gave."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.given = 0

    def read(self, size: int) -> bytes:
        self._rest = self._rest or next(self._pieces, b"")
        part, self._rest = self._rest[:size], self._rest[size:]
        self.given += len(part)
        return part


def load(data: bytes | str, source: str | None = "hubspot") -> tuple[list[Row], list[Rejected]]:
    """Everything that is read of the file: of each row what every record has."""
    batches = list(read(io.BytesIO(data.encode() if isinstance(data, str) else data), source))
    return [row[:4] for batch in batches for row in batch.rows], [row for batch in batches for row in batch.rejected]


def known(data: str) -> list[dict[str, str | None]]:
    """What is read of each row beside what every record has."""
    batches = list(read(io.BytesIO(data.encode()), "hubspot"))
    return [dict(zip(batch.known, row[4:], strict=True)) for batch in batches for row in batch.rows]


def reason_of(data: bytes | str, source: str | None = "hubspot") -> str:
    """Why the whole file is refused."""
    with pytest.raises(Unreadable) as refused:
        load(data, source)
    return str(refused.value)


def ids(rows: Iterable[Row]) -> list[CustomerId]:
    return [customer_id for customer_id, *_ in rows]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that rows, characters and line ends are cut everywhere."""
    monkeypatch.setattr("dedup.files.compression.CHUNK", 37)


# Formats, encodings, compressions


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_every_layout_in_every_format_is_read(form: str, fmt: str, encoding: str, compression: str | None) -> None:
    persons = people(20, "hubspot")

    rows, rejected = load(write(persons, form, fmt, encoding=encoding, compression=compression))

    assert rejected == []
    assert rows == [person.row for person in persons]


@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_every_delimiter_and_line_end(delimiter: str, newline: str) -> None:
    persons = people(50, "salesforce")

    rows, rejected = load(write(persons, "salesforce", delimiter=delimiter, newline=newline), "salesforce")

    assert (rows, rejected) == ([person.row for person in persons], [])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_file_may_be_cut_into_pieces_anywhere(fmt: str, encoding: str) -> None:
    persons = people(20, "hubspot")
    data = write(persons, "hubspot", fmt, encoding=encoding)
    chance = random.Random(0)
    cuts = sorted(chance.sample(range(1, len(data)), 100))
    stream = Pieces(data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True))

    batches = list(read(stream, "hubspot"))

    assert [row[:4] for batch in batches for row in batch.rows] == [person.row for person in persons]
    assert batches[0].bytes_read <= batches[-1].bytes_read <= stream.given == len(data)


# Letters that are no valid UTF-8 in Windows-1252, whatever stands beside them.
western = st.text("abcÀéüøñß -'.", max_size=12)
anything = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)
good_emails = st.emails() | st.sampled_from(["a@example.com", "Info@EXAMPLE.com", "ann+x@bücher.example"])


@st.composite
def exports(draw: st.DrawFn) -> tuple[list[Person], dict[str, Any]]:
    encoding = draw(st.sampled_from(ENCODINGS))
    text = (western if encoding == "cp1252" else anything).map(str.strip)
    email = st.just("a@example.com") if encoding == "cp1252" else good_emails
    named = st.tuples(text, text).filter(lambda names: all(names))
    integers = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 1000)
    persons = draw(
        st.lists(
            st.builds(
                lambda number, names, email: Person(number, names[0], names[1], email, "internal"),
                integers,
                named,
                email,
            ),
            min_size=1,
            max_size=8,
        )
    )
    return persons, {
        "form": draw(st.sampled_from([*FORMS])),
        "fmt": draw(st.sampled_from(FORMATS)),
        "delimiter": draw(st.sampled_from(DELIMITERS)),
        "newline": draw(st.sampled_from(["\r\n", "\n", "\r"])),
        "encoding": encoding,
        "compression": draw(st.sampled_from([*COMPRESSIONS])),
    }


@given(exports(), st.integers(32, 200))
@settings(max_examples=budget(100, 500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_round_trip_through_every_format(made: tuple[list[Person], dict[str, Any]], chunk: int) -> None:
    persons, how = made
    expected = [Record.model_validate(dict(zip(NamedFields.model_fields, p.row, strict=True))) for p in persons]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dedup.files.compression.CHUNK", chunk)
        rows, rejected = load(write(persons, **how), "internal")

    assert rejected == []
    assert rows == [(r.customer_id, r.name, r.email, r.source) for r in expected]


names = st.text(max_size=6) | st.sampled_from(["x" * 255, "x" * 256, "a\0b", "\ud800", " padded ", "", 5, None])
emails: st.SearchStrategy[Any] = (
    addresses
    | st.builds(
        lambda local, domain: f"{local}@{domain}",
        st.text("aBz09._+-", max_size=66) | st.sampled_from(["info", "Info", "SALES", "Sales.x", "a" * 64, "a" * 65]),
        st.sampled_from(
            [
                "example.com",
                "a.test",
                "EXAMPLE.com",
                "xn--bcher-kva.example",
                ".".join(["a" * 60] * 4) + ".com",
                "\ud800.com",
            ]
        ),
    )
    | st.sampled_from([None, 5, ["a@example.com"]])
)


def reason(problem: Any) -> str:
    if problem["loc"] == ("email",) and problem["type"] == "value_error":
        return ""  # a text that cannot be stored: all others are stored as written
    return reason_for(str(problem["loc"][0]), problem["type"], problem["msg"])[:900]


def on_one_line(value: Any) -> Any:
    """The value as files store it: without control characters except NUL, None if it is blank."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\s*[\x01-\x1f\x7f-\x9f][\s\x01-\x1f\x7f-\x9f]*", " ", value).strip() or None


@given(st.lists(st.tuples(st.integers(), names, emails), min_size=1, max_size=6))
@example([(1, "Ann", "Info@example.com"), (2**63, "", "x"), (3, "Bob", "bob@example.com")])
@example([(1, "Ann", "a" * 64 + "@" + "a." * 93 + "com")])
@settings(max_examples=budget(100, 500), deadline=None)
def test_rows_are_accepted_and_refused_as_record_does(values: list[tuple[int, Any, Any]]) -> None:
    expected: list[Any] = []
    for customer_id, name, email in values:
        [email] = email if isinstance(email, list) else [email]
        name, email = on_one_line(name), on_one_line(email)
        kept = (
            email if isinstance(email, str) and not is_address(email) and not re.search("[\0\ud800]", email) else None
        )
        given_fields = {"customer_id": str(customer_id), "name": name, "email": email if kept is None else None}
        try:
            read_fields = NamedFields.model_validate({**given_fields, "source": "hubspot"})
        except ValidationError as error:
            expected.append([(problem["loc"][0], reason(problem)) for problem in error.errors()])
        else:
            row = (read_fields.customer_id, read_fields.name, kept or read_fields.email, "hubspot")
            expected.append(row if row[1] or row[2] else [("", NOTHING_IDENTIFYING)])

    lines = [json.dumps(dict(zip(("id", "name", "email"), row, strict=True))) for row in values]
    rows, rejected = load("\n".join(lines))

    assert rows == [row for row in expected if isinstance(row, tuple)]
    refused = [(line, reasons) for line, reasons in enumerate(expected, 1) if isinstance(reasons, list)]
    assert [(bad.line, bad.field) for bad in rejected] == [
        (line, ", ".join(str(name) for name, _ in reasons)) for line, reasons in refused
    ]
    for bad, (_, reasons) in zip(rejected, refused, strict=True):
        assert all(reason.encode(errors="replace").decode()[:60].split("?")[0] in bad.reason for _, reason in reasons)


def test_format_is_seen_from_content_after_blank_lines() -> None:
    assert ids(load("\n \n" + json.dumps([{"id": 1, "name": "A", "email": "a@example.com"}]))[0]) == [1]
    assert load("\r\n\r\nid,name,email\r\n,A,a@example.com\r\n")[1][0].line == 4


def test_gzip_of_several_members_and_zstd_of_several_frames() -> None:
    first, second = b"id,name,email\n1,A,a@example.com\n", b"2,B,b@example.com\n"

    assert ids(load(gzip.compress(first) + gzip.compress(second))[0]) == [1, 2]
    assert ids(load(zstd(first) + zstd(second))[0]) == [1, 2]


# CSV


def test_quoted_line_break_stays_in_its_field() -> None:
    text = csv_text(
        [["id", "notes", "name", "email"], [1, NOTE, "Ann", "a@example.com"], ["", "x", "", "b@example.com"]]
    )

    rows, [rejected] = load(text)

    assert ids(rows) == [1]
    assert rejected.line == text[: text.index(",x,,")].count("\n") + 1 == 4


@pytest.mark.usefixtures("small_chunks")
def test_line_is_the_physical_one_on_which_the_row_begins() -> None:
    text = 'id,name,email,notes\n\n1e9,Ann,bad,"a\n\nb"\r\n2,Bob,b@example.com,"c\rd"\n1e9,,e@example.com,\n'

    rows, rejected = load(text)

    assert ids(rows) == [2]
    assert [(row.line, row.row) for row in rejected] == [(3, '1e9,Ann,bad,"a\n\nb"'), (8, "1e9,,e@example.com,")]


def test_header_in_any_order_and_case() -> None:
    assert load("E-MAIL; Full_Name ;Source;RECORD ID\nann@example.com;Ann Lee;HubSpot;1\n")[0] == [ANN]


def test_name_is_made_of_first_and_last_where_there_is_none() -> None:
    rows, rejected = load(
        "Id,Name,FirstName,LastName,Email\n"
        "1,Ann Lee,A,L,a@example.com\n2,,Bob,Ray,b@example.com\n3,,,Ray,c@example.com\n4,,,,d@example.com\n"
    )

    assert [name for _, name, *_ in rows] == ["Ann Lee", "Bob Ray", "Ray", None]
    assert rejected == []


def test_fields_are_trimmed_and_extra_columns_ignored() -> None:
    assert load('id,x,name,email\n "1" ,\x07, Ann Lee\u00a0,\tann@example.com\n')[0] == []
    assert load("id,x,name,email\n 1 ,\x07, Ann Lee\u00a0,\tann@example.com \n")[0] == [ANN]


def test_empty_lines_and_empty_rows_are_skipped() -> None:
    assert load("id,name,email\n\n1,Ann Lee,ann@example.com\n , ,\n,,\n   \n\n") == ([ANN], [])


def test_short_row_is_rejected_and_long_one_unless_its_rest_is_empty() -> None:
    rows, rejected = load("id,name,email\n1,Ann Lee\n1,Ann Lee,ann@example.com,,\n2,Ann,a@example.com,,x\n3\n")

    assert rows == [ANN]
    assert [(row.line, row.field, row.reason) for row in rejected] == [
        (2, "", "The row has 2 fields, but the header has 3: no email"),
        (4, "", "The row has 5 fields, but the header has 3"),
        (5, "", "The row has 1 fields, but the header has 3: no name and email"),
    ]


def test_what_need_not_be_there_may_be_left_out_at_the_end_of_a_row() -> None:
    text = (
        "id,name,email,phone,source,x,city,mobile\n"
        "1,Ann Lee,ann@example.com\n"
        "1,Ann Lee,ann@example.com,7\n"
        "1,Ann Lee,ann@example.com,,hubspot,,Ulm\n"
        "1,Ann Lee,ann@example.com,,hubspot,,,8\n"
    )

    assert load(text) == ([ANN] * 4, [])
    assert [(row.get("phone"), row.get("city")) for row in known(text)] == [
        (None, None),
        ("7", None),
        (None, "Ulm"),
        ("8", None),
    ]
    assert [row.reason for row in load(text, None)[1]] == [
        "The source is missing, and no source was given for the upload"
    ] * 2


def test_row_that_ends_before_a_part_of_its_name_is_rejected() -> None:
    rows, rejected = load("Id,Email,First Name,Phone,Last Name\n1,ann@example.com,Ann,7\n1,ann@example.com,Ann,,Lee\n")

    assert rows == [ANN]
    assert [row.reason for row in rejected] == ["The row has 4 fields, but the header has 5: no last_name"]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("said", ["sep=;", '"sep=;"', "\ufeffSEP=; ", "\r\n\r\nsep=;"])
def test_delimiter_is_the_one_that_excel_is_told(said: str) -> None:
    # With a comma the header would name more of what we know.
    text = f'{said}\r\n\r\n"id";name;email;"phone,city,zip"\r\n1;Ann Lee;ann@example.com;\r\n1e9;;b@example.com;\r\n'

    rows, [rejected] = load(text)

    assert rows == [ANN]
    assert rejected.line == text.encode().decode("utf-8-sig").count("\r\n", 0, text.index("1e9;;")) + 1


def test_delimiter_that_excel_is_told_may_be_any_other() -> None:
    assert load("sep=^\nid^name^email\n1^Ann Lee^ann@example.com\n")[0] == [ANN]
    assert load("sep=\t\nid\tname\temail\n1\tAnn Lee\tann@example.com\n")[0] == [ANN]
    assert "no column for customer_id" in reason_of("sep=;\nid,name,email\n1,Ann Lee,ann@example.com\n")
    assert "no column for customer_id" in reason_of("sep=;\n")


@pytest.mark.parametrize(
    "broken", ['"2,Bob,b@example.com', '2,"Bob "Bobby" Ray",b@example.com', '2,Bob,"b@example.com']
)
def test_broken_quotes_reject_their_row_and_no_other(broken: str) -> None:
    good = "".join(f"{number},Ann,ann{number}@example.com\n" for number in range(10, 3000))

    rows, rejected = load(f"id,name,email\n1,A,a@example.com\n{broken}\n{good}")

    assert ids(rows) == [1, *range(10, 3000)]
    assert [(row.line, row.field, row.row) for row in rejected] == [(3, "", broken)]
    assert rejected[0].reason.startswith("Not valid CSV: ")


@pytest.mark.usefixtures("small_chunks")
def test_quote_left_open_at_the_end_takes_no_row_with_it() -> None:
    rows, rejected = load('id,name,email\n1,"A,a@example.com\n2,B,b@example.com\n3,C,c@example.com')

    assert ids(rows) == [2, 3]
    assert [row.reason for row in rejected] == ["Not valid CSV: a quote is not closed"]


def test_quote_inside_an_unquoted_field_is_a_character() -> None:
    assert load('id,name,email\n1,Ann 5" Lee,ann@example.com\n')[0][0][1] == 'Ann 5" Lee'


def test_field_of_a_megabyte_is_rejected_alone() -> None:
    big = "x" * 1_000_000
    lines = [
        "id,name,email",
        "1,A,a@example.com",
        f"2,{big},b@example.com",
        f"3,{big}{big},c@example.com",
        "4,D,d@example.com",
    ]

    rows, rejected = load("\n".join(lines))

    assert ids(rows) == [1, 4]
    assert [row.line for row in rejected] == [3, 4]
    assert "longer than 1,048,576 characters" in rejected[1].reason
    assert all(len(row.row) <= MAX_EXCERPT for row in rejected)


def test_row_of_many_megabytes_without_end_is_not_kept() -> None:
    pieces = [b"id,name,email\n1,A,a@example.com\n2,", *[b"x" * 1_000_000] * 20, b"\n3,C,c@example.com\n"]
    tracemalloc.start()
    batches = list(read(Pieces(pieces), "hubspot"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert ids(row for batch in batches for row in batch.rows) == [1, 3]
    assert peak < 40_000_000


def test_nul_rejects_its_row_wherever_it_is() -> None:
    rows, rejected = load("id,name,email,x\n1,A\0nn,a@example.com,\n2,Bob,b@example.com,\0\n3,C,c@example.com,\n")

    assert ids(rows) == [3]
    assert [(row.line, row.field, row.reason) for row in rejected] == [
        (2, "name", "NUL characters are not allowed; Control characters are not allowed"),
        (3, "", "NUL characters are not allowed"),
    ]
    assert rejected[0].row == "1,A\ufffdnn,a@example.com,"


# Encodings


def test_windows_1252_is_seen_late() -> None:
    ascii_rows = "".join(f"{number},Ann,a{number}@example.com\n" for number in range(60_000))

    rows, rejected = load(("id,name,email\n" + ascii_rows + "99999,Zoë “Z” 50€,z@example.com\n").encode("cp1252"))

    assert rejected == []
    assert rows[-1] == (99999, "Zoë “Z” 50€", "z@example.com", "hubspot")


@pytest.mark.usefixtures("small_chunks")
def test_last_letter_of_a_file_tells_its_encoding() -> None:
    data = "id,email,name\n1,a@example.com,José"

    assert load(data.encode("cp1252"))[0][0][1] == load(data.encode("utf-8"))[0][0][1] == "José"


def test_broken_bytes_in_utf8_reject_their_row() -> None:
    data = "id,name,email\n1,José,a@example.com\n2,Zoë,b@example.com\n".encode() + b"3,Jos\xe9,c@example.com\n"

    rows, [rejected] = load(data)

    assert ids(rows) == [1, 2]
    assert rejected.cells == (4, "name", rejected.reason, "3,Jos\ufffd,c@example.com")
    assert rejected.reason.startswith("Invalid bytes for the file's encoding; ")


def test_byte_that_windows_1252_does_not_have_rejects_its_row() -> None:
    rows, rejected = load(b"id,name,email\n1,Jos\xe9,a@example.com\n2,\x81\xe9\xe9,b@example.com\n")

    assert (ids(rows), [row.line for row in rejected]) == ([1], [3])


def test_utf16_without_mark_and_cut_utf16_are_unreadable() -> None:
    text = "id,name,email\n1,A,a@example.com\n"

    assert "UTF-16 without a byte order mark" in reason_of(text.encode("utf-16-le"))
    assert "middle of a character" in reason_of(text.encode("utf-16")[:-1])


# JSON


def test_envelope_with_other_keys_around_it() -> None:
    assert load('{"meta": {"a": [1, {"customers": 2}]}, "Customers": [{"id": 1, "name": "Ann Lee", '
                '"email": "ann@example.com", "extra": {"x": ["]}"]}}], "next": null}')[0] == [ANN]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"customers": [{"id": 1}', "found the end"),
        ('[{"id": 1, "name', "Not valid JSON: Unterminated string"),
        ('[{"id": 1} {"id": 2}]', "expected ',' or ']', found '{'"),
        ("[1, 2] 3", "there is text after the end of the document"),
        ("[nope]", "a value is cut off or not valid"),
        ("[NaN]", "NaN is not valid in JSON"),
        ("[" * 200_000, "Not valid JSON"),
        ("[" + "9" * 5000 + "]", "Not valid JSON"),
        ('{\n"data": []\n}', 'no array "customers"'),
        ('{"customers": {}}', 'no array "customers"'),
        ('{"customers": []}', "no rows"),
        ("[]", "no rows"),
        ("[" + '"' * 3, "Not valid JSON"),
    ],
)
def test_broken_json_document_is_unreadable(text: str, reason: str) -> None:
    assert reason in reason_of(text)


def test_items_that_are_no_records_are_rejected_by_their_place() -> None:
    good = {"id": 1, "name": "Ann Lee", "email": "ann@example.com"}

    rows, rejected = load(json.dumps([5, good, None, [good], {}, {"id": 1, "Record ID": 2}]))

    assert rows == [ANN]
    assert [(row.line, row.field, row.reason, row.row) for row in rejected] == [
        (1, "", "Expected a JSON object", "5"),
        (3, "", "Expected a JSON object", "null"),
        (4, "", "Expected a JSON object", json.dumps([good])),
        (
            5,
            "customer_id",
            "The customer_id is missing",
            "{}",
        ),
        (
            6,
            "",
            "'id' and 'Record ID' both map to customer_id. Remove or rename one of them",
            '{"id": 1, "Record ID": 2}',
        ),
    ]


def test_item_of_a_megabyte_is_rejected_alone_and_endless_one_ends_the_file() -> None:
    good = {"id": 1, "name": "Ann Lee", "email": "ann@example.com"}

    rows, [rejected] = load(json.dumps([good, {**good, "x": "y" * 2_000_000}]))

    assert rows == [ANN]
    assert "longer than" in rejected.reason
    stream = Pieces([b'[{"id": "', *[b"x" * 1_000_000] * 100])
    with pytest.raises(Unreadable, match="Unterminated"):
        list(read(stream, "hubspot"))
    assert stream.given < 12_000_000


@pytest.mark.parametrize("bad", ["{", '{"id": 2}}', "nope", '"text"', "[]", "[" * 200_000, "{" + "9" * 5000])
def test_bad_line_of_ndjson_stops_no_good_one(bad: str) -> None:
    good = '{"id": 1, "name": "Ann Lee", "email": "ann@example.com"}'

    for text in (f"{good}\n{bad}\n\n{good}", f'{{"id"\n{bad}\n{good}\n{good}'):
        rows, rejected = load(text)
        assert rows == [ANN, ANN]
        assert rejected[-1].line == 2


def test_value_of_another_type_is_rejected() -> None:
    made = [{"id": True, "name": 5, "email": [5], "source": 7}]
    made.append({"id": 1.5, "first_name": 1, "last_name": "x", "email": 8})

    _, rejected = load(json.dumps(made), None)

    assert [row.field for row in rejected] == ["customer_id, name, email, source"] * 2


# Columns


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("record id,id,name,email", "'record id' and 'id' both map to customer_id"),
        ("id,customer_id,name,email,Customer-ID", "'customer_id' and 'Customer-ID' both map to customer_id"),
        ("id,name,Email,E-Mail", "'Email' and 'E-Mail' both map to email"),
        ("id,name,name,email", "'name' and 'name' both map to name"),
        ("id,Work Email,Contact: Email,Work e-mail", "'Work Email' and 'Work e-mail' both map to email"),
        ("LEID,(Do Not Modify) Contact,email", "'LEID' and '(Do Not Modify) Contact' both map to customer_id"),
        ("id,city", "no column for any of name, email, phone, company"),
        ("first name,email", "no column for customer_id"),
        (
            "1,Ann,ann@example.com",
            "no column for customer_id, or for any of name, email, phone, company. The first row",
        ),
        ("<html>", "No usable header"),
        ('"id,name,email', "No usable header"),
    ],
)
def test_unusable_header_is_named(header: str, reason: str) -> None:
    assert reason in reason_of(f"{header}\n1,Ann,ann@example.com,x\n")


@pytest.mark.parametrize("row", ["7,Zebulon,zeb@wyvern.example", "Zebulon", '"Zebulon",wyvern', "sep=;\nZebulon;7"])
def test_unusable_header_is_not_quoted_since_it_may_be_somebodys_row(row: str) -> None:
    reason = reason_of(f"{row}\n8,Wyvern,wyvern@example.com\n")

    assert "no column for customer_id" in reason
    assert not re.search("zebulon|wyvern|7", reason, re.IGNORECASE)


def test_a_fields_own_name_outranks_what_others_call_it() -> None:
    assert load("Record ID,id,customer_id,name,email\n8,9,1,Ann Lee,ann@example.com\n")[0] == [ANN]
    item = {"record_id": 8, "customer_id": 1, "id": 9, "name": "Ann Lee", "email": "ann@example.com"}
    assert load(json.dumps(item))[0] == [ANN]


# Ids


@pytest.mark.parametrize(
    ("written", "customer_id"),
    [
        ("42", 42), (" 42 ", 42), ("-42", -42), ("0", 0), ("9223372036854775807", 2**63 - 1),
        ('="123"', 123), ("'123", 123), ("'123'", 123), ('"123"', 123),
        ("1,234,567", 1234567), ("1.234.567", 1234567), ("-1,234,567", -1234567),
        ("1 234", 1234), ("1\u00a0234\u00a0567", 1234567), ("12\u202f345", 12345), ("1'234'567", 1234567),
        ("1’234", 1234),
        ("123.0", 123), ("123.00", 123), ("123,0", 123), ("9007199254740991.0", 2**53 - 1),
        ("00042", "00042"), ('="00123"', "00123"), ("'00123", "00123"), ("9223372036854775808", str(2**63)),
        ("9" * 65, "9" * 65), ("0035g00000XyZ1a", "0035g00000XyZ1aAAF"), ("'-x", "-x"), ("'t Hooft", "'t Hooft"),
        *((text, text) for text in (
            "cus_NffrFeUfNV2Hib", "7c1d-ee11", "12.5", "1.2.3", "1,234.567", "0,123,456", "1 23", "+5", "--5", "1_000",
            "٣", "１２", "0x10", "=1+1", "1'234 567", "Müller & Söhne",
        )),
        ("1\n2", "1 2"), ("a\t b", "a b"),
    ],
)  # fmt: skip
def test_id_as_systems_and_spreadsheets_write_it(written: str, customer_id: CustomerId) -> None:
    header = ["id", "name", "email"]
    rows: list[list[object]] = [[written, "A", "a@example.com"], [7, "B", "b@example.com"]]

    assert ids(load(csv_text([header, *rows]))[0]) == [customer_id, 7]
    assert ids(load(json.dumps([dict(zip(header, row, strict=True)) for row in rows]))[0]) == [customer_id, 7]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("1.234", "thousands separator or a decimal separator"),
        ("1,234", "thousands separator or a decimal separator"),
        ("1.000", "thousands separator or a decimal separator"),
        ("1.23E+12", "Scientific notation has lost digits"),
        ("1,23e12", "Scientific notation has lost digits"),
        ("9007199254740992.0", "has lost digits"),
        ("9007199254740993.0", "has lost digits"),
        ("-9007199254740993.0", "has lost digits"),
        ("1,23,456", "thousands separator or a decimal separator"),
        ("0035g00000XyZ1aAAB", "do not belong to this Salesforce id"),
        ("x" * 256, "The customer_id has more than 255 characters"),
        *((text, "The customer_id is missing") for text in ("", '=""', "-", "n/a", "#N/A", "NaN", "null", "None")),
    ],
)  # fmt: skip
def test_id_that_is_not_certain_is_rejected(written: str, reason: str) -> None:
    rows, [rejected] = load(
        csv_text([["id", "name", "email"], [written, "A", "a@example.com"], [7, "B", "b@example.com"]])
    )

    assert ids(rows) == [7]
    assert rejected.field == "customer_id"
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("123.0", [123]),
        ("1e3", [1000]),
        ("1.5", []),
        ("1e400", []),
        ("1e300", []),
        ("9007199254740991.0", [2**53 - 1]),
        ("-9007199254740991.0", [1 - 2**53]),
        ("9007199254740992.0", []),
        ("9007199254740993.0", []),  # the same number as the one before, once it is read
        ("-9007199254740993.0", []),
        ("9007199254740993", [2**53 + 1]),
    ],
)
def test_decimal_number_of_json_is_an_id_when_it_is_whole_and_exact(number: str, expected: list[int]) -> None:
    assert ids(load(f'{{"id": {number}, "name": "A", "email": "a@example.com"}}\n')[0]) == expected


# Sources


def test_source_of_the_row_or_of_the_upload() -> None:
    said = {1: " HubSpot", 2: "", 3: "internal", 4: "x"}
    text = "".join(
        ["id,name,email,source\n", *(f"{number},A,a@example.com,{source}\n" for number, source in said.items())]
    )

    rows, rejected = load(text, "hubspot")
    assert [(row[0], row[3]) for row in rows] == [(1, "hubspot"), (2, "hubspot")]
    assert [(row.field, row.reason) for row in rejected] == [
        ("source", "The source 'internal' differs from the upload's source 'hubspot'"),
        ("source", "The source 'x' differs from the upload's source 'hubspot'"),
    ]

    rows, rejected = load(text, None)
    assert [(row[0], row[3]) for row in rows] == [(1, "hubspot"), (3, "internal")]
    assert [row.reason for row in rejected] == [
        "The source is missing, and no source was given for the upload",
        "Unknown source. Expected 'salesforce', 'hubspot' or 'internal'",
    ]


def test_no_source_at_all_is_unreadable_and_so_is_an_unknown_one() -> None:
    assert "no source column" in reason_of("id,name,email\n1,A,a@example.com\n", None)
    assert "'sap'" in reason_of("id,name,email\n1,A,a@example.com\n", "sap")


# Whole files


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "The file is empty"),
        (b" \r\n\n ", "The file is empty"),
        (b"\xef\xbb\xbf", "The file is empty"),
        (gzip.compress(b"", mtime=0), "The file is empty"),
        (b"id,name,email", "no rows"),
        (b"id,name,email\r\n\r\n,,\r\n", "no rows"),
        (PNG, "PNG images are not supported"),
        (b"PK\x03\x04\x14\0", "The workbook is damaged"),
        (b"PAR1\x15\x04", "The Parquet file is damaged"),
        (gzip.compress(gzip.compress(b"id", mtime=0), mtime=0), "compressed twice"),
        (b"BZh91AY&SY", "bzip2"),
        (bytes(range(32)) * 10, "not CSV, JSON, NDJSON, xlsx, ODS or Parquet"),
        (b"\0" * 1000, "not CSV, JSON, NDJSON, xlsx, ODS or Parquet"),
        (random.Random(0).randbytes(5000), "no"),
        (b"\x1f\x8b", "damaged or cut off"),
        (b"\x28\xb5\x2f\xfd", "damaged or cut off"),
        (gzip.compress(b"id,name,email\n1,A,a@example.com\n", mtime=0) + b"garbage", "damaged or cut off"),
    ],
)
def test_file_that_holds_no_rows_is_unreadable(data: bytes, reason: str) -> None:
    assert reason in reason_of(data)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_truncated_compression_is_unreadable_wherever_it_is_cut(compression: str) -> None:
    data = write(people(200, "hubspot"), compression=compression)

    for length in {4, 10, 100, len(data) // 2, len(data) - 5, len(data) - 1}:
        assert "damaged or cut off" in reason_of(data[:length])


def test_file_of_bad_rows_is_all_rejected() -> None:
    rows, rejected = load("id,name,email\n" + "1e9,,bad\n" * 1000)

    assert rows == []
    assert {row.field for row in rejected} == {"customer_id"}
    assert [row.line for row in rejected] == [*range(2, 1002)]


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_bomb_is_stopped_early(compress: Any) -> None:
    row = compress((b"x" * 200_000 + b"\n") * 50)
    stream = Pieces([compress(b"id,name,email\n1,A,a@example.com\n"), *[row] * 1000])

    with pytest.raises(Unreadable, match="expands to more than 200 times its size"):
        list(read(stream, "hubspot"))

    assert stream.given < 20 * len(row) + CHUNK


def test_repetitive_export_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.files.compression.BOMB_FROM", 500_000)
    text = "".join(f"{number},Ann,ann@example.com,{'n/a,' * 80}\n" for number in range(3000))
    data = gzip.compress((f"id,name,email{',x' * 81}\n" + text).encode())

    assert len(text) > 30 * len(data)
    assert len(load(data)[0]) == 3000


def test_errors_of_the_stream_pass_through() -> None:
    def broken() -> Iterator[bytes]:
        yield b"id,name,email\n1,A,a@example.com\n"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        list(read(Pieces(broken()), "hubspot"))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (b"id,name,email\n", b"1,Ann Lee,ann@example.com\n"),
        (b'id,name,email\n2,"Bob\n', b"1,Ann Lee,ann@example.com\n"),
        (b"id,name,email,notes\n", b"1,,ann@example.com," + b"y" * 200 + b"\n"),
        (b'{"customers": [', b'{"id": 1, "name": "Ann Lee", "email": "ann@example.com"},\n'),
        (b"", b'{"id": 1, "name": "Ann Lee", "email": "ann@example.com"}\n'),
    ],
    ids=["csv", "open quote", "bad rows", "json", "ndjson"],
)
def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch, head: bytes, row: bytes) -> None:
    monkeypatch.setattr("dedup.files.compression.CHUNK", 32_000)
    block = row * (13_000 // len(row))
    stream = Pieces([head, *[block] * 60])
    batches = read(stream, "hubspot")
    next(batches)
    ahead = csv.field_size_limit() + 4 * 32_000
    assert stream.given < ahead

    tracemalloc.start()
    try:
        for _ in batches:
            pass
    except Unreadable:
        assert head.startswith(b"{")  # the array has no end
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert stream.given == len(head) + 60 * len(block) > 2 * ahead
    assert peak < 20 * 32_000 + 2_000_000


# Anything at all


starts = st.sampled_from(
    [
        b"",
        b"id,name,email\n",
        b"[",
        b'{"customers":[',
        b'{"id":',
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ]
)


@given(
    st.builds(bytes.__add__, starts, st.binary(max_size=200)), st.sampled_from([None, "hubspot"]), st.integers(16, 100)
)
@settings(max_examples=budget(200, 2000), deadline=None)
def test_no_bytes_break_it(data: bytes, source: str | None, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dedup.files.compression.CHUNK", chunk)
        read_anything(data, source)


@given(
    st.sampled_from(FORMATS),
    st.sampled_from(ENCODINGS),
    st.sampled_from([*COMPRESSIONS]),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 6)), max_size=6),
    st.integers(16, 3000),
)
@settings(max_examples=budget(150, 1000), deadline=None)
def test_no_damage_breaks_it(
    fmt: str, encoding: str, compression: str | None, damage: list[tuple[int, bytes, int]], chunk: int
) -> None:
    data = bytearray(write(people(8, "hubspot"), "hubspot", fmt, encoding=encoding, compression=compression))
    for place, put, taken in damage:
        place %= len(data) + 1
        data[place : place + taken] = put

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dedup.files.compression.CHUNK", chunk)
        read_anything(bytes(data), "hubspot")


# Rejected rows as a file


def cells(rejected: Iterable[Rejected]) -> list[list[str]]:
    text = b"".join(rejected_csv(rejected)).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_rejected_rows_as_csv() -> None:
    data = b"".join(rejected_csv([Rejected(2, "name", "empty", '1,"a\nb"')]))

    assert data.startswith(b"\xef\xbb\xbf")
    assert cells([Rejected(2, "name", "empty", '1,"a\nb"')]) == [
        ["line", "field", "reason", "row"],
        ["2", "name", "empty", '1,"a\nb"'],
    ]
    assert cells([]) == [["line", "field", "reason", "row"]]


@pytest.mark.parametrize(
    ("row", "safe"),
    [
        ("=1+1,x", "'=1+1,x"),
        ("\"=cmd|' /C calc'!A0\",x", "\"'=cmd|' /C calc'!A0\",x"),
        (" \t=1", " \t'=1"),
        ("\tx", "'\tx"),
        ("1;=HYPERLINK()", "1;'=HYPERLINK()"),
        ("1\t@SUM(A1)", "1\t'@SUM(A1)"),
        ("a\n-2", "a\n'-2"),
        ("+44", "'+44"),
        ("＝1", "'＝1"),
        ("1,Ann Lee,ann@example.com", "1,Ann Lee,ann@example.com"),
        ("a-b=c", "a-b=c"),
    ],
)
def test_rejected_row_is_no_formula_in_a_spreadsheet(row: str, safe: str) -> None:
    assert cells([Rejected(2, "", "x", row)])[1][3] == safe


@given(st.text("=+-@\t\r\n ,;|\"'a＝", max_size=12))
@example("\n" * 20_000)
@settings(deadline=None)
def test_no_cell_begins_a_formula_wherever_it_is_split(row: str) -> None:
    text = b"".join(rejected_csv([Rejected(2, row, row, row)])).decode("utf-8-sig")

    for cell in re.split(r"[,;|\t\r\n]", text):
        assert cell.strip('" \t')[:1] not in {*"=+-@＝"} - {""}


# What is known beside name and email


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ("Phone", "phone"),
        ("Phone Number", "phone"),
        ("Account Name", "company"),
        ("Company name", "company"),
        ("MailingStreet", "address"),
        ("Mailing Street", "address"),
        ("Street Address", "address"),
        ("MailingCity", "city"),
        ("Mailing Zip/Postal Code", "postcode"),
        ("Postal Code", "postcode"),
        ("Country/Region", "country"),
        ("Birthdate", "date_of_birth"),
        ("Date of birth", "date_of_birth"),
        *((name, name) for name in KNOWN),
    ],
)
def test_what_crms_call_what_is_known(column: str, field: str) -> None:
    assert known(f"Id,Name,Email,{column}\n1,Ann Lee,ann@example.com,something\n") == [{field: "something"}]


@pytest.mark.parametrize("fmt", ["csv", "ndjson", "array"])
def test_of_several_columns_for_one_known_field_the_first_that_says_something_counts_in_each_row(fmt: str) -> None:
    header = ["Mobile", "Mobile Phone", "Id", "Name", "Email", "Phone", "Zip"]
    rows = [["3", "2", n, "Ann Lee", "ann@example.com", "1", ""] for n in range(5)]
    rows[1][5] = rows[2][5] = rows[3][5] = rows[4][5] = " "
    rows[2][1] = rows[3][1] = rows[4][1] = ""
    rows[3][0] = ""
    rows[4][0] = " 4 "
    objects = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    texts = {"csv": csv_text([header, *rows]), "ndjson": "\n".join(objects), "array": f"[{','.join(objects)}]"}
    assert [row.get("phone") for row in known(texts[fmt])] == ["1", "2", "3", None, "4"]


def test_a_key_of_json_that_is_null_gives_way_to_another_and_one_that_is_wrong_does_not() -> None:
    item = {"id": 1, "name": "Ann Lee", "email": "ann@example.com", "mobile": 7}
    assert known(json.dumps([item | {"phone": None}, item | {"phone": 0}])) == [
        {"phone": "7", "phones": None},
        {"phone": "0", "phones": ["0", "7"]},
    ]
    assert load(json.dumps([item | {"phone": [["8"]]}]))[1][0].field == "phone"


def test_a_known_field_is_kept_on_one_line_and_a_number_as_its_digits() -> None:
    item = {"id": 1, "name": "Ann Lee", "email": "ann@example.com", "address": "1 High St\r\nFloor 2\t", "zip": 97201}
    assert known(json.dumps([item])) == [{"address": "1 High St Floor 2", "postcode": "97201"}]


def test_a_known_field_with_a_number_that_lost_digits_refuses_its_row() -> None:
    item = {"id": 1, "name": "Ann Lee", "email": "ann@example.com"}
    numbers = ["9007199254740993.0", "1e400", "9007199254740991.0", "9007199254740993"]
    lines = [json.dumps(item)[:-1] + f', "phone": {number}}}' for number in numbers]

    _, rejected = load("\n".join(lines))

    assert [row["phone"] for row in known("\n".join(lines))] == ["9007199254740991.0", "9007199254740993"]
    assert [(row.field, "has lost digits" in row.reason) for row in rejected] == [("phone", True), ("phone", True)]


def test_an_empty_known_field_is_not_known() -> None:
    data = "Id,Name,Email,Phone\n1,Ann Lee,ann@example.com, \n2,Bo Lee,bo@example.com,7\n"
    assert [row.get("phone") for row in known(data)] == [None, "7"]


def test_a_known_field_that_can_not_be_kept_refuses_its_row() -> None:
    items = [{"id": 1, "name": "Ann Lee", "email": "ann@example.com", "phone": value} for value in ("7" * 256, [["7"]])]
    rows, rejected = load(json.dumps(items))
    assert (rows, [row.field for row in rejected]) == ([], ["phone", "phone"])
