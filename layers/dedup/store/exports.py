"""What was asked to be written to a file, what became of it, and the rows themselves.

Whoever writes renews its lease; an attempt that was overtaken can finish nothing."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from pg8000.exceptions import DatabaseError
from pg8000.native import Connection

from dedup.errors import Superseded
from dedup.records import KNOWN
from dedup.sets import Region, Regions
from dedup.store.base import UNKNOWN, Base, bigints, iso, text
from dedup.store.entities import Tables, require_active_run
from dedup.store.records import counted_by, state_of
from dedup.store.task_table import TaskTable, done, failed

_TASKS = TaskTable("export")
OUTBOX = _TASKS.outbox("export")

_KNOWN = ", ".join(f"r.{field}" for field in KNOWN)


class Sink(Protocol):
    """Takes lines of JSON, one by one, each with its line break and with COPY's doubled backslashes."""

    def write(self, line: bytes, /) -> object:
        """Takes one line."""


@dataclass(frozen=True)
class Writing:
    """One attempt at one export. `question` is what the caller gave as such."""

    export_id: int
    attempt: int
    question: dict[str, object]
    format: str
    lease: float

    @property
    def current(self) -> str:
        """The condition in SQL that this attempt still is the one that writes."""
        return f"id = {self.export_id} AND attempt = {self.attempt} AND status = 'running'"


@dataclass(frozen=True)
class Export:
    """What is known of an export. Times are ISO 8601 in UTC. `fresh`: its object is younger than was asked."""

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


class Exports(Base):
    """The exports of one database."""

    def expect_export(
        self,
        question: str,
        form: str,
        key: str | None = None,
        digest: str = "",
        principal: str = UNKNOWN,
        by: str = "customer",
    ) -> tuple[int, str]:
        """Notes what is to be written, `question` as JSON, once for a `key`: its id and status. `by`: "customer" or
        "entity". Raises KeyReused, and NoRun where there are no entities yet."""

        def work(connection: Connection) -> tuple[int, str]:
            counted_by(connection, by)
            return _TASKS.expect(connection, {"question": question, "format": form}, key, digest, principal)

        return self._database.write(work, repeatable=key is not None)

    def claim_export(self, export_id: int, lease: float) -> Writing | None:
        """Begins to write an export; None where that was done before. Raises Busy while another attempt is at it."""

        def work(connection: Connection) -> Writing | None:
            claimed = _TASKS.claim(connection, export_id, lease, "attempt, question, format")
            if not claimed:
                return None
            connection.run(f"UPDATE export SET rows = 0 WHERE id = {export_id}")
            attempt, question, form = claimed
            return Writing(export_id, attempt, question, form, lease)

        return self._database.write(work, repeatable=False)

    def renew_export(self, writing: Writing, rows: int) -> None:
        """Notes how many rows there are so far, and renews the lease. Raises Superseded."""

        def work(connection: Connection) -> None:
            if not connection.run(
                f"""UPDATE export SET rows = {rows}, lease_until = now() + interval '{writing.lease} s'
                    WHERE {writing.current} RETURNING id"""
            ):
                raise Superseded

        self._database.write(work, repeatable=True)

    def finish_export(self, writing: Writing, rows: int, size: int, key: str, version: str | None) -> None:
        """Ends the export well: its rows, its bytes, and its object's key and version. Nothing when superseded."""
        changes = f"rows = {rows}, bytes = {size}, object_key = {text(key)}, object_version = {text(version)}"
        self._end_export(writing, done(changes))

    def fail_export(self, writing: Writing, reason: str) -> None:
        """Ends the export without a file. Nothing when superseded."""
        self._end_export(writing, failed(reason))

    def interrupt_export(self, writing: Writing, reason: str) -> None:
        """Gives the export back, to be written by the next delivery; where this was the last, it failed."""
        self._end_export(writing, _TASKS.interrupted(reason))

    def export(self, export_id: int, kept_days: int) -> Export | None:
        """What is known of one export; None when there is none of that id."""
        found = self._exports(f"id = {export_id}", 1, kept_days)
        return found[0] if found else None

    def exports(self, before: int | None, limit: int, kept_days: int) -> list[Export]:
        """What is known of the exports, the newest first, from below id `before`; `limit` of them at most."""
        return self._exports("true" if before is None else f"id < {before}", limit, kept_days)

    def exports_there(self, kept_days: int, limit: int) -> list[int]:
        """The ids of the exports whose object is in the bucket or on its way there, the newest first."""
        query = f"""SELECT id FROM export WHERE ({_TASKS.status}) = 'running'
                OR started_at IS NOT NULL AND ({_TASKS.status}) = 'waiting'
                OR status = 'done' AND finished_at > now() - interval '{kept_days} days'
            ORDER BY id DESC LIMIT {limit}"""
        return [export_id for [export_id] in self._database.read(lambda connection: connection.run(query))]

    def copy_out(
        self, choose: Callable[[Regions], Collection[Region]], begin: Callable[[], Sink], by: str = "customer"
    ) -> None:
        """Writes to what `begin` returns a line of JSON for each record of the customers (or entities) in the regions
        that `choose` selects, by customer (or entity) and then record id. All of it is of one state of the database.
        Raises NoRun.

        `begin` is called again when the connection was lost and the lines come from the start."""

        def work(connection: Connection) -> None:
            sink = begin()
            state = state_of(connection, by)
            chosen = [state.masks[region] for region in choose(state.regions)]
            if not chosen:
                return
            if by == "entity":
                lines = _entity_lines(require_active_run(connection), chosen)
            else:
                lines = _customer_lines("membership_now" if state.pending else state.counted.table, chosen)
            try:
                connection.run(f"COPY (SELECT row_to_json(line) FROM ({lines}) AS line) TO STDOUT", stream=sink)
            except DatabaseError:
                raise
            except BaseException:
                # Rows are still on their way here: the connection can't be used for anything else.
                self._database.close()
                raise

        self._database.read(work)

    def _end_export(self, writing: Writing, changes: str) -> None:
        self._database.write(
            lambda connection: connection.run(f"UPDATE export SET {changes} WHERE {writing.current}"),
            repeatable=True,
        )

    def _exports(self, condition: str, limit: int, kept_days: int) -> list[Export]:
        columns = "question, format, rows, bytes, object_key, object_version"
        rows = self._database.read(lambda connection: _TASKS.found(connection, columns, condition, limit, kept_days))
        return [Export(*row) for row in rows]


