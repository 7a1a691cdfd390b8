"""What the formats of workbooks have in common."""

from collections.abc import Callable, Iterator
from typing import NamedTuple
from zipfile import ZipFile

from dedup.files.cell_rows import Cell
from dedup.files.compression import Stream
from dedup.files.tables import Unreadable

MAX_COLUMNS = 16_384
"""Most columns of a sheet: the limit of Excel and LibreOffice. Cells beyond are ignored."""


class Sheet(NamedTuple):
    """A sheet of a workbook. `rows` reads it from its start: row numbers from 1, ascending, and cells."""

    name: str
    visible: bool
    rows: Callable[[], Iterator[tuple[int, list[Cell]]]]


def damaged(how: str) -> Unreadable:
    """The exception for a workbook that does not follow its format."""
    return Unreadable(f"The workbook is damaged: {how}")


def part(archive: ZipFile, name: str) -> Stream:
    """A file of the archive as a stream. Raises Unreadable if it is missing."""
    try:
        return archive.open(name)
    except KeyError:
        raise damaged(f"it has no {name[:100]!r}") from None
