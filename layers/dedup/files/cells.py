"""Lines of CSV for spreadsheets: nothing in them is a formula."""

import codecs
import re
from collections.abc import Iterable, Iterator

from dedup.files.tables import CELLS, Rejected


def rejected_csv(rejected: Iterable[Rejected]) -> Iterator[bytes]:
    """The lines of a CSV file (RFC 4180, UTF-8) of the rejected rows, its header first.

    The header begins with a byte order mark, without which Excel takes UTF-8 for Windows-1252. Where a spreadsheet,
    whatever its separator, would see a formula, an apostrophe stands before it (OWASP, CSV injection)."""
    yield csv_header(CELLS)
    yield from (csv_line(row.cells) for row in rejected)


def csv_header(names: Iterable[str]) -> bytes:
    """The first line of a CSV file that Excel reads as UTF-8."""
    return codecs.BOM_UTF8 + csv_line(names)


# A cell can begin at each separator: a program that splits at semicolons sees cells that we did not write. It matches
# whole runs of them, formula or not: else a row of line breaks only would take seconds.
_CELL_START = re.compile(r"""((?:^|[,;|\t\r\n])[,;|\s"']*+)([=+\-@＝＋－＠]?)""")


def csv_line(cells: Iterable[object]) -> bytes:
    """One line of a CSV file: every text in quotes, and none a formula. A number is none, also below zero."""
    return (
        ",".join([str(cell) if isinstance(cell, int) else _csv_text(str(cell)) for cell in cells]) + "\r\n"
    ).encode()


# What begins with no formula, holds no separator at which another cell could begin, and no quote: nearly every cell.
_PLAIN = re.compile(r"""(?:[^=+\-@＝＋－＠,;|\s"'][^,;|\t\r\n"]*+)?""")


def _csv_text(cell: str) -> str:
    if not _PLAIN.fullmatch(cell):
        cell = without_formula(cell).replace('"', '""')
    return f'"{cell}"'


def without_formula(cell: str) -> str:
    """The text with an apostrophe wherever a spreadsheet, whatever its separator, would begin a formula."""
    text = _CELL_START.sub(lambda start: f"{start[1]}'{start[2]}" if start[2] else start[1], cell)
    return f"'{text}" if text.startswith(("\t", "\r")) else text
