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
_CELLS = ("table-cell", "covered-table-cell")

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
    reader = _Cells(sheet)
    for _ in parsed(part(archive, _CONTENT), reader.start, reader.end, reader.text):
        if sum(map(len, reader.paragraphs)) + sum(map(len, reader.parts)) > 4 * MAX_ROW:
            raise Unreadable("The workbook has a cell that is too long")
        for first, cells, times in reader.done:
            for at in range(times):
                yield first + at, cells
        reader.done.clear()
        if reader.table > sheet:
            return


class _Cells:
    """Collects the rows of a sheet in `done` while the XML is parsed: the first row number, the cells, and how many
    rows have them."""

    def __init__(self, sheet: int) -> None:
        self.done: list[tuple[int, list[Cell], int]] = []
        self.text: list[str] = []
        self.paragraphs: list[str] = []
        self.parts: list[str] = []
        """Of the current paragraph."""
        self.table = -1
        """The index of the current sheet."""
        self._sheet = sheet
        self._row: list[Cell] = []
        self._cell: Attributes = {}
        self._depth = self._notes = self._length = self._blanks = 0
        self._line = self._repeated = 1

    def start(self, name: str, attributes: Attributes) -> None:
        # A cell may contain a table, whose rows are no rows of the sheet.
        if name == "table":
            self._depth += 1
            self.table += self._depth == 1
        elif self.table != self._sheet:
            return
        elif name in _CELLS and self._depth == 1:
            self._cell = _plain(attributes)
            self.paragraphs.clear()
        elif name == "p":
            self.text.clear()
            self.parts.clear()
        elif name in ("s", "tab", "line-break"):
            self.parts.extend(self.text)
            self.text.clear()
            self.parts.append(" " * _count(_plain(attributes).get("c"), 1000) if name == "s" else "\n")
        elif name == "table-row" and self._depth == 1:
            self._row = []
            self._length = self._blanks = 0
            self._repeated = _count(_plain(attributes).get("number-rows-repeated"), _MAX_REPEATED)
        elif name == "annotation":
            self._notes += 1

    def end(self, name: str) -> None:
        if name == "table":
            self._depth -= 1
        elif self.table != self._sheet:
            pass
        elif name == "p":
            if not self._notes:
                self.paragraphs.append("".join([*self.parts, *self.text]))
            self.parts.clear()
        elif name in _CELLS and self._depth == 1:
            self._add(_value(self._cell, self.paragraphs))
        elif name == "table-row" and self._depth == 1:
            if self._row:
                self.done.append((self._line, self._row, self._repeated))
            self._line += self._repeated
        elif name == "annotation":
            self._notes -= 1
        # Not after other elements: inside a paragraph, the texts of spans and links are joined.
        if name in ("p", "table-row", "table", *_CELLS):
            self.text.clear()

    def _add(self, value: Cell) -> None:
        times = _count(self._cell.get("number-columns-repeated"), MAX_COLUMNS)
        if value == "":
            self._blanks += times
            return
        times = min(times, MAX_COLUMNS - len(self._row) - self._blanks)
        if times <= 0 or self._length > MAX_ROW:
            return
        self._length += times * (len(value) if isinstance(value, str) else 1)
        if self._length > MAX_ROW:
            # The row is rejected in any case: do not hold the text many times.
            value, times = "…" * (MAX_ROW + 1), 1
        self._row.extend([*[""] * self._blanks, *[value] * times])
        self._blanks = 0


def _count(text: str | None, most: int) -> int:
    return max(1, min(int(text), most)) if text and text.isdecimal() and len(text) < 10 else 1


def _value(attributes: Attributes, paragraphs: list[str]) -> Cell:
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
