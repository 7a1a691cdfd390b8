"""A stream of bytes, as a CRM or a spreadsheet wrote it, made into records and rejected rows.

    bytes → decompressed → text → rows of a format → columns of our fields → records

Each arrow is a generator that holds about CHUNK of the file, whatever its size: `compression`, `text`, `formats` (of
`csv_rows` and `json_rows`, by the names in `columns`), `values` and `checks`. `cells` writes what a spreadsheet may
open."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic_core import PydanticCustomError

from dedup.files.cells import csv_header, csv_line, rejected_csv, without_formula
from dedup.files.checks import Row, validated
from dedup.files.compression import Counted, Stream, decompressed
from dedup.files.formats import tables_of
from dedup.files.tables import MAX_EXCERPT, Rejected, Unreadable, quoted
from dedup.files.text import texts_of
from dedup.records import known_source
from dedup.settings import settings

__all__ = [
    "MAX_EXCERPT",
    "Batch",
    "Rejected",
    "Row",
    "Stream",
    "Unreadable",
    "csv_header",
    "csv_line",
    "read",
    "read_whole",
    "rejected_csv",
    "without_formula",
]


class Batch(NamedTuple):
    """What one CHUNK of the file held: the accepted rows, in the file's order, and the rejected ones. `bytes_read`: of
    the stream so far, which may be compressed. `known`: the fields of records.KNOWN that the rows have at their end.
    `faults`: in how many of the rejected rows a field was at fault, by its name and whether it was missing; the name is
    empty where the row could not be read."""

    rows: list[Row]
    rejected: list[Rejected]
    bytes_read: int
    known: tuple[str, ...] = ()
    faults: Mapping[tuple[str, bool], int] = MappingProxyType({})


def read(stream: Stream, source: str | None = None) -> Iterator[Batch]:
    """The rows of a CSV, JSON or NDJSON file, plain or compressed with gzip or zstd, as it is read.

    `source` is that of the rows that name none; a row that names another is rejected. A bad row stops no good one.
    Raises Unreadable where the file as a whole can't be used, possibly after rows were given: nothing of it should be
    kept then. Errors of the stream itself pass through."""
    if source is not None:
        try:
            known_source(source)
        except PydanticCustomError as error:
            raise Unreadable(f"the upload's source {quoted(source)}: {error.message()}") from None
    counted = Counted(stream)
    empty = True
    for table in tables_of(texts_of(decompressed(counted))):
        rows, rejected, known, faults = validated(table, source)
        if rows or rejected:
            empty = False
            yield Batch(rows, rejected, counted.taken, known, faults)
    if empty:
        raise Unreadable("there are no rows in it")


def read_whole(stream: Stream, source: str | None, size: int) -> Iterator[Batch]:
    """What `read` gives of a file of `size` bytes that is to be used whole or not at all.

    Raises Unreadable as well where that is more than settings().max_file_bytes, and where no row is accepted."""
    most = settings().max_file_bytes
    if size > most:
        raise Unreadable(f"The file has {size} bytes, and {most} are the most that is taken: split it")
    accepted = rejected = 0
    for batch in read(stream, source):
        accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
        yield batch
    if not accepted:
        raise Unreadable(f"None of the {rejected} rows could be accepted")
