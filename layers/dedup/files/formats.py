"""Detects the format of a file from its content. Its name is not used."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import IO

from dedup.files.csv_rows import is_csv, read_csv
from dedup.files.json_rows import is_json, is_ndjson, read_json, read_ndjson
from dedup.files.mapping import Mapper
from dedup.files.parquet_rows import read_parquet
from dedup.files.spool import spooled
from dedup.files.tables import Table, Unreadable
from dedup.files.text import texts_of
from dedup.files.workbooks import read_workbook

Format = Callable[[Iterator[str], Mapper], Iterator[Table]]

_FORMATS: tuple[tuple[Callable[[str], bool], Format], ...] = (
    (is_json, read_json),
    (is_ndjson, read_ndjson),
    (is_csv, read_csv),
)
"""Each text format's detector, which gets the first CHUNK of text, and its reader. The first detector that matches
decides."""


_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"


def tables_of(chunks: Iterator[bytes], sheet: str | None, mapper: Mapper) -> Iterator[Table]:
    """Yields the rows of a file in tables of about CHUNK bytes. `sheet` is the sheet to read of a workbook, and
    `mapper` decides about the columns. Raises NeedsMapping if they are not certain, and Unreadable if the file has none
    of the formats."""
    head = next(chunks, b"")
    chunks = chain([head], chunks)
    if head.startswith(_ZIP):
        return _spooled_tables(chunks, lambda file, _: read_workbook(file, sheet, mapper))
    if head.startswith(_PARQUET):
        return _spooled_tables(chunks, lambda file, size: read_parquet(file.name, size, mapper))
    return _text_tables(texts_of(chunks), mapper)


def _spooled_tables(chunks: Iterator[bytes], read: Callable[[IO[bytes], int], Iterator[Table]]) -> Iterator[Table]:
    with spooled(chunks) as file:
        yield from read(file, file.seek(0, 2))


def _text_tables(texts: Iterator[str], mapper: Mapper) -> Iterator[Table]:
    head = next(texts, "")
    if not head.strip():
        raise Unreadable("The file is empty")
    reader = next((reader for matches, reader in _FORMATS if matches(head)), None)
    if reader is None:
        utf16 = ". It may be UTF-16 without a byte order mark" if "\0" in head else ""
        raise Unreadable(f"The file is not CSV, JSON, NDJSON, xlsx, ODS or Parquet{utf16}")
    return reader(chain([head], texts), mapper)
