"""Exports: what was asked for, how far it is, and the rows themselves."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from pg8000.exceptions import DatabaseError
from pg8000.native import Connection

from dedup.sets import SetQuery
from dedup.store.audit import UNKNOWN
from dedup.store.connection import Database
from dedup.store.customer_columns import as_json, as_text
from dedup.store.matching.run_tables import RunTables, require_active_run
from dedup.store.record_columns import selected
from dedup.store.region_counts import INTEGERS, TEXTS, Membership
from dedup.store.set_questions import counted_by, state_of
from dedup.store.sql import bigints, iso, text
from dedup.store.task_table import TaskTable, below, done, failed

_TASKS = TaskTable("export")
OUTBOX = _TASKS.outbox("export")


class Sink(Protocol):
    """Takes lines of JSON, one by one, each with its line break and with COPY's doubled backslashes."""

    def write(self, line: bytes, /) -> object:
        """Takes one line."""


@dataclass(frozen=True)
class ExportAttempt:
    """One attempt to write one export. `question` is what the caller asked for."""

    id: int
    attempt: int
    question: dict[str, object]
    format: str
    lease: float


@dataclass(frozen=True)
class Export:
    """The state of an export. Times are ISO 8601 in UTC. `fresh`: its object has not expired."""

    id: int
    status: str
    question: dict[str, object]
    format: str
    rows: int
    bytes: int | None
    object_key: str | None
    object_version: str | None
    reason: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    fresh: bool


