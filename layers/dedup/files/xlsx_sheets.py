"""Reads the sheets of xlsx workbooks (ECMA-376 part 1, chapter 18) as streams."""

import posixpath
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from typing import IO
from zipfile import ZipFile

from dedup.files.cell_rows import Cell, moment, number
from dedup.files.sheets import MAX_COLUMNS, Sheet, damaged, part
from dedup.files.spool import write
from dedup.files.tables import MAX_ROW, Unreadable
from dedup.files.xml_parts import Attributes, parsed

_MAX_SMALL_PART = 16 << 20
"""Most bytes of the parts that are held in memory: the list of sheets, and styles."""


def xlsx_sheets(archive: ZipFile, scratch: IO[bytes]) -> list[Sheet]:
    """Returns the worksheets in the workbook's order. `scratch` is an empty temporary file. Raises
    Unreadable if the archive is not a workbook, or damaged."""
    workbook = next((target for kind, target in _related(archive, "").values() if kind == "officeDocument"), None)
    if workbook is None or "xl/" not in workbook:
        raise Unreadable("The file is a document without sheets. Save its table as CSV")
    related = _related(archive, workbook)
    listed, is_1904 = _listed(archive, workbook)
    paths = dict(related.values())
    strings: list[SharedStrings] = []

    def rows_of(path: str) -> Iterator[tuple[int, list[Cell]]]:
        # Read when the first sheet needs them, and once.
        if not strings:
            strings.append(SharedStrings(scratch, archive, paths.get("sharedStrings")))
        yield from _rows(archive, path, strings[0], _styles(archive, paths.get("styles"), is_1904))

    def sheet(name: str, visible: bool, path: str) -> Sheet:
        return Sheet(name, visible, lambda: rows_of(path))

    found = [(name, visible, related.get(key)) for name, visible, key in listed]
    return [sheet(name, visible, to[1]) for name, visible, to in found if to and to[0] == "worksheet"]


def _related(archive: ZipFile, path: str) -> dict[str, tuple[str, str]]:
    """The parts that a part refers to: their kind and path by the id of the reference (ECMA-376 part 2, 8.5)."""
    folder, name = posixpath.split(path)
    found: dict[str, tuple[str, str]] = {}

    def start(name: str, attributes: Attributes) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", "")))
            kind = attributes.get("Type", "").rpartition("/")[2]
            found[attributes.get("Id", "")] = kind, target.lstrip("/")

    _read_small(archive, posixpath.join(folder, "_rels", f"{name}.rels"), start)
    return found


def _read_small(archive: ZipFile, path: str, start: Callable[[str, Attributes], None]) -> None:
    try:
        size = archive.getinfo(path).file_size
    except KeyError:
        raise damaged(f"it has no {path[:100]!r}") from None
    if size > _MAX_SMALL_PART:
        raise damaged(f"{path[:100]!r} is too large")
    text: list[str] = []
    for _ in parsed(part(archive, path), start, lambda _: text.clear(), text):
        pass


def _listed(archive: ZipFile, path: str) -> tuple[list[tuple[str, bool, str]], bool]:
    """The name of each sheet, whether it is visible, and the id of its part; and whether dates count from 1904."""
    found: list[tuple[str, bool, str]] = []
    is_1904 = False

    def start(name: str, attributes: Attributes) -> None:
        nonlocal is_1904
        if name == "sheet":
            key = next((value for name, value in attributes.items() if name.endswith(":id")), "")
            found.append((attributes.get("name", ""), attributes.get("state", "visible") == "visible", key))
        elif name == "workbookPr":
            is_1904 = attributes.get("date1904") in ("1", "true")

    _read_small(archive, path, start)
    return found, is_1904


# Numbers and dates

_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)])
"""Numbers of the built-in formats of dates and times (18.8.30). 46 is a duration."""

_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]')
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]")
_ZEROS = re.compile(r"0{2,20}")

_MAX_SERIAL = 2_958_466
"""The day after 9999-12-31."""


