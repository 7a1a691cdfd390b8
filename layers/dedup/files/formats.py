"""Which format a file is in: seen from its text, not trusted from its name."""

from collections.abc import Callable, Iterator
from itertools import chain

from dedup.files.csv_rows import is_csv, read_csv
from dedup.files.json_rows import is_json, is_ndjson, read_json, read_ndjson
from dedup.files.tables import Table, Unreadable
from dedup.files.text import NOT_OURS

Format = Callable[[Iterator[str]], Iterator[Table]]

_FORMATS: tuple[tuple[Callable[[str], bool], Format], ...] = (
    (is_json, read_json),
    (is_ndjson, read_ndjson),
    (is_csv, read_csv),
)
"""By what a format is recognised in the first CHUNK of text, and what reads it. The first that says yes is taken."""


def tables_of(texts: Iterator[str]) -> Iterator[Table]:
    """The rows of a file in any of the formats, those of a text at a time. Raises Unreadable where it is in none."""
    head = next(texts, "")
    if not head.strip():
        raise Unreadable("it is empty")
    reader = next((reader for recognises, reader in _FORMATS if recognises(head)), None)
    if reader is None:
        raise Unreadable(f"it is {NOT_OURS}" + (", or UTF-16 without a byte order mark" if "\0" in head else ""))
    return reader(chain([head], texts))
