"""Detects the format of a file from its content. Its name is not used."""

from collections.abc import Callable, Iterator
from itertools import chain

from dedup.files.csv_rows import is_csv, read_csv
from dedup.files.json_rows import is_json, is_ndjson, read_json, read_ndjson
from dedup.files.tables import Table, Unreadable

Format = Callable[[Iterator[str]], Iterator[Table]]

_FORMATS: tuple[tuple[Callable[[str], bool], Format], ...] = (
    (is_json, read_json),
    (is_ndjson, read_ndjson),
    (is_csv, read_csv),
)
"""Each format's detector, which gets the first CHUNK of text, and its reader. The first detector that matches
decides."""


def tables_of(texts: Iterator[str]) -> Iterator[Table]:
    """Yields the rows of a file, one table for each text. Raises Unreadable if the file has none of the formats."""
    head = next(texts, "")
    if not head.strip():
        raise Unreadable("The file is empty")
    reader = next((reader for matches, reader in _FORMATS if matches(head)), None)
    if reader is None:
        utf16 = ". It may be UTF-16 without a byte order mark" if "\0" in head else ""
        raise Unreadable(f"The file is not CSV, JSON or NDJSON{utf16}")
    return reader(chain([head], texts))
