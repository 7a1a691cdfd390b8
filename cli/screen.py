"""Output for people: tables, bars and progress. Values from the data are printed as plain text only."""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

WIDTH = None if sys.stdout.isatty() else 160
"""Fixed for files and pipes, which have no width of their own."""

out = Console(markup=False, highlight=False, emoji=False, width=WIDTH)
err = Console(markup=False, highlight=False, emoji=False, stderr=True)

_BIDI = {*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
_FIRST_STRONG, _POP = "\u2068", "\u2069"
MAX_DOTS = 60
"""Width up to which each source has a column of dots; beyond it, each region lists its sources."""


def safe(value: object) -> str:
    """The value as text that cannot move the cursor, set colours or change the direction of the text around it: control
    characters are removed, and right-to-left text is isolated (UAX 9)."""
    text = "".join(c for c in str(value) if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI)
    if any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text):
        return f"{_FIRST_STRONG}{text}{_POP}"
    return text


def cell(value: object) -> Text:
    """The value as a cell of a table: a dash if it is empty, numbers with separators, lists and objects with
    commas."""
    if value is None or value == [] or value == "":
        return Text("—", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list):
        return Text(", ".join(safe(one) for one in value))
    if isinstance(value, dict):
        return Text(", ".join(f"{safe(name)}: {safe(one)}" for name, one in value.items()))
    return Text(f"{value:,}" if isinstance(value, int) else safe(value))


def flat(response: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The response with the parts of its field `name`, an object or None, as additional fields: `name_part`."""
    return {**response, **{f"{name}_{part}": value for part, value in (response[name] or {}).items()}}


def fields(title: str, response: Mapping[str, object]) -> None:
    """Prints a table of names and values."""
    table = Table("", "", title=title, title_justify="left", show_header=False)
    for name, value in response.items():
        table.add_row(name.replace("_", " "), cell(value))
    out.print(table)


def rows(title: str, found: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Prints a table with a row for each of `found` and a column for each of the fields `columns`."""
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
    """Prints the regions as an UpSet plot of characters: each has a dot under each of its sources, and a bar. `total`:
    customers of all regions, also of those that are not shown."""
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


def seconds(task: Mapping[str, Any]) -> float | None:
    """The time from the start to the end of a task; None if it has not ended."""
    if not task.get("started_at") or not task.get("finished_at"):
        return None
    started, finished = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
    return round((finished - started).total_seconds(), 2)


def transfer() -> Progress:
    """The progress of a transfer, in bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=err, disable=not sys.stderr.isatty())


@contextmanager
def progress_of_task(unit: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """The progress of a task. Yields a function to call with each response about the task: its `status`, and its
    `stage` or the number in its field `unit`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("waiting", total=None, note="")

        def show(task: Mapping[str, Any]) -> None:
            ended = task["status"] in ("done", "failed")
            note = task.get("stage") or f"{task.get(unit) or 0:,} {unit}"
            share = 1.0 if ended else task.get("progress")
            progress.update(
                bar, description=safe(task["status"]), note=safe(note), total=share and 1.0, completed=share
            )

        yield show
