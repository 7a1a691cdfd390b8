"""What is read of formats that have cells instead of text: workbooks and Parquet."""

import errno
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow
import pytest
import xlsxwriter
from dedup.files import Batch, Unreadable, read, rejected_csv
from dedup.findings import Findings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from pyarrow import parquet as pq

from tests.conftest import budget
from tests.exports import CELLS, csv_text, ods, parquet, people, write, xlsx, zipped

HEADER = ["customer_id", "name", "email", "phone", "company", "date_of_birth"]
ANN = (1, "Ann Lee", "ann@example.com", "hubspot")
PLAIN: list[list[object]] = [["id", "name", "email"], [1, "Ann Lee", "ann@example.com"]]
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def load(data: bytes, sheet: str | None = None) -> Batch:
    """All batches of the file as one."""
    batches = list(read(io.BytesIO(data), "hubspot", sheet))
    rows = [
        dict(zip([*HEADER[:3], "source", *batch.known], row, strict=True)) for batch in batches for row in batch.rows
    ]
    known = tuple(name for name in HEADER[3:] if any(name in batch.known for batch in batches))
    findings = Findings()
    for batch in batches:
        findings.update(batch.findings)
    return Batch(
        [(*list(row.values())[:4], *(row.get(name) for name in known)) for row in rows],
        [rejected for batch in batches for rejected in batch.rejected],
        0,
        known,
        findings,
    )


def values(data: bytes, field: str = "phone") -> list[Any]:
    """The values of an optional field."""
    batch = load(data)
    assert batch.rejected == []
    return (
        [row[4 + batch.known.index(field)] for row in batch.rows] if field in batch.known else [None] * len(batch.rows)
    )


def reason_of(data: bytes, sheet: str | None = None) -> str:
    with pytest.raises(Unreadable) as refused:
        load(data, sheet)
    return str(refused.value)


# The same rows in every format

ROWS: Sequence[Sequence[object]] = [
    HEADER,
    [1, "Ann Lee", "ann@example.com", "+44 20 7946 0000", "Müller, Söhne", date(1950, 1, 16)],
    [2, "Zoë", "zoe@example.com", "", "", None],
    [2**53 - 1, " Bob ", "bob@example.com", "020 7946", 'The "Inn"', date(2024, 2, 29)],
    [4, "", "four@example.com", "", "", None],
    [5, "Eve", "nowhere", "", "", date(1999, 12, 31)],
    [None, "Six", "six@example.com", "", "", None],
    [None, "=cmd()", "x", "+1", "", None],
]


