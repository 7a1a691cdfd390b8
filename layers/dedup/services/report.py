"""The report: tables that are rendered as HTML, spreadsheet and CSV with the same contents.

Jinja and XlsxWriter are imported where they are used, because only the report function has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as resources
from io import BytesIO
from itertools import accumulate, compress
from typing import Any

from dedup import sets
from dedup.files.cells import csv_header, csv_line
from dedup.records import DETAILS
from dedup.services import report_rules
from dedup.store.reports import Baseline, Figures, People

_UNITS = ("", "k", "M", "G", "T")

MAX_REGIONS = 1_000
MAX_NAMES = 250_000
"""Most characters of the region names in one table. The CSV has each name three times, by customer and by person, and
the response limit is 6 MB."""

PLOTTED = 30
"""Most regions in a plot, which is the number of columns that fit on a page."""

Cell = str | int | float | None
Change = int | None


@dataclass(frozen=True)
class Table:
    """A table of the report. The first cell of a row is its name. A float is a share from 0 to 1."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    regions: sets.Regions | None = None
    """The regions to plot, if the table is about regions."""


@dataclass(frozen=True)
class Report:
    """The whole report. `at` and `since` are times in UTC; `since` is None if there is no baseline."""

    at: str
    since: str | None
    tables: Sequence[Table]
    sources: Sequence[str]


def make(figures: Figures, last: Baseline | None, sources: Sequence[str]) -> Report:
    """Returns the report of the figures, with changes since the baseline `last`. `sources` are the configured ones."""
    named = [*sources, *sorted(figures.records.keys() - {*sources})]
    people = figures.people
    tables = [
        _totals(figures, last, named),
        _overlap(figures.regions, last),
        *([_overlap_by_person(people, last)] if people else []),
        _sources(figures, last, named),
        _completeness(figures, named),
        _files(figures),
        _rules(sources, people),
        *([_matching(people)] if people else []),
    ]
    if last is None:
        tables = [_without_changes(table) for table in tables]
    return Report(_moment(figures.at.isoformat()), _moment(last.created_at) if last else None, tables, named)


def _moment(time: str) -> str:
    return time[:16].replace("T", " ") + " UTC"


def _without_changes(table: Table) -> Table:
    kept = [not column.startswith("Change") for column in table.columns]
    return replace(table, columns=[*compress(table.columns, kept)], rows=[[*compress(row, kept)] for row in table.rows])


def _totals(figures: Figures, last: Baseline | None, named: Sequence[str]) -> Table:
    def totals(records: Mapping[str, int], regions: sets.Regions) -> list[int]:
        total, customers = sum(records.values()), sets.count(regions)
        shared = sets.count(regions, [region for region in regions if len(region) > 1])
        everywhere = sets.SetQuery(within=frozenset(named)).count(regions)
        return [total, customers, total - customers, shared, everywhere]

    note = (
        "A customer is a customer id, however many records it has. A duplicate is an additional record of a customer "
        "already counted."
    )
    names = ["Records", "Customers", "Duplicate records", "Customers in several sources", "Customers in every source"]
    now = totals(figures.records, figures.regions)
    before: list[Change] = [*totals(last.records, last.regions)] if last else [None] * len(now)
    if figures.people:
        note += " A person is an entity that matching found, which may have several customer ids."
        names += ["People", "Additional records of people", "People in several sources", "People in every source"]
        now += totals(figures.records, figures.people.regions)[1:]
        before += totals(last.records, last.people)[1:] if last and last.run else [None] * 4
    return Table(
        "Totals",
        note,
        ("", "Now", "Change"),
        [(name, value, _change(value, old)) for name, value, old in zip(names, now, before, strict=True)],
    )


def _overlap(regions: sets.Regions, last: Baseline | None) -> Table:
    note = "Customers in exactly these sources and in no other."
    return _regions("Overlap", note, "Customers", regions, last.regions if last else None)


