"""The report: what there is, as tables that a page, a spreadsheet and a CSV file show alike.

Jinja and XlsxWriter are imported where they are used: the one function that makes reports brings them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as resources
from io import BytesIO
from itertools import compress
from typing import Any

from dedup import sets
from dedup.files import csv_header, csv_line
from dedup.records import KNOWN, Record
from dedup.store import Figures, Kept

_UNITS = ("", "k", "M", "G", "T")

MAX_REGIONS = 1_000
PLOTTED = 30
"""Regions that a plot shows: as many columns as fit on a page."""

Cell = str | int | float | None
Change = int | None


@dataclass(frozen=True)
class Table:
    """One part of the report. The first cell of a row names it; a float is a share, of 1."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Report:
    """All of it. `at` and `since` are moments in UTC; `since` is None where no earlier figures were kept."""

    at: str
    since: str | None
    tables: Sequence[Table]
    regions: Sequence[tuple[list[str], int]]
    sources: Mapping[str, int]
    """Customers of each source."""


def make(figures: Figures, last: Kept | None, sources: Sequence[str]) -> Report:
    """The report of these figures, compared with the last ones that were kept; `sources` are those configured."""
    named = [*sources, *sorted(figures.records.keys() - {*sources})]
    tables = [
        _totals(figures, last, named),
        _regions(figures, last),
        _sources(figures, last, named),
        _complete(figures, named),
        _refused(figures),
        _rules(sources),
    ]
    if last is None:
        tables = [_without_changes(table) for table in tables]
    customers = {name: sets.count(figures.regions, sets.union(figures.regions, {name})) for name in named}
    at = figures.at.strftime("%Y-%m-%d %H:%M UTC")
    since = last.created_at[:16].replace("T", " ") + " UTC" if last else None
    return Report(at, since, tables, sets.largest_first(figures.regions), customers)


def _without_changes(table: Table) -> Table:
    kept = [not column.startswith("Change") for column in table.columns]
    return replace(table, columns=[*compress(table.columns, kept)], rows=[[*compress(row, kept)] for row in table.rows])


def _totals(figures: Figures, last: Kept | None, named: Sequence[str]) -> Table:
    def totals(records: Mapping[str, int], regions: sets.Regions) -> list[int]:
        total, customers = sum(records.values()), sets.count(regions)
        shared = sets.count(regions, [region for region in regions if len(region) > 1])
        everywhere = sets.count(regions, sets.select(regions, within=set(named)))
        return [total, customers, total - customers, shared, everywhere]

    names = ("Records", "Customers", "Duplicate records", "Customers in several sources", "Customers in every source")
    now = totals(figures.records, figures.regions)
    before = totals(last.records, last.regions) if last else [None] * len(now)
    return Table(
        "Totals",
        "A customer is a customer id, however many records it has. A duplicate is a record beyond a customer's first.",
        ("", "Now", "Change"),
        [(name, value, _change(value, old)) for name, value, old in zip(names, now, before, strict=True)],
    )


def _regions(figures: Figures, last: Kept | None) -> Table:
    everyone = sets.count(figures.regions)
    before = last.regions if last else {}
    every = sets.largest_first({**dict.fromkeys(before, 0), **figures.regions})
    gone = [(sorted(region), 0) for region in before if not figures.regions.get(region) and before[region]]
    shown = [*every, *sorted(gone)][:MAX_REGIONS]
    note = "Customers that exactly these sources have, and no other."
    if len(every) > MAX_REGIONS:
        note += f" The largest {MAX_REGIONS:,} of {len(every):,}."
    return Table(
        "Who has whom",
        note,
        ("Sources", "Customers", "Share", "Change"),
        [
            (
                " + ".join(region),
                customers,
                customers / everyone if everyone else 0.0,
                _change(customers, before.get(frozenset(region), 0) if last else None),
            )
            for region, customers in shown
        ],
    )