def as_text(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [["" if value is None else value for value in row] for row in rows]


@pytest.mark.parametrize("fmt", CELLS)
def test_batches_of_the_same_rows_are_those_of_csv(fmt: str) -> None:
    expected = load(csv_text(as_text(ROWS)).encode())
    found = load(CELLS[fmt](ROWS))

    # The rows of a Parquet file are counted from 1; the others have a header above them.
    above = 1 if fmt == "parquet" else 0
    assert found.rows == expected.rows
    assert [one._replace(line=one.line + above) for one in found.rejected] == expected.rejected
    assert [(one.kind, one.rows, one.example_line + above) for one in found.findings] == list(expected.findings)
    assert len(found.rows) == 5
    assert [one.field for one in found.rejected] == ["customer_id", "customer_id"]
    assert b"'=cmd()" in b"".join(rejected_csv(found.rejected))


@pytest.mark.parametrize("fmt", CELLS)
def test_batches_are_small_and_lines_unique_whatever_the_size(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.files.compression.CHUNK", 10_000)
    persons = people(3_000, "hubspot")
    batches = list(read(io.BytesIO(write(persons, "hubspot", fmt)), "internal"))
    assert [row[:3] for batch in batches for row in batch.rows] == [person.row[:3] for person in persons]
    assert len(batches) > 10

    rejected = load(CELLS[fmt]([PLAIN[0], *[["bad", "A", f"a{n}@example.com"] for n in range(2_500)]])).rejected
    first = 1 if fmt == "parquet" else 2
    assert [one.line for one in rejected] == list(range(first, first + 2_500))


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=20
)
numbers = st.integers(-(2**53) + 1, 2**53 - 1)
dates = st.dates(date(1900, 3, 1), date(9999, 12, 31))
cells = texts | numbers | dates | st.none() | st.just("_x0041_ a_x000D_")


def by_openpyxl(rows: Sequence[Sequence[object]]) -> bytes:
    workbook = Workbook()
    for at, row in enumerate(rows, 1):
        for column, value in enumerate(row, 1):
            cell = workbook.active.cell(at, column, value)
            if isinstance(value, str):
                cell.data_type = "s"
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


@pytest.mark.parametrize("write_workbook", [xlsx, by_openpyxl, ods])
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), cells), min_size=1, max_size=5))
@example([(2**53, None), (-(2**63), "x")])
@settings(
    max_examples=budget(60, 500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_cells_round_trip(write_workbook: Callable[[Any], bytes], rows: list[tuple[int, Any]]) -> None:
    written = [[str(number) if abs(number) >= 2**53 else number, "A", "a@example.com", cell] for number, cell in rows]

    batch = load(write_workbook([HEADER[:4], *written]))

    assert batch.rejected == []
    assert [row[0] for row in batch.rows] == [number for number, _ in rows]
    escapes = write_workbook is by_openpyxl  # openpyxl writes the text of an escape as it is
    expected = [
        None if cell is None else str(cell).replace("_x0041_ a_x000D_", "A a" if escapes else "_x0041_ a_x000D_")
        for _, cell in rows
    ]
    if any(expected):
        assert [row[4] for row in batch.rows] == expected


# Numbers, dates and other values of workbooks


def sheet_xml(rows: str, name: str = "worksheet", namespace: str = f'xmlns="{MAIN}"') -> str:
    return f"<?xml version='1.0'?><{name} {namespace}><sheetData>{rows}</sheetData></{name}>"


def workbook_of(sheet: str, styles: str = "", strings: str | None = None, settings: str = "") -> bytes:
    """A workbook of parts that are written by hand."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

    def references(**targets: str) -> str:
        listed = enumerate(targets.items())
        return "".join(
            f'<Relationship Id="r{n}" Type="{kind}/{one}" Target="{target}"/>' for n, (one, target) in listed
        )

    def root(name: str, content: str) -> str:
        return f'<{name} xmlns="{MAIN}" xmlns:r="{kind}">{content}</{name}>'

    shared = {"sharedStrings": "strings.xml"} if strings else {}
    related = references(worksheet="sheet.xml", styles="styles.xml", **shared)
    parts = {
        "_rels/.rels": root("Relationships", references(officeDocument="/xl/workbook.xml")),
        "xl/workbook.xml": root(
            "workbook", f'<workbookPr {settings}/><sheets><sheet name="One" sheetId="1" r:id="r0"/></sheets>'
        ),
        "xl/_rels/workbook.xml.rels": root("Relationships", related),
        "xl/styles.xml": root("styleSheet", styles),
        "xl/sheet.xml": sheet,
    }
    return zipped(parts | ({"xl/strings.xml": strings} if strings else {}))


INLINE = '<c t="inlineStr"><is><t>{}</t></is></c>'
TOP = "<row>" + "".join(map(INLINE.format, HEADER[:4])) + "</row>"
FIXED = "<c><v>1</v></c>" + INLINE.format("Ann") + INLINE.format("ann@example.com")


def cell_of(cell: str, **parts: str) -> Any:
    """What is read of one cell of a workbook."""
    [value] = values(workbook_of(sheet_xml(f"{TOP}<row>{FIXED}{cell}</row>"), **parts))
    return value


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("123", "123"),
        ("123.0", "123"),
        ("1.23E+2", "123"),
        ("-5", "-5"),
        ("-0", "0"),
        ("0.10000000000000001", "0.1"),
        ("12.5", "12.5"),
        ("9.007199254740991E+15", "9007199254740991"),
        ("447946000000", "447946000000"),
        ("", None),
    ],
)
def test_number_is_read_as_it_is_shown(written: str, read_as: str | None) -> None:
    assert cell_of(f"<c><v>{written}</v></c>") == read_as


@pytest.mark.parametrize("written", ["9007199254740992", "9007199254740993", "1.2345678901234567E+19", "-1e300"])
@pytest.mark.parametrize("fmt", ["xlsx", "ods"])
def test_number_that_has_lost_digits_is_rejected(fmt: str, written: str) -> None:
    cell = f"<c><v>{written}</v></c>"
    row = f"<row>{cell}{INLINE.format('A')}{INLINE.format('a@example.com')}{cell}</row>"
    if fmt == "xlsx":
        data = workbook_of(sheet_xml(TOP + row))
    else:
        made = zipfile.ZipFile(io.BytesIO(ods([HEADER[:4], [123454321, "A", "a@example.com", 123454321]])))
        data = zipped({n: made.read(n).replace(b"123454321", written.encode()) for n in made.namelist()})

    [rejected] = load(data).rejected

    assert rejected.field == "customer_id, phone"
    assert rejected.reason.count("has lost digits. Export the column as text") == 2


@pytest.mark.parametrize(
    ("code", "serial", "read_as"),
    [
        ("yyyy-mm-dd", "18279", "1950-01-16"),
        ("dd/mm/yyyy;@", "18279", "1950-01-16"),
        ("[$-809]d mmmm yyyy", "18279", "1950-01-16"),
        ("m/d/yy h:mm", "45351.75", "2024-02-29T18:00:00"),
        ("yyyy", "1", "1900-01-01"),
        ("yyyy", "59", "1900-02-28"),
        ("yyyy", "61", "1900-03-01"),
        ("yyyy", "2958465", "9999-12-31"),
        ("yyyy", "2958466", "2958466"),
        ("yyyy", "-1", "-1"),
        ("yyyy", "45351.999999", "2024-03-01"),
        ("hh:mm", "0.5", "12:00:00"),
        ("[h]:mm", "1.5", "1.5"),
        ("General", "18279", "18279"),
        ('0 "days"', "18279", "18279"),
        ("[Red]0.00", "18279", "18279"),
        ("00000", "1234", "01234"),
        ("00000", "12.5", "12.5"),
    ],
)
def test_number_format_decides_what_a_number_is(code: str, serial: str, read_as: str) -> None:
    quoted = code.replace('"', "&quot;")
    styles = (
        f'<numFmts><numFmt numFmtId="164" formatCode="{quoted}"/></numFmts>'
        '<cellStyleXfs><xf numFmtId="0"/></cellStyleXfs>'
        '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/></cellXfs>'
    )
    assert cell_of(f'<c s="1"><v>{serial}</v></c>', styles=styles) == read_as


def test_built_in_date_format_and_dates_that_count_from_1904() -> None:
    styles = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    assert cell_of('<c s="1"><v>18279</v></c>', styles=styles) == "1950-01-16"
    assert cell_of('<c s="1"><v>16817</v></c>', styles=styles, settings='date1904="1"') == "1950-01-16"


@pytest.mark.parametrize(
    ("cell", "read_as"),
    [
        ('<c t="b"><v>1</v></c>', "true"),
        ('<c t="b"><v>0</v></c>', "false"),
        ('<c t="e"><v>#N/A</v></c>', "#N/A"),
        ('<c t="d"><v>1950-01-16T00:00:00Z</v></c>', "1950-01-16"),
        ('<c t="str"><f>A1&amp;"x"</f><v>cached</v></c>', "cached"),
        ("<c><f>1+1</f><v>2</v></c>", "2"),
        ("<c><f>1+1</f></c>", None),
        ('<c t="inlineStr"><is><r><t>two </t></r><r><rPr><b/></rPr><t>runs</t></r></is></c>', "two runs"),
        ('<c t="inlineStr"><is><t>東京</t><rPh sb="0" eb="2"><t>トウキョウ</t></rPh></is></c>', "東京"),
        ('<c t="inlineStr"><is><t>a_x0041_b_x005F_x0041_</t></is></c>', "aAb_x0041_"),
        ('<c r="D2" t="inlineStr"><is><t>here</t></is></c><c r="XFD2"><v>7</v></c><c r="ZZZZZ2"><v>8</v></c>', "here"),
        ('<c r="D2"><v>1</v></c><c r="D2"><v>2</v></c>', "2"),
    ],
)
def test_cell_of_each_type(cell: str, read_as: str | None) -> None:
    assert cell_of(cell) == read_as


def test_shared_texts_are_read_by_number_in_any_order() -> None:
    count = 1_000
    strings = "".join(f'<si><t xml:space="preserve">text {n} </t></si>' for n in range(count))
    shown = INLINE.format("A") + INLINE.format("a@example.com")
    rows = "".join(f'<row><c><v>{n}</v></c>{shown}<c t="s"><v>{n * 7 % count}</v></c></row>' for n in range(count))
    data = workbook_of(sheet_xml(TOP + rows), strings=f'<sst xmlns="{MAIN}">{strings}</sst>')

    assert values(data) == [f"text {n * 7 % count}" for n in range(count)]


def test_text_that_does_not_exist_is_damage() -> None:
    cell = '<c t="s"><v>5</v></c>'
    assert "does not exist" in reason_of(workbook_of(sheet_xml(f"{TOP}<row>{FIXED}{cell}</row>")))


def test_names_may_have_a_prefix() -> None:
    rows = (TOP + f"<row>{FIXED}</row>").replace("</", "</x:").replace("<", "<x:").replace("<x:/x:", "</x:")
    data = workbook_of(sheet_xml(rows, "x:worksheet", f'xmlns:x="{MAIN}"').replace("sheetData", "x:sheetData"))
    assert [row[:4] for row in load(data).rows] == [(1, "Ann", "ann@example.com", "hubspot")]


def test_ods_values_of_each_type() -> None:
    written = [
        *(12.5, 3, True, date(1950, 1, 16), "two\nlines", " padded ", "<&>", None),
        *(datetime(2024, 2, 29, 18, tzinfo=None), 2**53),
    ]
    rows = [[n, "A", "a@example.com", value] for n, value in enumerate(written)]
    assert values(ods([HEADER[:4], *rows])) == [
        *("12.5", "3", "true", "1950-01-16", "two lines", "padded", "<&>", None),
        *("2024-02-29T18:00:00", str(2**53)),
    ]


# Sheets and headers


def sheets_of(sheets: Mapping[str, Sequence[Sequence[object]]], hidden: str = "") -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as workbook:
        for name, rows in sheets.items():
            worksheet = workbook.add_worksheet(name)
            for at, row in enumerate(rows):
                worksheet.write_row(at, 0, row)
            if name == hidden:
                worksheet.hide()
            else:
                worksheet.activate()
    return file.getvalue()


OTHER: list[list[object]] = [["id", "name", "email"], [2, "Bob", "bob@example.com"]]
NOTES: list[list[object]] = [["Notes"], ["Export of last night"]]


@pytest.mark.parametrize(
    ("sheets", "hidden", "sheet"),
    [
        ({"A": PLAIN, "B": OTHER}, "", None),
        ({"A": [], "B": PLAIN}, "", None),
        ({"A": PLAIN[:1], "B": PLAIN}, "", None),
        ({"A": NOTES, "B": PLAIN}, "", None),
        ({"A": OTHER, "B": PLAIN}, "A", None),
        ({"A": OTHER, "B": PLAIN}, "", "b "),
        ({"A": PLAIN, "B": OTHER}, "A", "A"),
        ({"A": [["Customers of 2024"], [], ["as of", "today"], [], *PLAIN]}, "", None),
    ],
)
def test_first_visible_sheet_with_a_table_is_read_or_the_named_one(
    sheets: Mapping[str, Any], hidden: str, sheet: str | None
) -> None:
    assert load(sheets_of(sheets, hidden), sheet).rows == [ANN]


def test_ods_sheets_may_be_hidden_and_empty() -> None:
    other = ods(OTHER, "Other")
    table = zipfile.ZipFile(io.BytesIO(other)).read("content.xml").decode()
    table = table[table.index("<table:table ") : table.index("</office:spreadsheet>")]
    hidden = table.replace("<table:table ", '<table:table table:style-name="hidden" ')
    data = ods(PLAIN, "Contacts", f'<table:table table:name="Empty"/>{hidden}')

    assert load(data).rows == [ANN]
    assert [row[0] for row in load(data, "Other").rows] == [2]


def test_missing_sheet_is_named_with_those_that_exist() -> None:
    reason = reason_of(sheets_of({"A": PLAIN, "B": OTHER}), "C")
    assert reason == "The workbook has no sheet 'C'. Its sheets are 'A', 'B'"


def test_workbook_without_a_table_says_what_is_missing() -> None:
    assert "no rows in its visible sheets" in reason_of(sheets_of({"A": [], "B": PLAIN}, "B"))
    assert reason_of(sheets_of({"A": PLAIN[:1]})) == "The file has no rows"
    assert "no column for customer_id" in reason_of(sheets_of({"A": [], "B": NOTES}))
    two_ids: list[list[object]] = [["Id", "Record ID", "name", "email"], [1, 1, "A", "a@example.com"]]
    assert "both map to customer_id" in reason_of(sheets_of({"A": two_ids}))


def test_merged_cells_of_a_header_are_read_where_they_begin() -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as workbook:
        sheet = workbook.add_worksheet()
        sheet.merge_range("A1:C1", "Customers")
        sheet.write_row("A2", ["id", "name"])
        sheet.merge_range("C2:D2", "email")
        sheet.write_row("A3", [1, "Ann Lee", "ann@example.com", "ignored"])
    assert load(file.getvalue()).rows == [ANN]


def test_line_is_the_number_of_the_row_in_the_sheet() -> None:
    rows: list[list[object]] = [[], PLAIN[0], [], [1, "Ann Lee", "ann@example.com"], [" "], ["", "", "x"]]
    for data in (xlsx(rows), ods(rows)):
        batch = load(data)
        assert batch.rows == [ANN]
        assert [(one.line, one.row) for one in batch.rejected] == [(6, ",,x")]
    spread = workbook_of(
        sheet_xml(f'<row r="5">{TOP[5:]}<row r="900">{FIXED.replace("1", "x", 1)}</row><row r="2">{FIXED}</row>')
    )
    assert [one.line for one in load(spread).rejected] == [900]


def test_row_that_is_too_long_is_rejected() -> None:
    rows: list[list[object]] = [
        [*HEADER[:3], *(f"c{n}" for n in range(40))],
        [1, "A", "a@example.com", *["x" * 30_000] * 40],
    ]
    rows.append([2, "B", "b@example.com", *[""] * 40])
    for write_file in CELLS.values():
        batch = load(write_file(rows))
        [rejected] = batch.rejected
        assert "longer than" in rejected.reason
        assert (rejected.customer_id, rejected.addresses) == (1, {"a@example.com"})
        assert [row[0] for row in batch.rows] == [2]


# Refused workbooks


def test_other_archives_and_workbooks_are_refused() -> None:
    assert "ZIP archives are not supported" in reason_of(zipped({"contacts.csv": "id,name,email\n"}))
    assert "ZIP archives are not supported" in reason_of(zipped({"mimetype": "application/epub+zip"}))
    assert "xlsb" in reason_of(zipped({"xl/workbook.bin": "x", "_rels/.rels": "<r/>"}))
    word = zipped({"_rels/.rels": '<r><Relationship Type="x/officeDocument" Target="word/document.xml"/></r>'})
    assert "without sheets" in reason_of(word)
    assert "Workbooks with a password" in reason_of(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000))


def test_encrypted_workbooks_are_refused() -> None:
    made = zipfile.ZipFile(io.BytesIO(ods(PLAIN)))
    parts = {name: made.read(name) for name in made.namelist()}
    parts["META-INF/manifest.xml"] = b"<manifest><encryption-data/></manifest>"
    assert "has a password" in reason_of(zipped(parts))

    encrypted = bytearray(xlsx(PLAIN))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    assert "without a password" in reason_of(bytes(encrypted))


@pytest.mark.parametrize("make", [xlsx, ods, parquet])
def test_truncated_file_is_unreadable_wherever_it_is_cut(make: Callable[[Any], bytes]) -> None:
    data = make([PLAIN[0], *[[n, f"Name {n}", f"c{n}@example.com"] for n in range(200)]])
    for length in {5, 100, len(data) // 2, len(data) - 30, len(data) - 1}:
        assert "damaged" in reason_of(data[:length])


def test_damaged_content_is_noticed() -> None:
    sheet = sheet_xml(f"{TOP}<row>{FIXED}</row>")
    for broken in (
        sheet[:-5],
        sheet.replace("?>", " encoding='nowhere'?>"),
        sheet.replace("?>", " encoding='shift_jis'?>"),
    ):
        assert "XML is not valid" in reason_of(workbook_of(broken))

    data = bytearray(xlsx([PLAIN[0], *[[n, f"Name {n}", f"c{n}@example.com"] for n in range(2000)]]))
    data[data.index(b"xl/worksheets/sheet1.xml") + 2000] ^= 0xFF
    assert "damaged" in reason_of(bytes(data))


def test_bombs_are_refused() -> None:
    row = f"<row>{FIXED}</row>"
    zeros = sheet_xml(TOP + row + " " * 60_000_000)
    assert "more than 200 times its size" in reason_of(workbook_of(zeros))

    long = f"<sst><si><t>{'x' * 32_000}</t></si></sst>"
    repeated = sheet_xml(TOP + f'<row>{FIXED}<c t="s"><v>0</v></c></row>' * 30_000)
    assert "more than 200 times its size" in reason_of(workbook_of(repeated, strings=long))

    text = ods([HEADER[:4], [1, "A", "a@example.com", "x" * 30_000]])
    made = zipfile.ZipFile(io.BytesIO(text))
    before, start, after = made.read("content.xml").rpartition(b"<table:table-row><table:table-cell")
    content = before + start.replace(b"-row>", b'-row table:number-rows-repeated="1000000">') + after
    assert "more than 200 times its size" in reason_of(
        zipped({name: content if name == "content.xml" else made.read(name) for name in made.namelist()})
    )

    column = pyarrow.array(["x" * 30_000] * 3_000).dictionary_encode()
    file = io.BytesIO()
    pq.write_table(
        pyarrow.table({"id": [1] * 3_000, "name": ["A"] * 3_000, "email": ["a@b.co"] * 3_000, "x": column}), file
    )
    assert "more than 200 times its size" in reason_of(file.getvalue())


def test_directory_of_a_million_files_is_refused_before_it_is_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(100_000):
            archive.writestr(f"{number:0>10}", b"")
    data = file.getvalue()
    tracemalloc.start()
    try:
        assert "ZIP archives are not supported" in reason_of(data)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_document_type_and_endless_tags_are_refused() -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    sheet = sheet_xml(TOP).replace("?>", f"?>{entities}")
    assert "document type" in reason_of(workbook_of(sheet))
    chance = "".join(chr(97 + n * n % 26) for n in range(5_000_000))
    for bad in (f'<row><c x="{chance}"/></row>', f"<row><c><v>{chance}</v></c></row>"):
        assert "too long" in reason_of(workbook_of(sheet_xml(TOP + bad)))


def test_cells_far_apart_take_no_memory() -> None:
    far = f'{TOP}<row r="2">{FIXED}</row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    tracemalloc.start()
    try:
        assert len(load(workbook_of(sheet_xml(far))).rows) == 1
        assert load(ods(PLAIN)).rows == [ANN]
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", [xlsx, ods])
def test_memory_does_not_grow_with_the_workbook(make: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.files.compression.CHUNK", 20_000)
    monkeypatch.setattr("dedup.files.xlsx_sheets.SharedStrings._MAX_CACHED", 20_000)

    def peak(count: int) -> int:
        rows = [[n, f"Customer {n} {n * 7919}", f"c{n}@example.com", f"text {n}" * 20] for n in range(count)]
        data = io.BytesIO(make([HEADER[:4], *rows]))
        tracemalloc.start()
        try:
            for _ in read(data, "hubspot"):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(6_000) < 1.5 * peak(2_000)


def test_full_temporary_storage_is_a_reason_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        name = "full"

        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dedup.files.spool.NamedTemporaryFile", lambda **_: Full())
    assert "does not fit into the temporary storage" in reason_of(xlsx(PLAIN))


# Parquet


def parquet_of(columns: Mapping[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pyarrow.table(dict(columns)), file, **options)
    return file.getvalue()


BASE = {"Id": [1, 2], "name": ["Ann", "Bob"], "email": ["ann@example.com", "bob@example.com"]}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pyarrow.array([2**63 - 1, None]), [str(2**63 - 1), None]),
        (pyarrow.array([1.0, 0.1]), ["1", "0.1"]),
        (pyarrow.array([float("nan"), float("inf")]), [None, None]),
        (pyarrow.array([0.1, 2], pyarrow.float32()), ["0.1", "2"]),
        (pyarrow.array([Decimal("12.50"), Decimal(100)], pyarrow.decimal128(38, 2)), ["12.5", "100"]),
        (pyarrow.array([Decimal(10**37), None], pyarrow.decimal128(38, 0)), [str(10**37), None]),
        (pyarrow.array([True, False]), ["true", "false"]),
        (pyarrow.array([date(1950, 1, 16), None]), ["1950-01-16", None]),
        (pyarrow.array([datetime(1950, 1, 16), datetime(2024, 2, 29, 18, 5)]), ["1950-01-16", "2024-02-29T18:05:00"]),
        (
            pyarrow.array([datetime(2024, 2, 29, 18, tzinfo=UTC), None], pyarrow.timestamp("us", tz="Europe/Berlin")),
            ["2024-02-29T18:00:00Z", None],
        ),
        (pyarrow.array([time(1, 2), None]), ["01:02:00", None]),
        (pyarrow.array(["a", ""]).dictionary_encode(), ["a", None]),
        (pyarrow.array([b"bytes", None]), ["bytes", None]),
        (pyarrow.array([["a", None, "b"], []]), ["a; b", None]),
        (pyarrow.array([[2**60], None]), [str(2**60), None]),
        (pyarrow.array([[{"kind": "home"}], None]), ['[{"kind":"home"}]', None]),
        (pyarrow.array([[("a", 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int64())), ['{"a":1}', None]),
        (pyarrow.nulls(2), [None, None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pyarrow.Array) else "",
)  # fmt: skip
def test_parquet_value_of_each_type(column: Any, expected: list[str | None]) -> None:
    assert values(parquet_of(BASE | {"phone": column})) == expected


def test_parquet_id_is_exact_or_rejected() -> None:
    ids = [2**63 - 1, -(2**63)]
    assert [row[0] for row in load(parquet_of(BASE | {"Id": ids})).rows] == ids
    decimals = pyarrow.array([Decimal(2**62), Decimal("7.00")], pyarrow.decimal128(38, 2))
    assert [row[0] for row in load(parquet_of(BASE | {"Id": decimals})).rows] == [2**62, 7]
    batch = load(parquet_of(BASE | {"Id": [123.0, 2.0**53]}))
    assert [row[0] for row in batch.rows] == [123]
    assert [(one.line, one.field) for one in batch.rejected] == [(2, "customer_id")]
    assert "has lost digits" in batch.rejected[0].reason


def test_nested_address_of_salesforce_is_flattened_by_name() -> None:
    address = [
        {"street": "1 High St", "city": "Ulm", "postalCode": "89073", "country": "DE", "geo": {"lat": 1.5}},
        None,
    ]
    [batch] = read(io.BytesIO(parquet_of(BASE | {"MailingAddress": address})), "hubspot")
    assert batch.known == ("address", "city", "postcode", "country")
    assert [row[4:] for row in batch.rows] == [("1 High St", "Ulm", "89073", "DE"), (None,) * 4]


def test_record_that_airbyte_wraps_is_read() -> None:
    wrapped = [{"customer_id": 1, "name": "Ann Lee", "email": "ann@example.com"}]
    data = parquet_of(
        {"_airbyte_raw_id": ["x"], "_airbyte_extracted_at": [datetime(2024, 1, 1)], "_airbyte_data": wrapped}
    )
    assert load(data).rows == [ANN]


def test_parquet_as_spark_writes_it() -> None:
    born = pyarrow.array([datetime(1950, 1, 16), None])
    data = parquet_of(
        BASE | {"birthdate": born}, use_deprecated_int96_timestamps=True, compression="snappy", row_group_size=1
    )
    assert values(data, "date_of_birth") == ["1950-01-16", None]


def test_parquet_without_a_usable_header_or_rows() -> None:
    assert "no column for any of name, email" in reason_of(parquet_of({"Id": [1], "city": ["A"]}))
    assert (
        reason_of(parquet_of({"Id": pyarrow.array([], pyarrow.int64()), "name": [], "email": []}))
        == "The file has no rows"
    )
    assert "Encrypted Parquet" in reason_of(b"PARE" + bytes(100))


def test_names_of_columns_cannot_be_read_as_sql() -> None:
    hostile = {'a"b': ["x", "y"], "'; --": [{"c'd": 1, 'e"f': 2}] * 2, "select": [1, 2]}
    assert len(load(parquet_of(BASE | hostile)).rows) == 2


def test_rejected_row_keeps_its_values() -> None:
    data = parquet_of(
        {"Id": ["1", "2x"], "name": ["Ann", ""], "email": ["ann@example.com", "a, b"], "x": [["p", "q"], None]}
    )
    [rejected] = load(data).rejected
    assert (rejected.line, rejected.row, rejected.customer_id) == (2, '2x,,"a, b",', None)
