"""Column mappings: what is proposed for unknown headers, and what a mapping makes of a file in every format."""

import io
import json
from importlib.resources import files as resources
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from dedup.files.columns import COLUMNS, SEVERAL
from dedup.files.dates import AMBIGUOUS_DATES
from dedup.files.inference import propose
from dedup.files.mapping import (
    IGNORE,
    ColumnMapping,
    InvalidMapping,
    Mapper,
    NeedsMapping,
    SavedMapping,
    check,
    column_names,
)
from dedup.files.reading import Batch, read
from dedup.files.samples import samples_of
from dedup.files.tables import Unreadable
from dedup.findings import Findings
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT, budget
from tests.crm_exports import LAYOUTS, contacts, write
from tests.unit.test_layouts import ALL_NAMES

UNKNOWN = "cust_no,e_mail_addr,tel,firm\n" + "".join(
    f"{n},c{n}@example.com,+1 202 555 01{n % 100:02},Firm {n}\n" for n in range(100, 140)
)
MAPPED = {"cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "firm": "company"}


def question(data: str | bytes, **options: Any) -> NeedsMapping:
    mapper = Mapper(**options)
    with pytest.raises(NeedsMapping) as raised:
        list(read(io.BytesIO(data.encode() if isinstance(data, str) else data), "hubspot", mapper=mapper))
    return raised.value


def load(data: str | bytes, mapping: ColumnMapping | None = None, **options: Any) -> list[Batch]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return list(read(stream, "hubspot", mapper=Mapper(mapping, **options)))


def records(batches: list[Batch]) -> list[dict[str, Any]]:
    return [
        {n: v for n, v in zip(("customer_id", "name", "email", "source", *batch.known), row, strict=True) if v}
        for batch in batches
        for row in batch.rows
    ]


def fields(asked: NeedsMapping) -> dict[str, str | None]:
    return {column.name: column.field for column in asked.columns}


# What is proposed


def test_header_that_nobody_knows_is_proposed_whole() -> None:
    asked = question(UNKNOWN)

    assert fields(asked) == MAPPED
    assert asked.proposal == ColumnMapping(MAPPED)
    assert min(column.confidence for column in asked.columns) >= 0.8
    assert str(asked).startswith("The mapping of the columns is not certain: no column for customer_id, or for any of")
    rows = [cells for _, cells in asked.rows]
    assert samples_of(rows, 1) == ["c100@example.com", "c101@example.com", "c102@example.com"]
    assert [line for line, _ in asked.rows][:3] == [2, 3, 4]


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("Kundennr;Vorname;Nachname;Mailadresse;PLZ;Ort;Geburtsdatum",
         "{n};Ann;Lee;a{n}@example.com;50667;Köln;03.04.1950",
         ["customer_id", "first_name", "last_name", "email", "postcode", "city", "date_of_birth"]),
        ("ref;a;b;c", "{n};x{n}@example.com;Ann Lee{n};+49 221 5556{n}", ["customer_id", "email", "name", "phone"]),
        ("memberNo;fname;lname;handy;handy2", "{n};Ann;Lee;+49 221 5556{n};0221 5557{n}",
         ["customer_id", "first_name", "last_name", "phone", "phone"]),
        ("cust_no;contact owner;phone type;email opt out;mail;tel ok", "{n};Jane;work;false;x{n}@example.com;yes",
         ["customer_id", None, None, None, "email", None]),
    ],
)  # fmt: skip
def test_names_and_values_tell_the_fields(header: str, row: str, expected: list[str | None]) -> None:
    asked = question("\n".join([header, *(row.format(n=n) for n in range(100, 130))]))

    assert list(fields(asked).values()) == expected


def test_known_name_with_other_values_is_less_sure() -> None:
    asked = question("cust_no,dob,mail\n1,+1 202 555 0100,a@example.com\n2,+1 202 555 0101,b@example.com\n")

    dob = asked.columns[1]
    assert (dob.field, dob.confidence) == ("date_of_birth", 0.5)
    assert dob.reason == "The name is known, but the values look different"


def test_column_of_lead_sources_is_no_source() -> None:
    rows = "".join(f"{n},{'web' if n % 2 else 'fair'},a{n}@example.com\n" for n in range(20))

    assert fields(question(f"cust_no,Source,Email\n{rows}"))["Source"] is None
    assert fields(question(f"cust_no,Source,Email\n{rows.replace('web', 'HubSpot')}"))["Source"] == "source"


