"""How far the entities of the active run are resolved: which changes of the change log they contain.

The resolver writes entities in one transaction with the position that it has reached, so a position that is read in the
transaction of an answer says what the answer contains."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store import change_log
from dedup.store.connection import Database
from dedup.store.matching.run_tables import RunTables, active_run, automatic_run_is_due, require_active_run
from dedup.store.sql import text

POLL_SECONDS = 0.05

MAX_COUNTED = 1_000
"""Entries without a position whose records are counted for an answer. Whoever reads the log gives them positions, and
so does each trim, every 128 uploads."""


@dataclass(frozen=True)
class AsOf:
    """The entry of the change log up to which entities contain all changes, and how many changed records after it are
    not resolved."""

    as_of: int
    unresolved_records: int

    @staticmethod
    def of(found: tuple[int, int] | None) -> "AsOf":
        """From the value of as_of(). Of a run that is no consumer, nothing is known to be resolved."""
        return AsOf(*(found or (0, 0)))


@dataclass(frozen=True)
class Status(AsOf):
    """The same of the active run, with its model version. `oldest_seconds`: the age of the first unresolved change, 0
    if there is none. `rate`: records per second of the resolver's latest batch, None before the first."""

    run: int
    model_version: str | None
    oldest_seconds: float
    rate: float | None


def as_of(tables: RunTables) -> str:
    """A scalar for AsOf.of(): how far a run is resolved. It reads the same few rows however many changes follow."""
    return f"""(SELECT json_build_array(position, {change_log.records_behind("w", MAX_COUNTED)})
        FROM change_consumer w WHERE name = {text(tables.consumer)})"""


class Freshness:
    """How far the entities of one database are resolved."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def status(self) -> Status:
        """How far the active run is resolved. Raises NoRun."""
        return self._database.read(_status)

    def as_of(self) -> AsOf:
        """The same without the rest of the status. Raises NoRun."""

        def work(connection: Connection) -> AsOf:
            [[found]] = connection.run(f"SELECT {as_of(require_active_run(connection))}")
            return AsOf.of(found)

        return self._database.read(work)

    def head(self) -> int:
        """The position up to which everything is that is committed now."""
        return self._database.write(change_log.head, repeatable=True)

    def wait(self, position: int, seconds: float, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Returns True once the entities of the active run contain all changes up to `position`; False if they do not
        after `seconds`, or immediately if no run is active and none is to become active. Between its queries it holds
        no transaction."""
        end = time.monotonic() + seconds
        while True:
            reached = self._database.read(_position)
            if reached is None:
                return False
            if reached >= position:
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            sleep(min(POLL_SECONDS, left))


def _position(connection: Connection) -> int | None:
    """The entry up to which the active run is resolved, None without one; -1 if the resolver has started a run that is
    not done, or is to start one."""
    [[coming]] = connection.run(
        f"""SELECT EXISTS (SELECT FROM match_run WHERE status IN ('waiting', 'running') AND automatic)
            OR {automatic_run_is_due()}"""
    )
    tables = active_run(connection)
    if coming or not tables:
        return -1 if coming else None
    rows = connection.run(f"SELECT position FROM change_consumer WHERE name = {text(tables.consumer)}")
    return int(rows[0][0]) if rows else 0


def _status(connection: Connection) -> Status:
    tables = require_active_run(connection)
    [[found, seconds, version, rate]] = connection.run(
        f"""SELECT {as_of(tables)},
                (SELECT {change_log.seconds_behind("w")} FROM change_consumer w WHERE name = {text(tables.consumer)}),
                model->>'version', resolver_records / nullif(resolver_seconds, 0)
            FROM match_state JOIN match_run ON id = active_run"""
    )
    reached = AsOf.of(found)
    return Status(reached.as_of, reached.unresolved_records, tables.run, version, seconds or 0.0, rate)
