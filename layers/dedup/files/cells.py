"""Writes CSV for spreadsheets, without cells that a spreadsheet would run as formulas."""

import codecs
import re
from collections.abc import Iterable, Iterator

from dedup.files.tables import CELLS, Rejected


def rejected_csv(rejected: Iterable[Rejected]) -> Iterator[bytes]:
    """Yields the lines of a CSV file (RFC 4180, UTF-8) of rejected rows, starting with the header.

    The header starts with a byte order mark, because Excel reads UTF-8 as Windows-1252 without one. An apostrophe is
    placed before text that a spreadsheet would run as a formula, whatever its separator (OWASP, CSV injection)."""
    yield csv_header(CELLS)
    yield from (csv_line(row.cells) for row in rejected)


def csv_header(names: Iterable[str]) -> bytes:
    """Returns the header line of a CSV file, with a byte order mark so that Excel reads it as UTF-8."""
    return codecs.BOM_UTF8 + csv_line(names)


# A cell may start after any separator, because a spreadsheet that splits at semicolons sees other cells than we wrote.
# Runs of separators match as a whole, also without a formula: otherwise a row of line breaks takes seconds.
_CELL_START = re.compile(r"""((?:^|[,;|\t\r\n])[,;|\s"']*+)([=+\-@＝＋－＠]?)""")


def csv_line(cells: Iterable[object]) -> bytes:
    """Returns one line of a CSV file. Text is quoted and protected from being run as a formula; numbers, negative ones
    too, are written as they are."""
    return (
        ",".join([str(cell) if isinstance(cell, int) else _csv_text(str(cell)) for cell in cells]) + "\r\n"
    ).encode()


# Text that does not start a formula and has no separators or quotes. It needs no changes, and nearly all text matches.
_PLAIN = re.compile(r"""(?:[^=+\-@＝＋－＠,;|\s"'][^,;|\t\r\n"]*+)?""")


def _csv_text(cell: str) -> str:
    if not _PLAIN.fullmatch(cell):
        cell = without_formula(cell).replace('"', '""')
    return f'"{cell}"'


def without_formula(cell: str) -> str:
    """Returns the text with an apostrophe before each character that would start a formula in a spreadsheet, whatever
    its separator."""
    text = _CELL_START.sub(lambda start: f"{start[1]}'{start[2]}" if start[2] else start[1], cell)
    return f"'{text}" if text.startswith(("\t", "\r")) else text