class Exports:
    """The exports of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        question: str,
        form: str,
        key: str | None = None,
        digest: str = "",
        principal: str = UNKNOWN,
        by: str = "customer",
    ) -> tuple[int, str]:
        """Adds an export of what `question` (JSON) selects, once for a `key`; returns its id and status. `by`:
        "customer" or "entity". Raises KeyReused, and NoRun if there are no entities yet."""

        def work(connection: Connection) -> tuple[int, str]:
            counted_by(connection, by)
            return _TASKS.create(connection, {"question": question, "format": form}, key, digest, principal)

        return self._database.write(work, repeatable=key is not None)

    def claim(self, export_id: int, lease: float) -> ExportAttempt | None:
        """Starts an attempt at an export; None if it has ended. Raises Busy while another attempt is at it."""
        claimed = self._database.write(
            lambda connection: _TASKS.claim(
                connection, export_id, lease, "attempt, question, format", "rows = 0, started_at = now()"
            ),
            repeatable=True,
        )
        if not claimed:
            return None
        attempt, question, form = claimed
        return ExportAttempt(export_id, attempt, question, form, lease)

    def renew(self, attempt: ExportAttempt, rows: int) -> None:
        """Records how many rows are written so far, and renews the lease. Raises Superseded."""
        self._database.write(lambda connection: _TASKS.renew(connection, attempt, f"rows = {rows}"), repeatable=True)

    def finish(self, attempt: ExportAttempt, rows: int, size: int, key: str, version: str | None) -> None:
        """Ends the export well: its rows, its bytes, and its object's key and version. Does nothing when
        superseded."""
        changes = f"rows = {rows}, bytes = {size}, object_key = {text(key)}, object_version = {text(version)}"
        self._end(attempt, done(changes))

    def fail(self, attempt: ExportAttempt, reason: str) -> None:
        """Ends the export without a file. Does nothing when superseded."""
        self._end(attempt, failed(reason))

    def interrupt(self, attempt: ExportAttempt, reason: str) -> None:
        """Gives the export back for another attempt; after the last one, it has failed."""
        self._end(attempt, _TASKS.interrupted(reason))

    def get(self, export_id: int, kept_days: int) -> Export | None:
        """One export; None if it does not exist."""
        found = self._find(f"id = {export_id}", 1, kept_days)
        return found[0] if found else None

    def page(self, before: int | None, limit: int, kept_days: int) -> list[Export]:
        """The exports, the newest first, from below id `before`; at most `limit`."""
        return self._find(below(before), limit, kept_days)

    def with_objects(self, kept_days: int, limit: int) -> list[int]:
        """The ids of the exports whose object is in the bucket or being written, the newest first."""
        query = f"""SELECT id FROM export WHERE ({_TASKS.status}) = 'running'
                OR started_at IS NOT NULL AND ({_TASKS.status}) = 'waiting'
                OR status = 'done' AND finished_at > now() - interval '{kept_days} days'
            ORDER BY id DESC LIMIT {limit}"""
        return [export_id for [export_id] in self._database.read(lambda connection: connection.run(query))]

    def copy_rows(
        self,
        query: SetQuery,
        begin: Callable[[bool], Sink],
        by: str = "customer",
        *,
        one_type: bool = False,
        nested: bool = True,
    ) -> None:
        """Writes a line of JSON for each record of the selected customers (or entities) to what `begin` returns, by
        customer (or entity) and then record id. All lines are of one state of the database. With `one_type`, all
        customer ids are texts if any in the database is; `begin` is told whether they are. Attributes are objects if
        `nested`, otherwise the text of one. Raises NoRun.

        `begin` is called again when the connection was lost and the lines come from the start."""

        def work(connection: Connection) -> None:
            state = state_of(connection, by)
            as_texts = one_type and state.texts
            sink = begin(as_texts)
            chosen = [state.masks[region] for region in query.select(state.regions)]
            if not chosen:
                return
            if by == "entity":
                customer_id = as_text("r") if as_texts else as_json("r")
                parts = [_entity_lines(require_active_run(connection), chosen, customer_id, nested)]
            else:
                integer = "r.customer_id::text" if as_texts else "r.customer_id"
                parts = [_customer_lines(INTEGERS, state.deferred, chosen, integer, nested)]
                if state.texts:
                    parts.append(_customer_lines(TEXTS, state.deferred, chosen, "r.text_id", nested))
            try:
                for lines in parts:
                    connection.run(f"COPY (SELECT row_to_json(line) FROM ({lines}) AS line) TO STDOUT", stream=sink)
            except DatabaseError:
                raise
            except BaseException:
                # Rows are still on their way: the connection can't be used again.
                self._database.close()
                raise

        self._database.read(work)

    def _end(self, attempt: ExportAttempt, changes: str) -> None:
        self._database.write(lambda connection: _TASKS.end(connection, attempt, changes), repeatable=True)

    def _find(self, condition: str, limit: int, kept_days: int) -> list[Export]:
        columns = "question, format, rows, bytes, object_key, object_version"
        rows = self._database.read(lambda connection: _TASKS.found(connection, columns, condition, limit, kept_days))
        return [Export(*row) for row in rows]


def _record(nested: bool) -> str:
    return f"""named.sources, s.name AS source, r.id AS record_id, r.name, r.email, {selected("r", nested=nested)},
        {iso("r.created_at")} AS created_at"""


def _customer_lines(
    membership: Membership, deferred: bool, chosen: Collection[int], customer_id: str, nested: bool
) -> str:
    return f"""
        WITH {_named(chosen)}
        SELECT {customer_id} AS customer_id, {_record(nested)}
        FROM {membership.now if deferred else membership.table} AS m
        JOIN named ON named.mask = m.sources
        JOIN record r ON r.{membership.id} = m.{membership.id}
        JOIN source s ON s.bit = r.source
        ORDER BY r.{membership.id}, r.id"""


def _entity_lines(tables: RunTables, chosen: Collection[int], customer_id: str, nested: bool) -> str:
    return f"""
        WITH {_named(chosen)}
        SELECT m.entity_id, {customer_id} AS customer_id, {_record(nested)}
        FROM {tables.membership.table} AS m
        JOIN named ON named.mask = m.sources
        JOIN {tables.member} AS o ON o.entity_id = m.entity_id
        JOIN record r ON r.id = o.record_id
        JOIN source s ON s.bit = r.source
        ORDER BY m.entity_id, r.id"""


def _named(chosen: Collection[int]) -> str:
    """`named`, a part of a WITH: each region with the names of its sources, as JSON in alphabetical order. They are
    made once per region, however many records it has."""
    return f"""named AS MATERIALIZED (
            SELECT mask, (
                SELECT json_agg(name ORDER BY name COLLATE "C") FROM source WHERE 1::bigint << bit & mask <> 0
            ) AS sources
            FROM unnest({bigints(chosen)}) AS mask
        )"""
