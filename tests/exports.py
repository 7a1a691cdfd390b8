"""Writes files like exports of CRMs and spreadsheets, in every format, encoding and compression that is supported.

python -m tests.exports 100000 --form hubspot --compression gzip > contacts.csv.gz
"""

import argparse
import gzip
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from xml.sax.saxutils import escape

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
        "Customer-ID": lambda person: person.customer_id,
    },
}
"""The columns of each form, in order, with the value of each for a person."""

FORMATS = ("csv", "json", "array", "ndjson", "xlsx", "ods", "parquet")
DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "cp1252")
COMPRESSIONS: Mapping[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


Cells = Sequence[Sequence[object]]


def xlsx(rows: Cells, sheet: str = "Contacts") -> bytes:
    """A workbook as Excel writes it: numbers and dates as numbers, except integers that would lose digits."""
    import xlsxwriter

    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as workbook:
        worksheet = workbook.add_worksheet(sheet)
        of_dates = workbook.add_format({"num_format": "dd/mm/yyyy"})
        for at, row in enumerate(rows):
            for column, value in enumerate(row):
                if isinstance(value, bool):
                    worksheet.write_boolean(at, column, value)
                elif isinstance(value, date):
                    worksheet.write_datetime(at, column, value, of_dates)
                elif isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**53):
                    worksheet.write_number(at, column, value)
                elif value not in (None, ""):
                    worksheet.write_string(at, column, str(value))
    return file.getvalue()


def ods(rows: Cells, sheet: str = "Contacts", before: str = "") -> bytes:
    """A workbook as LibreOffice writes it. `before`: XML of sheets before this one."""

    def cell(value: object) -> str:
        match value:
            case None | "":
                return "<table:table-cell/>"
            case bool():
                return f'<table:table-cell office:value-type="boolean" office:boolean-value="{str(value).lower()}"/>'
            case date():
                return f'<table:table-cell office:value-type="date" office:date-value="{value.isoformat()}"/>'
            case int() | float() if abs(value) < 2**53:
                return f'<table:table-cell office:value-type="float" office:value="{value}"/>'
        lines = "".join(f"<text:p>{escape(line)}</text:p>" for line in str(value).split("\n"))
        return f'<table:table-cell office:value-type="string">{lines}</table:table-cell>'

    body = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    kinds = ("office", "table", "text", "style")
    names = " ".join(f'xmlns:{kind}="urn:oasis:names:tc:opendocument:xmlns:{kind}:1.0"' for kind in kinds)
    hidden = (
        '<office:automatic-styles><style:style style:name="hidden" style:family="table">'
        '<style:table-properties table:display="false"/></style:style></office:automatic-styles>'
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "META-INF/manifest.xml": "<manifest/>",
            "content.xml": f"<office:document-content {names}>{hidden}<office:body><office:spreadsheet>{before}"
            f'<table:table table:name="{escape(sheet)}">{body}<table:table-row table:number-rows-repeated="1048000">'
            '<table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        }
    )


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def parquet(rows: Cells, row_group_size: int = 1000) -> bytes:
    """A Parquet file as pandas and Spark write it. The type of a column is that of its values."""
    import pyarrow
    from pyarrow import parquet

    names, *values = rows
    columns = [[None if value == "" else value for value in column] for column in zip(*values, strict=True)]
    file = io.BytesIO()
    table = pyarrow.table([pyarrow.array(column) for column in columns], names=list(map(str, names)))
    parquet.write_table(table, file, row_group_size=row_group_size)
    return file.getvalue()


CELLS: Mapping[str, Callable[[Cells], bytes]] = {"xlsx": xlsx, "ods": ods, "parquet": parquet}
"""The formats that have cells instead of text. The first row is the header."""


def write(
    persons: Iterable[Person],
    form: str = "plain",
    fmt: str = "csv",
    delimiter: str = ",",
    encoding: str = "utf-8",
    compression: str | None = None,
    newline: str = "\r\n",
) -> bytes:
    """The content of the file. UTF-16 starts with a byte order mark; `delimiter` and `newline` are for CSV. Workbooks
    and Parquet have their own encoding."""
    columns = FORMS[form]
    rows = [[tell(person) for tell in columns.values()] for person in persons]
    if fmt in CELLS:
        return COMPRESSIONS[compression](CELLS[fmt]([list(columns), *rows]))
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