def test_known_names_load_without_a_question_whatever_else_there_is() -> None:
    batches = load("id,name,correo\n1,Ann,a@example.com\n")

    assert records(batches) == [{"customer_id": 1, "name": "Ann", "source": "hubspot"}]


@pytest.mark.parametrize("system", ["google_contacts", "outlook"])
def test_address_book_without_ids_proposes_ids(system: str) -> None:
    asked = question(write(system, contacts(50)))

    assert asked.proposal.generates_ids  # some contacts have no email
    complete = question(write(system, [one for one in contacts(200) if "@" in one.email]))
    assert complete.proposal.id_column is not None
    assert complete.proposal.columns[complete.proposal.id_column] == "email"


def test_two_candidates_are_a_question() -> None:
    asked = question("id,Record ID,name\n1,2,Ann\n")

    assert "'id' and 'Record ID' both map to customer_id" in str(asked)
    assert fields(asked) == {"id": "customer_id", "Record ID": None, "name": "name"}
    assert records(load("id,Record ID,name\n1,2,Ann\n", asked.proposal))[0]["customer_id"] == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("<html>\n<body>\n", "No usable header"),
        ("cust_no,tel\n", "No usable header"),
        ("100,a@example.com,Ann\n101,b@example.com,Bo\n", "No usable header"),
        ("a\nb\nc\n", "No usable header"),
    ],
)
def test_file_that_nobody_could_map_fails(data: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as raised:
        load(data)
    assert not isinstance(raised.value, NeedsMapping)


def test_list_of_addresses_is_mapped() -> None:
    asked = question("Correo\na@example.com\nb@example.com\n")

    assert asked.proposal == ColumnMapping({"Correo": "email"}, id_column="Correo")


@given(
    st.lists(st.sampled_from(ALL_NAMES) | st.sampled_from(["tel", "tel2", "mail", "kunde", "x"]) | st.text(max_size=6),
             min_size=1, max_size=10),
    st.lists(st.lists(st.sampled_from(["", "7", "a@example.com", "Ann Lee", "+1 202 555 0101", "1950-01-16", "50667"])
                      | st.text(max_size=5), max_size=10), max_size=6),
)  # fmt: skip
def test_no_field_is_proposed_twice_and_no_column_is_lost(header: list[str], rows: list[list[str]]) -> None:
    names = column_names(header)
    columns = propose(header, names, rows)

    assert [column.name for column in columns] == names
    assert len({*names}) == len(names)
    assert all(column.field in (None, *COLUMNS) and 0 <= column.confidence <= 1 and column.reason for column in columns)
    for field in COLUMNS:
        feeding = [column for column in columns if column.field == field]
        guessed = [column for column in feeding if not column.reason.startswith("The name is known")]
        if field in ("customer_id", "source"):
            assert len(feeding) <= 1
        elif field not in SEVERAL:
            assert len(guessed) <= 1


@given(st.lists(st.text(max_size=4), max_size=12))
def test_names_of_columns_are_unique(header: list[str]) -> None:
    names = column_names(header)
    assert len({*names}) == len(names) == len(header)
    assert all(names)


@given(st.lists(st.sampled_from(["id", "name", "tel", "mail", "x"]), min_size=2, max_size=6), st.integers(1, 5))
def test_every_question_is_answered_by_its_proposal(header: list[str], count: int) -> None:
    values = {"id": "{n}", "name": "Ann", "tel": "+1 202 555 010{n}", "mail": "a{n}@example.com", "x": "-"}
    data = "\n".join([",".join(header), *(",".join(values[one].format(n=n) for one in header) for n in range(count))])
    try:
        load(data)
    except NeedsMapping as asked:
        try:
            check(asked.proposal, [column.name for column in asked.columns], has_source=True)
        except InvalidMapping:
            identifying = {"name", "email", "phone", "company"} & {*asked.proposal.columns.values()}
        else:
            identifying = {"checked"}
        if not identifying:
            return
        batches = load(data, asked.proposal)
        assert sum(len(batch.rows) + len(batch.rejected) for batch in batches) == count


def test_every_field_is_hinted_offered_by_the_page_and_proposed_by_no_other_name() -> None:
    hinted = json.loads((resources("dedup.files") / "hints.json").read_text("utf-8"))
    page = (ROOT / "web" / "mapping.js").read_text()

    assert {*hinted} == {*COLUMNS} - {"source"}
    assert all(f'"{field}"' in page for field in COLUMNS)


def test_names_that_differ_in_spelling_alone_keep_their_fields() -> None:
    saved = SavedMapping(("Mail", "mail", "no"), ColumnMapping({"Mail": "email", "mail": "name", "no": "customer_id"}))

    assert saved.of(["no", "mail", "Mail"]) == saved.mapping


# What a mapping makes of a file


def of_every_format(header: list[str], rows: list[list[Any]]) -> list[tuple[str, bytes]]:
    objects = [dict(zip(header, row, strict=True)) for row in rows]
    book, parquet = io.BytesIO(), io.BytesIO()
    workbook = openpyxl.Workbook()
    for line in (["All our customers"], [], header, *rows):
        workbook.active.append(line)
    workbook.save(book)
    columns = {name: [str(row[at]) for row in rows] for at, name in enumerate(header)}
    pa.parquet.write_table(pa.table(columns), parquet)
    text = "\n".join(",".join(map(str, line)) for line in (header, *rows))
    return [
        ("csv", text.encode()),
        ("json", json.dumps(objects).encode()),
        ("ndjson", "\n".join(map(json.dumps, objects)).encode()),
        ("xlsx", book.getvalue()),
        ("parquet", parquet.getvalue()),
    ]


FILES = of_every_format(
    ["cust_no", "e_mail_addr", "tel", "tel2", "stage"],
    [
        [n, f"c{n}@example.com", "" if n % 2 else f"+1 202 555 0{n}", f"+1 202 555 9{n}", f"s{n}"]
        for n in range(100, 150)
    ],
)


@pytest.mark.parametrize(("form", "data"), FILES, ids=[form for form, _ in FILES])
def test_mapping_reads_every_format(form: str, data: bytes) -> None:
    asked = question(data)
    assert fields(asked) == {
        "cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "tel2": "phone", "stage": None,
    }  # fmt: skip
    mapping = ColumnMapping({**asked.proposal.columns, "stage": IGNORE}, keep=("stage",))

    batches = load(data, mapping)

    found = records(batches)
    assert [one["customer_id"] for one in found] == list(range(100, 150))
    assert [one["phone"] for one in found[:2]] == ["+1 202 555 0100", "+1 202 555 9101"]
    assert [one["attributes"] for one in found] == [{"stage": f"s{n}"} for n in range(100, 150)]


@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
def test_question_does_not_depend_on_the_pieces_of_the_file(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = question(UNKNOWN)
    objects = json.dumps([{"cust_no": n, "tel": f"+1 202 555 0{n}"} for n in range(100, 400)])
    asked_json = question(objects)
    monkeypatch.setattr("dedup.files.compression.CHUNK", chunk)

    assert question(UNKNOWN).columns == whole.columns
    assert question(objects).columns == asked_json.columns
    assert len(records(load(objects, asked_json.proposal))) == 300


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_rows_that_are_kept_for_a_question_are_short(form: str) -> None:
    objects = [{"cust_no": n, "mail": f"a{n}@example.com", "note": "x" * 100_000} for n in range(300)]
    text = "\n".join(map(json.dumps, objects))
    if form == "csv":
        text = "\n".join(["cust_no,mail,note", *(",".join(map(str, one.values())) for one in objects)])

    asked = question(text)

    assert sum(len(cell) for _, cells in asked.rows for cell in cells) <= 200_000
    assert {len(cells[2]) for _, cells in asked.rows} == {2_000}


def test_mapping_of_other_columns_fails() -> None:
    with pytest.raises(Unreadable, match="no column 'cust_no'"):
        load("id,name\n1,Ann\n", ColumnMapping(MAPPED))


def test_rows_that_are_rejected_have_their_traces() -> None:
    data = "cust_no,mail\n7,a@example.com\nx,b@example.com,c\n"
    batches = load(data, ColumnMapping({"cust_no": "customer_id", "mail": "email"}))

    [rejected] = [row for batch in batches for row in batch.rejected]
    assert (rejected.customer_id, rejected.addresses) == ("x", {"b@example.com"})


# Ids


def test_email_is_the_id_without_its_case() -> None:
    batches = load("mail,name\nAnn@Example.com,Ann\n", ColumnMapping({"mail": "email", "name": "name"}, "mail"))

    assert [one["customer_id"] for one in records(batches)] == ["ann@example.com"]


def test_row_without_the_email_that_is_its_id_is_rejected() -> None:
    batches = load("mail,name\n,Ann\na@example.com,Bo\n", ColumnMapping({"mail": "email", "name": "name"}, "mail"))

    assert [row.reason for batch in batches for row in batch.rejected] == ["The customer_id is missing"]


def test_generated_ids_are_stable_and_differ() -> None:
    mapping = ColumnMapping({"mail": "email", "name": "name"}, generates_ids=True)
    first = [one["customer_id"] for one in records(load("mail,name,x\na@example.com,Ann,1\n,Bo,2\n", mapping))]
    again = [one["customer_id"] for one in records(load("x,name,mail\n9,Bo,\n8,Ann , a@example.com\n", mapping))]

    assert first == again[::-1]
    assert len({*first}) == 2


def test_id_column_may_be_any_other() -> None:
    batches = load("ref,name\n5,Ann\n", ColumnMapping({"name": "name"}, "ref"))

    assert records(batches) == [{"customer_id": 5, "name": "Ann", "source": "hubspot"}]


# Saved mappings

SAVED = SavedMapping(("cust_no", "e_mail_addr", "tel", "firm"), ColumnMapping(MAPPED))


def test_saved_mapping_is_used_without_a_question() -> None:
    other = UNKNOWN.replace("cust_no,e_mail_addr", "Cust-No,E Mail Addr")

    assert records(load(other, saved=[SAVED])) == records(load(UNKNOWN, ColumnMapping(MAPPED)))


def test_changed_header_is_a_question_that_names_the_change() -> None:
    asked = question(UNKNOWN.replace("tel,firm", "tel,firma"), saved=[SAVED])

    assert str(asked).startswith("The header differs from that of the saved mapping (new: 'firma'; missing: 'firm')")
    assert fields(asked) == {"cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "firma": "company"}


def test_other_header_is_no_change() -> None:
    assert records(load("id,name,tel\n1,Ann,7\n", saved=[SAVED]))


def test_review_is_a_question_about_any_file() -> None:
    asked = question("id,name\n1,Ann\n", review=True)

    assert str(asked) == "A check of the mapping was requested"
    assert asked.proposal == ColumnMapping({"id": "customer_id", "name": "name"})


# What is refused


@pytest.mark.parametrize(
    ("mapping", "loc"),
    [
        (ColumnMapping({"nope": "name"}), ("columns", "nope")),
        (ColumnMapping({"a": "customer_id", "b": "customer_id"}), ("columns", "b")),
        (ColumnMapping({"a": "name"}), ("columns",)),
        (ColumnMapping({"a": "customer_id"}), ("columns",)),
        (ColumnMapping({"a": "customer_id", "b": "name"}, "c"), ("id",)),
        (ColumnMapping({"a": "name"}, "nope"), ("id", "column")),
        (ColumnMapping({"a": "customer_id", "b": "name"}, keep=("c", "nope")), ("keep", 1)),
        (ColumnMapping({"a": "customer_id", "b": "name"}, keep=tuple("c" for _ in range(51))), ("keep",)),
    ],
)
def test_mapping_that_does_not_fit_names_the_member(mapping: ColumnMapping, loc: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidMapping) as raised:
        check(mapping, ["a", "b", "c"], has_source=True)
    assert raised.value.loc == loc


def test_source_must_be_known() -> None:
    with pytest.raises(InvalidMapping) as raised:
        check(ColumnMapping({"a": "customer_id", "b": "name"}), ["a", "b"], has_source=False)
    assert raised.value.loc == ("source",)
    check(ColumnMapping({"a": "customer_id", "b": "name", "c": "source"}), ["a", "b", "c"], has_source=False)


# Dates


def born(*dates: str, mapping: ColumnMapping | None = None) -> tuple[list[str], list[tuple[int, int]]]:
    """The dates of birth as they are stored, and the warnings: rows, and the first line."""
    data = "id,name,dob\n" + "".join(f"{n},Ann,{date}\n" for n, date in enumerate(dates))
    batches = load(data, mapping)
    found = [one.get("date_of_birth", "") for one in records(batches)]
    findings = Findings()
    for batch in batches:
        findings.update(batch.findings)
    return found, [(one.rows, one.example_line) for one in findings if one.kind == AMBIGUOUS_DATES]


@pytest.mark.parametrize(
    ("written", "stored", "warned"),
    [
        (["16/01/1950", "03/04/1950"], ["1950-01-16", "1950-04-03"], []),
        (["01/16/1950", "03/04/1950 0:00"], ["1950-01-16", "1950-03-04"], []),
        (["03/04/1950", "", "05-06-1950"], ["03/04/1950", "", "05-06-1950"], [(2, 2)]),
        (["16/01/1950", "01/16/1950", ""], ["16/01/1950", "01/16/1950", ""], [(2, 2)]),
        (["16/01/1950", "01/16/1950"], ["1950-01-16", "01/16/1950"], [(1, 3)]),
        (["03.04.1950", "5.6.1950"], ["1950-04-03", "1950-06-05"], []),
        (["1950-01-16", "1950-1-6", "19500116", "1950-01-16T00:00:00Z"],
         ["1950-01-16", "1950-01-06", "1950-01-16", "1950-01-16"], []),
        (["16/01/1950", "99/99/1950"], ["1950-01-16", "99/99/1950"], [(1, 3)]),
        (["03/21", "0/0/00", "00/00/0000", "circa 1950"], ["03/21", "0/0/00", "00/00/0000", "circa 1950"], []),
    ],
)  # fmt: skip
def test_column_decides_the_order_of_its_dates(
    written: list[str], stored: list[str], warned: list[tuple[int, int]]
) -> None:
    assert born(*written) == (stored, warned)


@pytest.mark.parametrize(
    ("order", "stored", "warned"),
    [("DMY", "1950-04-03", []), ("MDY", "1950-03-04", []), ("YMD", "03/04/1950", [(1, 2)])],
)
def test_stated_order_decides(order: str, stored: str, warned: list[tuple[int, int]]) -> None:
    mapping = ColumnMapping({"id": "customer_id", "name": "name", "dob": "date_of_birth"}, date_order=order)

    assert born("03/04/1950", mapping=mapping) == ([stored], warned)


def test_order_is_known_from_the_first_batch_that_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.files.compression.CHUNK", 64)
    dates = ["03/04/1950"] * 20 + ["16/01/1950"] + ["03/04/1950"] * 20 + ["01/16/1950"]

    stored, warned = born(*dates)

    assert stored[0] == "03/04/1950"
    assert stored[20:41] == ["1950-01-16", *["1950-04-03"] * 20]
    assert stored[-1] == "01/16/1950"
    assert sum(rows for rows, _ in warned) == stored.count("03/04/1950") + 1


@given(st.lists(st.dates(), min_size=1, max_size=30), st.sampled_from(["%d/%m/%Y", "%m/%d/%Y"]))
def test_no_date_is_read_wrong(dates: list[Any], form: str) -> None:
    written = [f"{one:{form}}" if one.year >= 1000 else "" for one in dates]
    stored, warned = born(*written)

    for one, text, found in zip(dates, written, stored, strict=True):
        assert found in (text, one.isoformat())
    unread = [text for text, found in zip(written, stored, strict=True) if text and text == found]
    assert sum(rows for rows, _ in warned) == len(unread)


@given(st.data())
def test_any_layout_is_proposed_with_the_fields_that_its_names_tell(data: st.DataObject) -> None:
    """With the id renamed, each export is a question whose other columns keep their fields."""
    system = data.draw(st.sampled_from(sorted(name for name, one in LAYOUTS.items() if one.id_column)))
    text = write(system, contacts(budget(20, 60))).decode(LAYOUTS[system].encoding)
    header, _, rest = text.partition("\n")
    renamed = header.replace(LAYOUTS[system].id_column or "", "some_key", 1)
    asked = question(f"{renamed}\n{rest}")

    assert fields(asked)["some_key"] in ("customer_id", None)
    assert "email" in fields(asked).values()
