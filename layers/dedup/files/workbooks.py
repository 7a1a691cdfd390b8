"""Reads the rows of a workbook: xlsx (ECMA-376) or ODS (OpenDocument 1.3)."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from tempfile import TemporaryFile
from typing import IO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from dedup.files.cell_rows import Cell, Rows, is_blank, tables_of_cells
from dedup.files.compression import BOMB_FROM, MAX_RATIO
from dedup.files.mapping import Mapper
from dedup.files.ods_sheets import ods_sheets
from dedup.files.sheets import Sheet, damaged
from dedup.files.tables import Table, Unreadable, quoted
from dedup.files.xlsx_sheets import xlsx_sheets

_MAX_DIRECTORY = 4 << 20
"""Most bytes of the archive's directory, which is held in memory."""

_MAX_SHEETS = 50
"""Most sheets that are searched for a table."""

_MAX_ABOVE = 20
"""Most rows, not counting blank ones, that may be above the header: titles, and notes of reports."""

_NO_ARCHIVE = "ZIP archives are not supported. Upload the file inside the archive"
_ODS = b"application/vnd.oasis.opendocument.spreadsheet"


def read_workbook(file: IO[bytes], sheet: str | None, mapper: Mapper) -> Iterator[Table]:
    """Yields the rows of the sheet with the name `sheet`; by default, of the first visible sheet that has a header with
    all required columns, and a row below it. Line numbers are the sheet's row numbers. Raises NeedsMapping or
    Unreadable if there is no such sheet, and Unreadable if the file is another kind of archive, or if it is damaged,
    encrypted or a decompression bomb."""
    size = file.seek(0, 2)
    try:
        _check_directory(file, size)
        with ZipFile(file) as archive, TemporaryFile(prefix="dedup-") as scratch:
            _check_parts(archive, size)
            sheets = _sheets(archive, scratch)
            named = _named(sheets, sheet) if sheet else [one for one in sheets if one.visible]
            yield from _tables(named[:_MAX_SHEETS], size, mapper)
    except (BadZipFile, zlib.error, EOFError, struct.error, UnicodeDecodeError, NotImplementedError) as error:
        raise damaged("it is cut off, or its archive is not valid") from error


def _check_directory(file: IO[bytes], size: int) -> None:
    """Refuses a directory that is too large for the memory, before zipfile reads it. The formats of the records at the
    end are in PKWARE's APPNOTE, 4.3.14 to 4.3.16."""
    start = max(0, size - (1 << 16) - 100)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise BadZipFile
    [length] = struct.unpack_from("<L", tail, at + 12)
    if tail[at - 20 : at - 16] == b"PK\x06\x07":
        [record] = struct.unpack_from("<Q", tail, at - 12)
        file.seek(min(record, size))
        [length] = struct.unpack_from("<Q", file.read(48), 40)
    if length > _MAX_DIRECTORY:
        raise Unreadable(_NO_ARCHIVE)


def _check_parts(archive: ZipFile, size: int) -> None:
    """Refuses encrypted parts, compression that is not part of the formats, and decompression bombs. The declared sizes
    can be relied on, because zipfile never reads more."""
    parts = archive.infolist()
    if not all(0 <= part.header_offset < size for part in parts):
        raise BadZipFile
    if any(part.flag_bits & 1 for part in parts):
        raise Unreadable("The archive is encrypted. Save the workbook without a password")
    if not all(part.compress_type in (ZIP_STORED, ZIP_DEFLATED) for part in parts):
        raise Unreadable(_NO_ARCHIVE)
    expanded = sum(part.file_size for part in parts)
    if expanded > BOMB_FROM and expanded > MAX_RATIO * size:
        raise Unreadable(f"The workbook expands to more than {MAX_RATIO} times its size. Save it as CSV")


def _sheets(archive: ZipFile, scratch: IO[bytes]) -> list[Sheet]:
    names = set(archive.namelist())
    has_kind = "mimetype" in names and archive.getinfo("mimetype").file_size < 200
    if has_kind and archive.read("mimetype").strip().startswith(_ODS):
        return ods_sheets(archive)
    if "xl/workbook.bin" in names:
        raise Unreadable("Binary workbooks (xlsb) are not supported. Save the workbook as xlsx or CSV")
    if "_rels/.rels" in names:
        return xlsx_sheets(archive, scratch)
    raise Unreadable(_NO_ARCHIVE)


def _named(sheets: Sequence[Sheet], name: str) -> list[Sheet]:
    found = [one for one in sheets if one.name.strip().casefold() == name.strip().casefold()]
    if not found:
        others = ", ".join(quoted(one.name) for one in sheets[:10])
        raise Unreadable(f"The workbook has no sheet {quoted(name)}. Its sheets are {others or 'empty'}")
    return found[:1]


class _Start(NamedTuple):
    """The first rows of a sheet, without blank ones."""

    rows: list[tuple[int, list[Cell]]]
    header: int | None
    """The index of the header in them; None if no row is usable as one."""


def _tables(sheets: Sequence[Sheet], size: int, mapper: Mapper) -> Iterator[Table]:
    first: tuple[_Start, Rows] | None = None
    for sheet in sheets:
        rows = (row for row in sheet.rows() if not is_blank(row[1]))
        start = _start(list(islice(rows, _MAX_ABOVE + 2)), mapper)
        if start.header is not None and len(start.rows) > start.header + 1:
            below: Rows = chain(start.rows[start.header + 1 :], rows)
            yield from tables_of_cells(start.rows[start.header][1], below, size, mapper)
            return
        if first is None or (len(first[0].rows) < 2 <= len(start.rows)):
            first = start, rows
    if first is None or not first[0].rows:
        raise Unreadable("The workbook has no rows in its visible sheets")
    start, rest = first
    at = _likely_header(start.rows) if start.header is None else start.header
    # Raises the reason, or the question, because no row is recognised as a header.
    yield from tables_of_cells(start.rows[at][1], chain(start.rows[at + 1 :], rest), size, mapper)


def _start(rows: list[tuple[int, list[Cell]]], mapper: Mapper) -> _Start:
    header = next((at for at, (_, cells) in enumerate(rows[: _MAX_ABOVE + 1]) if mapper.recognises(cells)), None)
    return _Start(rows, header)


def _likely_header(rows: Sequence[tuple[int, list[Cell]]]) -> int:
    """The index of the first row that has nearly as many cells as the widest one: titles above a table have few."""
    filled = [sum(not is_blank([cell]) for cell in cells) for _, cells in rows]
    return next(at for at, count in enumerate(filled) if count >= 0.8 * max(filled))