_RECORD = f"""named.sources, s.name AS source, r.id AS record_id, r.name, r.email, {_KNOWN},
    {iso("r.created_at")} AS created_at"""


def _customer_lines(membership: str, chosen: Collection[int]) -> str:
    return f"""
        WITH {_named(chosen)}
        SELECT r.customer_id, {_RECORD}
        FROM {membership} AS m
        JOIN named ON named.mask = m.sources
        JOIN record r ON r.customer_id = m.customer_id
        JOIN source s ON s.bit = r.source
        ORDER BY r.customer_id, r.id"""


def _entity_lines(tables: Tables, chosen: Collection[int]) -> str:
    return f"""
        WITH {_named(chosen)}
        SELECT m.entity_id, r.customer_id, {_RECORD}
        FROM {tables.counted.table} AS m
        JOIN named ON named.mask = m.sources
        JOIN {tables.member} AS o ON o.entity_id = m.entity_id
        JOIN record r ON r.id = o.record_id
        JOIN source s ON s.bit = r.source
        ORDER BY m.entity_id, r.id"""


def _named(chosen: Collection[int]) -> str:
    """The part of a WITH that has the regions and the names of their sources, as JSON in alphabetical order. Once for
    each region, however many records it has."""
    return f"""named AS MATERIALIZED (
            SELECT mask, (
                SELECT json_agg(name ORDER BY name COLLATE "C") FROM source WHERE 1::bigint << bit & mask <> 0
            ) AS sources
            FROM unnest({bigints(chosen)}) AS mask
        )"""
