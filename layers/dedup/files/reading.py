"""Reads a file as batches of records and rejected rows."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import NamedTuple

from dedup.file_options import DEFAULT, FileOptions
from dedup.files.checks import Row, Times, validated
from dedup.files.compression import Counted, Stream, decompressed
from dedup.files.deletions import without_deleted
from dedup.files.formats import tables_of
from dedup.files.mapping import Mapper
from dedup.files.recognition import guessed_source
from dedup.files.tables import Rejected, Table, Unreadable, quoted
from dedup.findings import Findings
from dedup.records import one_of
from dedup.settings import settings

_COLLECTED_AFTER = 200_000
"""Objects that are created before there is a search for reference cycles: a few batches."""


class Batch(NamedTuple):
    """The accepted and rejected rows of one CHUNK of the file, in the file's order.

    `bytes_read` is the number of bytes read from the stream so far; the stream may be compressed. `known` are the
    optional fields (of records.OPTIONAL) at the end of each row, and `deleted` if there are rows that are marked as
    deleted and asked for. `findings` has the reasons of the rejected rows, and warnings about the others.
    `guessed_source` is the source of the file, if it was guessed. `left_out` is the number of rows that were marked as
    deleted and left out."""

    rows: list[Row]
    rejected: list[Rejected]
    bytes_read: int
    known: tuple[str, ...]
    findings: Findings
    guessed_source: str | None = None
    left_out: int = 0


def read(
    stream: Stream,
    source: str | None = None,
    options: FileOptions = DEFAULT,
    mapper: Mapper | None = None,
    *,
    deletions: bool = False,
) -> Iterator[Batch]:
    """Yields the rows of a CSV, JSON, NDJSON, xlsx, ODS or Parquet file, plain or compressed with gzip or zstd. Text is
    read while the stream is; of the other formats, the stream is read to its end first.

    `source` is the source of rows that have none; a row with another source is rejected. If it is None, and the file
    has no source column, it is guessed from the names of the columns. `mapper` decides about the columns; by default,
    their names do. `deletions`: rows that are marked as deleted are among the rows; otherwise they are left out, with a
    warning. An invalid row does not affect other rows. Raises NeedsMapping before the first row if the columns
    are not certain, and Unreadable if the file as a whole cannot be used, possibly after some rows were yielded: these
    should then be discarded. Errors of the stream are not caught."""
    if source is not None and source not in settings().sources:
        expected = one_of(settings().sources)
        raise Unreadable(f"The source {quoted(source)} of the upload is unknown. Expected {expected}")
    counted = Counted(stream)
    empty, guessed = True, None
    times, tables = _with_times(tables_of(decompressed(counted), options.sheet, mapper or Mapper()))
    for number, table in enumerate(tables):
        if number == 0 and source is None:
            source = guessed = guessed_source(table.header)
        left_out, marked = 0, Findings()
        if not deletions:
            table, left_out, marked = without_deleted(table)
        rows, rejected, known, findings = validated(table, source, times, strict=options.strict)
        findings.update(marked)
        if rows or rejected or left_out:
            empty = False
            yield Batch(rows, rejected, counted.taken, known, findings, guessed, left_out)
    if empty:
        raise Unreadable("The file has no rows")


def _with_times(tables: Iterator[Table]) -> tuple[Times, Iterator[Table]]:
    """Returns what reads the dates and times of a file, and its tables. The first table decides about the order of
    dates of birth, or both first ones."""
    first = list(islice(tables, 1))
    times = Times.of(first[0].rules.date_order if first else None)
    if first and not times.births.decided_by(first[0].columns.get("date_of_birth", ())):
        first += islice(tables, 1)
        times.births.decided_by(first[-1].columns.get("date_of_birth", ()))
    return times, chain(first, tables)


@contextmanager
def _rare_collection() -> Iterator[None]:
    """Makes the search for reference cycles rarer, until the file is read. Rows are not part of cycles, and to search
    all of them after every 700 takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def read_whole(
    stream: Stream,
    source: str | None,
    size: int,
    options: FileOptions = DEFAULT,
    mapper: Mapper | None = None,
    *,
    deletions: bool = False,
) -> Iterator[Batch]:
    """Yields the same as `read` for a file of `size` bytes whose rows are used all or not at all.

    Also raises Unreadable if the file is larger than settings().max_file_bytes, or if no row is accepted."""
    most = settings().max_file_bytes
    if size > most:
        raise Unreadable(f"The file has {size} bytes, but at most {most} are allowed. Split the file")
    accepted = rejected = left_out = 0
    with _rare_collection():
        for batch in read(stream, source, options, mapper, deletions=deletions):
            accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
            left_out += batch.left_out
            yield batch
    if not accepted:
        marked = f", {left_out} marked as deleted" if left_out else ""
        raise Unreadable(f"No row was accepted ({rejected} rejected{marked})")