def _styles(archive: ZipFile, path: str | None, is_1904: bool) -> dict[str, Callable[[str], Cell]]:
    """How the numbers of each cell style are converted, for styles that do not just show the number."""
    codes: dict[str, str] = {}
    formats: list[str] = []
    inside = False

    def start(name: str, attributes: Attributes) -> None:
        nonlocal inside
        if name == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name in ("cellXfs", "cellStyleXfs"):
            inside = name == "cellXfs"
        elif name == "xf" and inside:
            formats.append(attributes.get("numFmtId", "0"))

    if path:
        _read_small(archive, path, start)
    found: dict[str, Callable[[str], Cell]] = {}
    for at, key in enumerate(formats):
        code = codes.get(key, "")
        if _is_date(key, code):
            found[str(at)] = _date_1904 if is_1904 else _date_1900
        elif _ZEROS.fullmatch(code):
            found[str(at)] = _padded(len(code))
    return found


def _is_date(key: str, code: str) -> bool:
    if not code:
        return key.isdigit() and int(key) in _DATE_FORMATS
    section = code.lower().split(";")[0]
    if _ELAPSED.search(section):
        return False
    shown = _LITERAL.sub("", section)
    return "general" not in shown and bool(re.search("[ymdhs]", shown))


def _padded(length: int) -> Callable[[str], Cell]:
    """Postcodes and ids whose leading zeros come from the format: the cell is stored as 1234 and shown as 01234."""

    def convert(text: str) -> Cell:
        value = number(text)
        return value.zfill(length) if isinstance(value, str) and value.isdigit() else value

    return convert


@lru_cache(maxsize=10_000)
def _date_1900(text: str) -> Cell:
    # Day 60 is 1900-02-29, which did not exist: Excel keeps an error of Lotus 1-2-3.
    return _date(text, lambda serial: datetime(1899, 12, 30) if serial >= 60 else datetime(1899, 12, 31))


@lru_cache(maxsize=10_000)
def _date_1904(text: str) -> Cell:
    return _date(text, lambda _: datetime(1904, 1, 1))


def _date(text: str, epoch: Callable[[float], datetime]) -> Cell:
    """The ISO date of a serial number, with a time to the second if it has one; only the time below one day."""
    try:
        serial = float(text)
    except ValueError:
        return text
    if not 0 <= serial < _MAX_SERIAL:
        return number(text)
    try:
        value = epoch(serial) + timedelta(seconds=round(serial * 86_400))
    except OverflowError:
        return number(text)
    return value.time().isoformat() if serial < 1 else moment(value)


def _iso_date(text: str) -> Cell:
    with suppress(ValueError):
        return moment(datetime.fromisoformat(text.strip().removesuffix("Z")))
    return text


# Text

_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


def _unescaped(text: str) -> str:
    """Replaces _xHHHH_, which stands for a character that XML cannot contain (22.4.2.4)."""
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text) if "_x" in text else text


class SharedStrings:
    """The texts that cells refer to by number. They are kept in a temporary file, because a large workbook has more
    of them than fit into memory, and cells use them roughly in their order."""

    _BLOCK = 128
    _MAX_CACHED = 16 << 20
    """Most characters of texts in memory, not counting the last block read."""

    def __init__(self, file: IO[bytes], archive: ZipFile, path: str | None) -> None:
        self._file = file
        self._ends = array("Q", [0])
        self._blocks: dict[int, list[str]] = {}
        self._cached = 0
        if path:
            self._store(archive, path)

    def __getitem__(self, position: int) -> str:
        """Raises IndexError if there is no such text."""
        block, at = divmod(position, self._BLOCK)
        texts = self._blocks.get(block)
        return (texts if texts is not None else self._loaded(block))[at]

    def _loaded(self, block: int) -> list[str]:
        if not 0 <= block < len(self._ends) - 1:
            raise IndexError
        begin, end = self._ends[block], self._ends[block + 1]
        self._file.seek(begin)
        text = self._file.read(end - begin).decode("utf-8", "surrogatepass")
        if self._cached > self._MAX_CACHED:
            self._blocks.clear()
            self._cached = 0
        self._cached += len(text)
        return self._blocks.setdefault(block, text.split("\x1f"))

    def _store(self, archive: ZipFile, path: str) -> None:
        pending: list[str] = []
        parts: list[str] = []
        text: list[str] = []
        phonetic = 0

        def start(name: str, _: Attributes) -> None:
            nonlocal phonetic
            if name == "t":
                text.clear()
            elif name == "rPh":
                phonetic += 1

        def end(name: str) -> None:
            nonlocal phonetic
            if name == "t":
                if not phonetic:
                    parts.extend(text)
            elif name == "si":
                pending.append(_unescaped("".join(parts)))
                parts.clear()
            elif name == "rPh":
                phonetic -= 1
            text.clear()

        for _ in parsed(part(archive, path), start, end, text):
            if sum(map(len, parts)) > MAX_ROW:
                raise Unreadable("The workbook has a text that is too long")
            while len(pending) >= self._BLOCK:
                self._write(pending[: self._BLOCK])
                del pending[: self._BLOCK]
        if pending:
            self._write(pending)

    def _write(self, texts: list[str]) -> None:
        # XML cannot contain the separator, and an escaped one is as good as a space.
        data = "\x1f".join(text.replace("\x1f", " ") for text in texts).encode("utf-8", "surrogatepass")
        write(self._file, data)
        self._ends.append(self._ends[-1] + len(data))


