"""Reads the sheets of ODS workbooks (OpenDocument 1.3 part 3, chapter 9) as streams."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from zipfile import ZipFile

from dedup.files.cell_rows import Cell, moment, number
from dedup.files.sheets import MAX_COLUMNS, Sheet, part
from dedup.files.tables import MAX_ROW, Unreadable
from dedup.files.xml_parts import Attributes, parsed

_CONTENT = "content.xml"

_MAX_REPEATED = 1_048_576
"""Most rows of a sheet: the limit of LibreOffice. A row's number of repetitions is cut to it."""


def ods_sheets(archive: ZipFile) -> list[Sheet]:
    """Returns the sheets in the workbook's order. Raises Unreadable if the workbook is damaged or encrypted."""
    # The parts of an encrypted workbook are encrypted one by one, by the format and not by the archive.
    if b"encryption-data" in part(archive, "META-INF/manifest.xml").read(1 << 20):
        raise Unreadable("The workbook has a password. Save it without one")
    return [
        Sheet(name, visible, lambda at=at: _rows(archive, at))  # type: ignore[misc] # the default binds the loop's value
        for at, (name, visible) in enumerate(_listed(archive))
    ]


def _plain(attributes: Attributes) -> Attributes:
    return {name[name.find(":") + 1 :]: value for name, value in attributes.items()}


def _listed(archive: ZipFile) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    hidden: set[str] = set()
    style = ""
    depth = 0

    def start(name: str, attributes: Attributes) -> None:
        nonlocal style, depth
        if name == "table":
            depth += 1
            if depth == 1:
                given = _plain(attributes)
                found.append((given.get("name", ""), given.get("style-name") not in hidden))
        elif name == "style":
            style = _plain(attributes).get("name", "")
        elif name == "table-properties" and _plain(attributes).get("display") == "false":
            hidden.add(style)

    def end(name: str) -> None:
        nonlocal depth
        text.clear()
        if name == "table":
            depth -= 1

    text: list[str] = []
    for _ in parsed(part(archive, _CONTENT), start, end, text):
        pass
    return found


def _rows(archive: ZipFile, sheet: int) -> Iterator[tuple[int, list[Cell]]]:
    """Yields the rows of the sheet with this index."""
    done: list[tuple[int, list[Cell], int]] = []
    row: list[Cell] = []
    text: list[str] = []
    paragraphs: list[str] = []
    parts: list[str] = []
    cell: Attributes = {}
    table, depth, notes = -1, 0, 0
    line, length, blanks, repeated = 1, 0, 0, 1

    def start(name: str, attributes: Attributes) -> None:
        nonlocal table, depth, notes, cell, length, blanks, repeated
        if name == "table":
            depth += 1
            table += depth == 1
        elif table != sheet:
            return
        elif name == "table-row" and depth == 1:
            row.clear()
            length = blanks = 0
            repeated = _count(_plain(attributes).get("number-rows-repeated"), _MAX_REPEATED)
        elif name in ("table-cell", "covered-table-cell") and depth == 1:
            cell = _plain(attributes)
            paragraphs.clear()
        elif name == "annotation":
            notes += 1
        elif name == "p":
            text.clear()
            parts.clear()
        elif name in ("s", "tab", "line-break"):
            parts.extend(text)
            text.clear()
            parts.append(" " * _count(_plain(attributes).get("c"), 1000) if name == "s" else "\n")

    def end(name: str) -> None:
        nonlocal depth, notes, line, length, blanks
        if name == "table":
            depth -= 1
        elif table != sheet:
            pass
        elif name == "p":
            if not notes:
                paragraphs.append("".join([*parts, *text]))
            parts.clear()
        elif name == "annotation":
            notes -= 1
        elif name in ("table-cell", "covered-table-cell") and depth == 1:
            value = _cell(cell, paragraphs)
            times = _count(cell.get("number-columns-repeated"), MAX_COLUMNS)
            if value == "":
                blanks += times
            else:
                times = max(0, min(times, MAX_COLUMNS - len(row) - blanks))
                length += times * (len(value) if isinstance(value, str) else 1)
                if times and length <= MAX_ROW + MAX_COLUMNS:
                    row.extend([""] * blanks)
                    row.extend([value] * times)
                elif times:
                    # Too long in any case: one cell is enough to reject it.
                    row.extend([""] * blanks)
                    row.append("…" * (MAX_ROW + 1))
                blanks = 0
        elif name == "table-row" and depth == 1:
            if row:
                done.append((line, row[:], repeated))
            line += repeated
        # Not after other elements: inside a paragraph, the texts of spans and links are joined.
        if name in ("p", "table-cell", "covered-table-cell", "table-row", "table"):
            text.clear()

    for _ in parsed(part(archive, _CONTENT), start, end, text):
        if sum(map(len, paragraphs)) + sum(map(len, parts)) > 4 * MAX_ROW:
            raise Unreadable("The workbook has a cell that is too long")
        for first, cells, times in done:
            for at in range(times):
                yield first + at, cells
        done.clear()
        if table > sheet:
            return


def _count(text: str | None, most: int) -> int:
    return max(1, min(int(text), most)) if text and text.isdecimal() and len(text) < 10 else 1


def _cell(attributes: Attributes, paragraphs: list[str]) -> Cell:
    kind = attributes.get("value-type")
    if kind in ("float", "currency", "percentage"):
        return number(attributes.get("value", ""))
    if kind == "boolean":
        return attributes.get("boolean-value", "")
    if kind == "date":
        written = attributes.get("date-value", "")
        with suppress(ValueError):
            return moment(datetime.fromisoformat(written.removesuffix("Z")))
        return written
    if kind == "string" and "string-value" in attributes:
        return attributes["string-value"]
    return "\n".join(paragraphs)
