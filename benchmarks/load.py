"""Puts the records of a benchmark into a database of either stack, before anything is timed."""

import itertools
import time
from contextlib import closing

from dedup.connection import Database
from dedup.records import Record
from dedup.settings import Settings as OurSettings
from dedup.store import Store
from pg8000.native import Connection

from benchmarks.data import Data
from local.postgres import Settings

BATCH = 10_000


def load_reference(database: Settings, data: Data) -> None:
    """Copies the records into the reference's table, which is there already."""
    rows = iter(data)
    with closing(connect(database)) as connection:
        while batch := list(itertools.islice(rows, BATCH)):
            lines = "".join("\t".join(map(str, row)) + "\n" for row in batch)
            connection.run("COPY customers (customer_id, name, email, source) FROM STDIN", stream=[lines.encode()])
        settle(connection)


def load_ours(database: Settings, data: Data) -> list[float]:
    """Stores the records as uploads of BATCH records each, and returns how long each took, in milliseconds."""
    store = open_store(database)
    store.migrate()
    rows = iter(data)
    times = []
    # Records that were never asked for: they are made here, and need no validation.
    while batch := [Record.model_construct(**row._asdict()) for row in itertools.islice(rows, BATCH)]:
        start = time.perf_counter()
        store.add(batch)
        times.append((time.perf_counter() - start) * 1000)
    store.close()
    with closing(connect(database)) as connection:
        settle(connection)
    return times


def open_store(database: Settings) -> Store:
    """Our store on a database, with statements that may take minutes."""
    variables = {name.lower(): value for name, value in database.environment().items()}
    return Store(Database(OurSettings.model_validate({**variables, "db_statement_timeout": 3600})))


def settle(connection: Connection) -> None:
    """Does what autovacuum and the checkpointer would have done some minutes later, so that they don't do it while
    something is timed."""
    connection.run("VACUUM ANALYZE")
    connection.run("CHECKPOINT")


def connect(database: Settings) -> Connection:
    """A connection that commits each statement."""
    return Connection(
        database.user,
        host=database.host,
        port=database.port,
        database=database.name,
        password=database.password,
        ssl_context=False,
    )
