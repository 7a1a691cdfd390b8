"""Puts the records of a benchmark into a database of either stack, before anything is timed."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from dedup.records import Fields
from dedup.settings import Settings as OurSettings
from dedup.store import Store
from dedup.store.connection import Database
from pg8000.native import Connection

from benchmarks.data import Data, Row
from local.postgres import Settings

BATCH = 10_000

UPLOADED = 1_000_000
"""So many records come as uploads, which are timed; what a larger table has before them is copied in."""


def load_reference(database: Settings, data: Data) -> None:
    """Copies the records into the reference's table, which is there already."""
    with closing(database.connect()) as connection:
        _copy(connection, "customers (customer_id, name, email, source)", data, lambda row: row)
        settle(connection)


def load_ours(database: Settings, data: Data) -> list[float]:
    """Stores the records, the last UPLOADED of them as uploads of BATCH records each; returns how long each of these
    took, in milliseconds."""
    store = open_store(database)
    store.schema.migrate()
    rows = iter(data)
    if data.size > UPLOADED:
        _copy_ours(store, database, itertools.islice(rows, data.size - UPLOADED))
    times = []
    while batch := _records(rows):
        start = time.perf_counter()
        store.records.add(batch)
        times.append((time.perf_counter() - start) * 1000)
    store.close()
    with closing(database.connect()) as connection:
        settle(connection)
    return times


def _records(rows: Iterator[Row]) -> list[Fields]:
    return [row._asdict() for row in itertools.islice(rows, BATCH)]


def _copy_ours(store: Store, database: Settings, rows: Iterator[Row]) -> None:
    # The first upload makes the sources known, and the others' records seem to be its own.
    upload = store.records.add(_records(rows))
    with closing(database.connect()) as connection:
        bits = dict(connection.run("SELECT name, bit FROM source"))
        columns = "record (customer_id, name, email, source, upload_id)"
        _copy(connection, columns, rows, lambda row: (*row[:3], bits[row.source], upload.id))
        connection.run("ANALYZE record")
    # Membership and counts are made of the records.
    store.maintenance.verify()


def _copy(connection: Connection, columns: str, rows: Iterable[Row], values: Callable[[Row], Iterable[object]]) -> None:
    """Copies the rows' `values` into the table that `columns` begins with, whose indexes are made afterwards."""
    indexes = connection.run(
        f"""SELECT indexname, indexdef FROM pg_indexes
            WHERE tablename = '{columns.split()[0]}' AND indexname NOT LIKE '%_pkey'"""
    )
    for name, _ in indexes:
        connection.run(f"DROP INDEX {name}")
    waiting = iter(rows)
    while batch := list(itertools.islice(waiting, BATCH)):
        lines = "".join("\t".join(map(str, values(row))) + "\n" for row in batch)
        connection.run(f"COPY {columns} FROM STDIN", stream=[lines.encode()])
    connection.run("SET maintenance_work_mem = '1GB'")
    for _, definition in indexes:
        connection.run(definition)


def open_store(database: Settings) -> Store:
    """Our store on a database, with statements that may take minutes."""
    variables = {name.lower(): value for name, value in database.environment().items()}
    return Store(Database(OurSettings.model_validate({**variables, "db_statement_timeout": 3600})))


def settle(connection: Connection) -> None:
    """Does what autovacuum and the checkpointer would have done some minutes later, so that they don't do it while
    something is timed."""
    connection.run("VACUUM ANALYZE")
    connection.run("CHECKPOINT")
