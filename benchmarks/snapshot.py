"""A snapshot of which one row in a hundred changed, through the ingest function, beside reading and validating the same
file without storing it; and beside loading the source the first time, with the write-ahead log (WAL) of both."""

import csv
import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dedup.store.uploads import RecordChanges

from benchmarks import stacks
from benchmarks.call_handler import READ_FILE
from benchmarks.data import SOURCES, Data
from benchmarks.handlers import HandlerTimes, measure_handler
from benchmarks.ingest import event, new_database, put
from benchmarks.load import open_store
from benchmarks.measure import Figure, Key
from local.postgres import Postgres, Settings
from local.s3 import S3

OPERATION = "snapshot with 1 % changed, beside reading the file"
FIRST_LOAD = "snapshot with 1 % changed, beside the first load; MB of WAL"

SOURCE = SOURCES[0]
NAME, EXTENSION = f"incoming/{SOURCE}/snapshot/", ".csv"


def snapshots(data: Data, postgres: Postgres, folder: Path, repeats: int) -> Iterator[tuple[Key, Figure]]:
    """Loads the records of a source, then `repeats` snapshots of it, each of which differs from the one before; the
    file of each is read alone, too, in turn.

    The WAL of a snapshot depends on the time since the last checkpoint, after which the first change of a page writes
    the whole page. No checkpoint is made here, unless PostgreSQL makes one meanwhile: hence the median."""
    # In a form that a snapshot changes into the other.
    paths = [folder / "first.csv", folder / "second.csv"]
    for path, is_later in zip(paths, (False, True), strict=True):
        _write(data, path, is_later=is_later)
    database = new_database(postgres, f"snapshots_{data.size}")
    readings, loads, wal = [], [], []
    with S3(0, folder / "s3.log") as s3:
        s3.create()
        environment = {**stacks.our_environment(database), **s3.environment(), "DB_STATEMENT_TIMEOUT": "870"}
        for number, path in zip(range(repeats + 1), itertools.cycle(paths)):
            key = f"{NAME}{number}{EXTENSION}"
            put(s3, path, key)
            if number:
                readings.append(_call(READ_FILE, environment, key))
            before = _wal_position(database)
            loads.append(_call("ingest", environment, key))
            wal.append((_wal_position(database) - before) / 1e6)
            _require_changes(database, data.size, is_first=not number)
            if not number:
                with closing(database.connect()) as connection:
                    connection.run("VACUUM ANALYZE")
    first, *later = loads
    times, peak = [load.times_ms[0] for load in later], max(load.peak_mb for load in later)
    reading = Figure.of([each.times_ms[0] for each in readings], max(each.peak_mb for each in readings), data.size)
    yield Key(OPERATION, data.style, "handler", "reference"), reading
    yield Key(OPERATION, data.style, "handler", "ours"), Figure.of(times, peak, data.size)
    median_wal = sorted(wal[1:])[repeats // 2]
    yield Key(FIRST_LOAD, data.style, "handler", "reference"), Figure.of(first.times_ms, wal[0], data.size)
    yield Key(FIRST_LOAD, data.style, "handler", "ours"), Figure.of(times, median_wal, data.size)


def _write(data: Data, path: Path, *, is_later: bool) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id", "name", "email"])
        writer.writerows((row.customer_id, row.name, row.email) for row in data.states(is_later=is_later))


def _call(name: str, environment: dict[str, str], key: str) -> HandlerTimes:
    return measure_handler(name, environment, [event(key)], at_least=1, warm_up=False)


def _wal_position(database: Settings) -> int:
    with closing(database.connect()) as connection:
        [[position]] = connection.run("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
    return int(position)


def _require_changes(database: Settings, size: int, *, is_first: bool) -> None:
    """Checks what the latest upload did."""
    store = open_store(database)
    [upload] = store.uploads.page(None, 1)
    store.close()
    few, some = size // 1000, size // 100
    expected = RecordChanges(size, 0, 0, 0) if is_first else RecordChanges(few, some, few, size - few - some)
    assert upload.records == expected, f"the snapshot did not do what it should: {upload}"