# Cells


@lru_cache(maxsize=1 << 15)
def _column(letters: str) -> int | None:
    """The index of the column A, …, XFD; None if it is not one."""
    index = 0
    for letter in letters:
        if not "A" <= letter <= "Z":
            return None
        index = index * 26 + ord(letter) - 64
        if index > MAX_COLUMNS:
            return None
    return index - 1 if index else None


def _rows(
    archive: ZipFile, path: str, strings: SharedStrings, styles: dict[str, Callable[[str], Cell]]
) -> Iterator[tuple[int, list[Cell]]]:
    reader = _Cells(strings, styles)
    for _ in parsed(part(archive, path), reader.start, reader.end, reader.text):
        if sum(map(len, reader.parts)) > 4 * MAX_ROW:
            raise Unreadable("The workbook has a cell that is too long")
        yield from reader.done
        reader.done.clear()


class _Cells:
    """Collects the rows of a sheet in `done` while its XML is parsed."""

    def __init__(self, strings: SharedStrings, styles: dict[str, Callable[[str], Cell]]) -> None:
        self.done: list[tuple[int, list[Cell]]] = []
        self.text: list[str] = []
        self.parts: list[str] = []
        self._strings = strings
        self._styles = styles
        self._row: list[Cell] = []
        self._line = self._length = self._phonetic = 0
        self._column = -1
        self._kind = self._style = ""

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            get = attributes.get
            self._kind, self._style = get("t", "n"), get("s", "0")
            reference = get("r")
            at = _column(reference.rstrip("0123456789")) if reference else self._column + 1
            self._column = MAX_COLUMNS if at is None else at
            self.parts.clear()
        elif name in ("v", "t"):
            self.text.clear()
        elif name == "row":
            given = attributes.get("r", "")
            following = self._line + 1
            self._line = max(following, int(given)) if given.isdecimal() and len(given) < 10 else following
            self._column, self._length = -1, 0
        elif name == "rPh":
            self._phonetic += 1

    def end(self, name: str) -> None:
        if name == "v" or (name == "t" and not self._phonetic):
            self.parts.extend(self.text)
        elif name == "c":
            if self.parts:
                self._add(self._cell("".join(self.parts)))
        elif name == "row":
            self.done.append((self._line, self._row))
            self._row = []
        elif name == "rPh":
            self._phonetic -= 1
        self.text.clear()

    def _add(self, value: Cell) -> None:
        # The rest of a row that is too long is not kept: the row is rejected in any case.
        if value == "" or self._column >= MAX_COLUMNS or self._length > MAX_ROW:
            return
        self._length += len(value) if isinstance(value, str) else 1
        row, gap = self._row, self._column - len(self._row)
        if gap == 0:
            row.append(value)
        elif gap > 0:
            row.extend([*[""] * gap, value])
        else:
            row[self._column] = value

    def _cell(self, value: str) -> Cell:
        match self._kind:
            case "s":
                try:
                    return self._strings[int(value)]
                except (ValueError, IndexError):
                    raise damaged("a cell refers to a text that does not exist") from None
            case "n":
                convert = self._styles.get(self._style)
                return convert(value) if convert else number(value)
            case "b":
                return {"0": "false", "1": "true"}.get(value, value)
            case "d":
                return _iso_date(value)
            case _:
                return _unescaped(value)