def _sources(figures: Figures, last: Kept | None, named: Sequence[str]) -> Table:
    rows = []
    for name in named:
        records = figures.records.get(name, 0)
        customers = sets.count(figures.regions, sets.union(figures.regions, {name}))
        only = sets.count(figures.regions, sets.only_in(figures.regions, name))
        change = _change(records, last.records.get(name, 0) if last else None)
        rows.append((name, records, customers, records - customers, only, change))
    columns = ("Source", "Records", "Customers", "Duplicates within", "Only there", "Change in records")
    return Table("Sources", "", columns, rows)


def _complete(figures: Figures, named: Sequence[str]) -> Table:
    looked_at, total = sum(figures.looked_at.values()), sum(figures.records.values())
    note = "The share of each source's records that have the field. All have an id, a name and an address of e-mail."
    if looked_at < total:
        note += f" Estimated from {looked_at:,} of {total:,} records."
    rows: list[Sequence[Cell]] = [
        (name, *(figures.filled[name][field] / count for field in KNOWN))
        for name in named
        if (count := figures.looked_at.get(name, 0))
    ]
    return Table("How complete", note, ("Source", *(field.replace("_", " ").capitalize() for field in KNOWN)), rows)


def _refused(figures: Figures) -> Table:
    rows: list[Sequence[Cell]] = []
    for source, (brought, rejected) in sorted(figures.rows.items(), key=lambda item: item[0] or ""):
        name = source or "(named in each row)"
        rows.append((name, "all rows", brought, rejected, None, None))
        rows += [
            (name, fault.field or "the row as a whole", None, None, fault.missing, fault.malformed)
            for fault in figures.faults
            if fault.source == source
        ]
    return Table(
        "What files brought",
        "Rows of all files that were loaded, those that were rejected, and why. A row may have several faults.",
        ("Source of the file", "Field", "Rows", "Rejected", "Missing", "Malformed"),
        rows,
    )


def _rules(sources: Sequence[str]) -> Table:
    fields = Record.model_json_schema()["properties"]
    rows: list[Sequence[Cell]] = [
        ("Sources", ", ".join(sources)),
        ("Customers", "Told apart by customer_id alone"),
        ("Uploads", "Stored whole or not at all; the same upload again changes nothing"),
        *((name, _rule(fields[name])) for name in ("customer_id", "name", "email", *KNOWN)),
    ]
    return Table("Rules in force", "", ("Rule", "Says"), rows)


def _rule(schema: Mapping[str, Any]) -> str:
    needed = "anyOf" not in schema
    schema = schema if needed else schema["anyOf"][0]
    says = ["Needed" if needed else "May be left out"]
    if schema["type"] == "integer":
        says.append("a whole number of 64 bits")
    elif schema.get("format") == "email":
        says.append("an address as RFC 5322 has it, of a domain that is not reserved")
    else:
        says.append(
            f"{schema.get('minLength', 0)} to {schema['maxLength']} characters, none of them a control character"
        )
    return "; ".join(says)


def _change(now: int, before: int | None) -> Change:
    return None if before is None else now - before


def to_csv(report: Report) -> bytes:
    """One cell of a table in each line: the table, its row, its column, the value."""
    lines = [csv_header(("table", "row", "column", "value")), csv_line(("Report", "", "at", report.at))]
    if report.since:
        lines.append(csv_line(("Report", "", "changes since", report.since)))
    for table in report.tables:
        # A row may need two cells to be named, as in "hubspot, email".
        for row in table.rows:
            name = ", ".join(str(cell) for cell in row[:2]) if isinstance(row[1], str) and len(row) > 2 else row[0]
            for column, cell in zip(table.columns[1:], row[1:], strict=True):
                if cell is not None and not (isinstance(cell, str) and len(row) > 2):
                    value = f"{cell:.6f}" if isinstance(cell, float) else cell
                    lines.append(csv_line((table.title, name, column, value)))
    return b"".join(lines)