def _overlap_by_person(people: People, last: Baseline | None) -> Table:
    note = f"People in exactly these sources and in no other, as found by matching run {people.run}."
    if people.unresolved_records:
        note += f" Not included yet: {people.unresolved_records:,} changed records, which wait to be matched."
    if last and last.run and last.run != people.run:
        note += f" Changes may come from matching too: the active run of the baseline was {last.run}."
    before = last.people if last and last.run else None
    return _regions("Overlap by person", note, "People", people.regions, before)


def _regions(title: str, note: str, counted: str, regions: sets.Regions, before: sets.Regions | None) -> Table:
    total, known = sets.count(regions), before or {}
    emptied = sorted((sorted(region), 0) for region, count in known.items() if count and not regions.get(region))
    listed = [*sets.largest_first(regions), *emptied]
    names = [" + ".join(sources) for sources, _ in listed[:MAX_REGIONS]]
    shown = sum(length <= MAX_NAMES for length in accumulate(map(len, names)))
    old = [known.get(frozenset(sources), 0) for sources, _ in listed]
    rows = [(name, now, then) for name, (_, now), then in zip(names[:shown], listed, old, strict=False)]
    if rest := listed[shown:]:
        note += f" The largest {shown:,} of {len(listed):,} regions; the last row is the sum of the others."
        rows.append((f"{len(rest):,} other regions", sum(now for _, now in rest), sum(old[shown:])))
    return Table(
        title,
        note,
        ("Sources", counted, "Share", "Change"),
        [
            (name, now, now / total if total else 0.0, _change(now, None if before is None else then))
            for name, now, then in rows
        ],
        regions,
    )


def _sources(figures: Figures, last: Baseline | None, named: Sequence[str]) -> Table:
    rows, by_source = [], sets.count_by_source(figures.regions)
    for name in named:
        records, customers = figures.records.get(name, 0), by_source.get(name, 0)
        only = sets.SetQuery(exactly=frozenset({name})).count(figures.regions)
        change = _change(records, last.records.get(name, 0) if last else None)
        rows.append((name, records, customers, records - customers, only, change))
    columns = ("Source", "Records", "Customers", "Duplicate records", "Only in this source", "Change in records")
    return Table("Sources", "", columns, rows)


def _completeness(figures: Figures, named: Sequence[str]) -> Table:
    sampled, total = sum(figures.sampled.values()), sum(figures.records.values())
    note = "Share of each source's records that have the field. The id is always present."
    if sampled < total:
        note += f" Estimated from {sampled:,} of {total:,} records."
    rows: list[Sequence[Cell]] = [
        (name, *(figures.filled[name][field] / count for field in DETAILS))
        for name in named
        if (count := figures.sampled.get(name, 0))
    ]
    return Table("Completeness", note, ("Source", *(field.replace("_", " ").capitalize() for field in DETAILS)), rows)


def _files(figures: Figures) -> Table:
    rows: list[Sequence[Cell]] = []
    for source, (total, rejected) in sorted(figures.rows.items(), key=lambda item: item[0] or ""):
        name = source or "(source in each row)"
        rows.append((name, "all rows", total, rejected, None, None))
        rows += [
            (name, error.field or "whole row", None, None, error.missing, error.malformed)
            for error in figures.field_errors
            if error.source == source
        ]
    return Table(
        "Uploaded files",
        "Rows of all loaded files, rejected rows, and missing or invalid fields. A row may have several errors.",
        ("Source of the file", "Field", "Rows", "Rejected", "Missing", "Invalid"),
        rows,
    )


def _rules(sources: Sequence[str], people: People | None) -> Table:
    found = f"Found by matching run {people.run}" if people else "Not available: no matching run has finished"
    return Table("Rules", "", ("Rule", "Definition"), [("People", found), *report_rules.of_records(sources)])


def _matching(people: People) -> Table:
    changed = ", ".join(sorted(people.asked))
    rows = [
        ("Run", f"{people.run}, finished {_moment(people.finished_at)}, on {people.engine}"),
        ("Settings", f"Defaults, except for {changed}" if changed else "Defaults"),
        *report_rules.of_matching(people.settings, people.model),
        ("Decisions", f"{people.decisions:,} active; they take precedence over rules and model"),
    ]
    note = "How matching decides which records are the same person."
    return Table("Matching", note, ("Rule", "Definition"), rows)


