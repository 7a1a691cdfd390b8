"""What people see: tables, bars and progress. What came from the data is shown as text and as nothing else."""

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

WIDTH = None if sys.stdout.isatty() else 160
"""A file or a pipe has no edge to fit in."""

out = Console(markup=False, highlight=False, emoji=False, width=WIDTH)
err = Console(markup=False, highlight=False, emoji=False, stderr=True)

_BIDI = {*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
_FIRST_STRONG, _POP = "\u2068", "\u2069"
MAX_DOTS = 60
"""Columns that the sources' names may take as heads of dots; else they are listed."""


def safe(value: object) -> str:
    """The value as text that moves no cursor, sets no colour and turns no neighbour around: control characters are
    left out, and text from right to left is isolated (UAX 9)."""
    text = "".join(c for c in str(value) if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI)
    if any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text):
        return f"{_FIRST_STRONG}{text}{_POP}"
    return text


def cell(value: object) -> Text:
    """The value as a cell of a table: nothing as a dash, a number with separators, a list with commas."""
    if value is None or value == [] or value == "":
        return Text("—", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list):
        return Text(", ".join(safe(one) for one in value))
    return Text(f"{value:,}" if isinstance(value, int) else safe(value))


def flat(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The answer with each part of its field `name`, an object or None, as a field of its own: `name_part`."""
    return {**answer, **{f"{name}_{part}": value for part, value in (answer[name] or {}).items()}}


def fields(title: str, answer: Mapping[str, object]) -> None:
    """A table of names and values."""
    table = Table("", "", title=title, title_justify="left", show_header=False)
    for name, value in answer.items():
        table.add_row(name.replace("_", " "), cell(value))
    out.print(table)


def rows(title: str, found: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """A table with a row for each of `found`, of these fields."""
    columns = list(columns)
    table = Table(title=title, title_justify="left")
    for name in columns:
        numbers = any(isinstance(row.get(name), int) and name not in ("id", "customer_id") for row in found)
        table.add_column(name.replace("_", " "), justify="right" if numbers else "left")
    for row in found:
        plain = {name: str(row[name]) for name in ("id", "customer_id") if name in row}
        times = {name: str(row[name])[:16].replace("T", " ") for name in row if name.endswith("_at") and row[name]}
        table.add_row(*(cell({**row, **plain, **times}.get(name)) for name in columns))
    out.print(table)


def bars(regions: Sequence[Mapping[str, Any]], total: int) -> None:
    """The regions as an UpSet plot of characters: for each a dot under the sources that it is in, and a bar. `total`:
    the customers of these and of all other regions."""
    sources = sorted({source for region in regions for source in region["sources"]})
    most = max((region["count"] for region in regions), default=1)
    dots = sum(len(source) + 2 for source in sources) <= MAX_DOTS
    table = Table(box=None, pad_edge=False, header_style="")
    for source in sources if dots else ["sources"]:
        table.add_column(Text(safe(source)), justify="center" if dots else "left")
    table.add_column("")
    for name in ("customers", "share"):
        table.add_column(name, justify="right")
    for region in regions:
        named = [Text("●" if source in region["sources"] else "·") for source in sources]
        table.add_row(
            *(named if dots else [cell(region["sources"])]),
            Bar(most, 0, region["count"], width=30),
            cell(region["count"]),
            f"{region['count'] / total:.1%}",
        )
    out.print(table if regions else "No customers yet.")


def seconds(account: Mapping[str, Any]) -> float | None:
    """How long something took that says when it began and ended."""
    if not account.get("started_at") or not account.get("finished_at"):
        return None
    began, ended = (datetime.fromisoformat(account[name]) for name in ("started_at", "finished_at"))
    return round((ended - began).total_seconds(), 2)


def transfer() -> Progress:
    """Progress of bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=err, disable=not sys.stderr.isatty())


@contextmanager
def work(unit: str) -> Iterator[Any]:
    """Progress of something that reports its status and, in `unit`, how far it is: give each report to what this
    yields."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("waiting", total=None, note="")

        def shown(report: Mapping[str, Any]) -> None:
            ended = report["status"] in ("done", "failed")
            note = report.get("stage") or f"{report.get(unit) or 0:,} {unit}"
            share = 1.0 if ended else report.get("progress")
            progress.update(
                task, description=safe(report["status"]), note=safe(note), total=share and 1.0, completed=share
            )

        yield shown