def to_xlsx(report: Report) -> bytes:
    """A workbook with a sheet for each table, and a chart of the regions."""
    import xlsxwriter

    content = BytesIO()
    # In memory, for the function has no disk of its own; a text is a text and no formula, link or number.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(content, options) as book:
        book.set_properties({"title": "Customers across sources", "comments": f"As of {report.at}"})
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        forms = {int: book.add_format({"num_format": "#,##0"}), float: book.add_format({"num_format": "0.0%"})}
        note = book.add_format({"italic": True, "font_color": "#5b6675"})
        signed = book.add_format({"num_format": "+#,##0;-#,##0;0"})
        for table in report.tables:
            sheet = book.add_worksheet(table.title)
            sheet.write_string(0, 0, table.title, book.add_format({"bold": True, "font_size": 14}))
            when = f"As of {report.at}." + (f" Changes since {report.since}." if report.since else "")
            sheet.write_string(1, 0, f"{when} {table.note}".strip(), note)
            sheet.write_row(3, 0, table.columns, head)
            for at, row in enumerate(table.rows, 4):
                for column, cell in enumerate(row):
                    change = table.columns[column].startswith("Change")
                    if isinstance(cell, str):
                        sheet.write_string(at, column, cell)
                    elif cell is not None:
                        sheet.write_number(at, column, cell, signed if change else forms[type(cell)])
            sheet.set_column(0, 0, 36)
            sheet.set_column(1, 1, 60 if len(table.columns) == 2 else 16)
            sheet.set_column(2, len(table.columns), 16)
            sheet.freeze_panes(4, 1)
            sheet.set_landscape()
            sheet.fit_to_pages(1, 0)
            if table.columns[0] == "Sources" and table.rows:
                last = 3 + min(len(table.rows), PLOTTED)
                chart = book.add_chart({"type": "bar"})
                chart.add_series({"categories": [table.title, 4, 0, last, 0], "values": [table.title, 4, 1, last, 1]})
                chart.set_y_axis({"reverse": True})
                chart.set_legend({"none": True})
                chart.set_size({"width": 640, "height": 120 + 22 * (last - 3)})
                sheet.insert_chart(3, 5, chart)
    return content.getvalue()


def to_html(report: Report) -> str:
    """One page that needs nothing else, to be read and printed."""
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources("dedup") / "report.html").read_text("utf-8")
    )
    return page.render(report=report, plot=_plot(report), compact=compact)


def _plot(report: Report) -> Mapping[str, Any] | None:
    """Where the parts of an UpSet plot are, in pixels. By hand: what draws such plots in Python needs Matplotlib, which
    is larger than a function may be, and this is bars and dots."""
    regions = report.regions[:PLOTTED]
    if not regions:
        return None
    sources = sorted(report.sources, key=lambda name: (-report.sources[name], name))
    most, widest = regions[0][1], max(report.sources.values())
    left, top, height, row = 250, 24, 190, 26
    step = min(56.0, 650 / len(regions))
    base = top + height
    bars = []
    for place, (region, customers) in enumerate(regions):
        tall = max(1.0, height * customers / most)
        lines = [base + 24 + row * sources.index(name) for name in region]
        bars.append(
            {
                "x": left + step * (place + 0.5),
                "y": base - tall,
                "tall": tall,
                "wide": min(30.0, step * 0.62),
                "customers": customers,
                "name": " + ".join(region),
                "dots": [(base + 24 + row * at, name in region) for at, name in enumerate(sources)],
                "line": (min(lines), max(lines)),
            }
        )
    rows = [
        {
            "name": name,
            "y": base + 24 + row * at,
            "long": 90 * report.sources[name] / (widest or 1),
            "customers": report.sources[name],
        }
        for at, name in enumerate(sources)
    ]
    ticks = [{"y": base - height * part, "customers": round(most * part)} for part in (0.5, 1.0)]
    return {
        "width": left + step * len(regions) + 10,
        "height": base + 24 + row * len(sources),
        "left": left,
        "base": base,
        "row": row,
        "bars": bars,
        "rows": rows,
        "ticks": ticks if most > 1 else ticks[1:],
        "more": len(report.regions) - len(regions),
    }


def compact(number: float, digits: int = 3) -> str:
    """A number of so many digits, to fit over a bar: 950, 1.23k, 45.6M."""
    power = 0
    while float(f"{number:.{digits}g}") >= 1000 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{float(f'{number:.{digits}g}'):g}{_UNITS[power]}" if power else str(number)