def _change(now: int, before: int | None) -> Change:
    return None if before is None else now - before


def to_csv(report: Report) -> bytes:
    """Renders the report as CSV, with one line for each cell: table, row, column, value."""
    lines = [csv_header(("table", "row", "column", "value")), csv_line(("Report", "", "at", report.at))]
    if report.since:
        lines.append(csv_line(("Report", "", "changes since", report.since)))
    for table in report.tables:
        # The name of a row may be in two cells, as in "hubspot, email".
        for row in table.rows:
            name = ", ".join(str(cell) for cell in row[:2]) if isinstance(row[1], str) and len(row) > 2 else row[0]
            for column, cell in zip(table.columns[1:], row[1:], strict=True):
                if cell is not None and not (isinstance(cell, str) and len(row) > 2):
                    value = f"{cell:.6f}" if isinstance(cell, float) else cell
                    lines.append(csv_line((table.title, name, column, value)))
    return b"".join(lines)


def to_xlsx(report: Report) -> bytes:
    """Renders the report as a workbook, with a sheet for each table and charts of the regions."""
    import xlsxwriter

    content = BytesIO()
    # In memory, because the function's file system is read-only. Text is not converted to formulas, links or numbers.
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    with xlsxwriter.Workbook(content, options) as book:
        book.set_properties({"title": "Customers across sources", "comments": f"As of {report.at}"})
        head = book.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        formats = {int: book.add_format({"num_format": "#,##0"}), float: book.add_format({"num_format": "0.0%"})}
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
                        sheet.write_number(at, column, cell, signed if change else formats[type(cell)])
            sheet.set_column(0, 0, 36)
            sheet.set_column(1, 1, 60 if len(table.columns) == 2 else 16)
            sheet.set_column(2, len(table.columns), 16)
            sheet.freeze_panes(4, 1)
            sheet.set_landscape()
            sheet.fit_to_pages(1, 0)
            if table.regions:
                last = 3 + min(len(table.rows), PLOTTED)
                chart = book.add_chart({"type": "bar"})
                chart.add_series({"categories": [table.title, 4, 0, last, 0], "values": [table.title, 4, 1, last, 1]})
                chart.set_y_axis({"reverse": True})
                chart.set_legend({"none": True})
                chart.set_size({"width": 640, "height": 120 + 22 * (last - 3)})
                sheet.insert_chart(3, 5, chart)
    return content.getvalue()


def to_html(report: Report) -> str:
    """Renders the report as a printable page without external resources."""
    from jinja2 import Environment

    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources("dedup.services") / "report.html").read_text("utf-8")
    )
    return page.render(report=report, draw=_plot, compact=compact)


def _plot(every: sets.Regions, sources: Sequence[str]) -> Mapping[str, Any]:
    """Returns the positions in pixels of the parts of an UpSet plot. Python libraries for such plots need Matplotlib,
    which exceeds the size limit of a function."""
    regions = sets.largest_first(every)[:PLOTTED]
    by_source = sets.count_by_source(every)
    customers_of = {name: by_source.get(name, 0) for name in sources}
    sources = sorted(sources, key=lambda name: (-customers_of[name], name))
    most, widest = regions[0][1], max(customers_of.values())
    left, top, height, row = 250, 24, 190, 26
    step = min(56.0, 650 / len(regions))
    base = top + height
    bars = []
    for position, (region, customers) in enumerate(regions):
        tall = max(1.0, height * customers / most)
        lines = [base + 24 + row * sources.index(name) for name in region]
        bars.append(
            {
                "x": left + step * (position + 0.5),
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
            "long": 90 * customers_of[name] / (widest or 1),
            "customers": customers_of[name],
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
        "more": len(every) - len(regions),
    }


def compact(number: float, digits: int = 3) -> str:
    """Formats a number with so many significant digits for the label of a bar: 950, 1.23k, 45.6M."""
    power = 0
    while float(f"{number:.{digits}g}") >= 1000 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{float(f'{number:.{digits}g}'):g}{_UNITS[power]}" if power else str(number)
