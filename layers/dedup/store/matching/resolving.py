"""What the resolver reads, and writes to the tables of a run: one batch of changes at a time, with the position in the
change log that it reached.

A run's tables say what follows from the records up to that position. They are written by whoever finished the run, by
the resolver, and by nobody else; but clearing everything empties them at once."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pg8000.native import Connection

from dedup.matching import normalise
from dedup.store import change_log
from dedup.store.change_log import Batch, Position
from dedup.store.connection import Database
from dedup.store.customer_columns import as_text
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching.run_tables import (
    EDGE_COLUMNS,
    MEMBER_COLUMNS,
    REVIEW_COLUMNS,
    RunTables,
    active_run,
    automatic_run_is_due,
    settings_of,
)
from dedup.store.sql import BY_REGION, bigints, text

_FIELDS = ", ".join((f"{as_text('r')} AS customer_id", *(f"r.{field}" for field in normalise.FIELDS)))

LEASE = 120.0
"""Seconds after which another resolver takes over, if the one at work does not renew its lease."""


@dataclass(frozen=True)
class Tables:
    """The rows of a run's tables as CSV files without a header, columns in the order of the tables. The `source` of
    members is a source's name. `decisions`: record_a, record_b, verdict."""

    members: BinaryIO
    edges: BinaryIO
    review: BinaryIO
    decisions: BinaryIO
    terms: BinaryIO

    @property
    def files(self) -> tuple[BinaryIO, ...]:
        """All of them."""
        return self.members, self.edges, self.review, self.decisions, self.terms


@dataclass(frozen=True)
class Resolved:
    """What a batch of changes does to the tables of a run. `members`, `edges` and `review` are added to them, in files
    as in Tables; `decisions` are all decided pairs.

    rewritten: the records whose member is void; the members added are those of them that there still are
    entities: the new entity of each other record whose entity changes
    void: the records of which all edges are void
    affected: the records of which all pairs for review are void, and all edges that were found because of their
        component
    decided: whether the decided pairs are others than before"""

    members: BinaryIO
    edges: BinaryIO
    review: BinaryIO
    decisions: BinaryIO
    rewritten: Sequence[int]
    entities: Mapping[int, int]
    void: Sequence[int]
    affected: Sequence[int]
    decided: bool


@dataclass(frozen=True)
class Version:
    """What a run resolves with: its settings, without the constraints that are waived, and its model; and how far it
    has read the change log."""

    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    position: Position


@dataclass(frozen=True)
class Backlog:
    """What the active run has not read of the change log: the number of records, and the age of the oldest change in
    seconds; and the number of its members, whether a run is at work that will be the active one, and whether one with
    its model version failed. `run` is None if no run is active."""

    run: int | None = None
    records: int = 0
    seconds: float = 0.0
    members: int = 0
    run_is_open: bool = False
    run_failed: bool = False


class Resolving:
    """The resolver's view of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_lease(self, holder: str) -> bool:
        """Lets `holder` resolve for the next LEASE seconds, or longer if it had the lease. False if another has it."""
        taken: bool = self._database.write(
            lambda connection: bool(
                connection.run(
                    f"""UPDATE match_state SET resolver = {text(holder)},
                            resolver_until = clock_timestamp() + interval '{LEASE} seconds'
                        WHERE resolver = {text(holder)} OR resolver_until IS NULL OR resolver_until < clock_timestamp()
                        RETURNING resolver"""
                )
            ),
            repeatable=True,
        )
        return taken

    def release_lease(self, holder: str) -> None:
        """Lets others resolve, if `holder` has the lease."""
        self._database.write(
            lambda connection: connection.run(
                f"UPDATE match_state SET resolver_until = NULL WHERE resolver = {text(holder)}"
            ),
            repeatable=True,
        )

    def automatic_run_is_due(self) -> bool:
        """Whether the resolver is to start a run by itself."""
        [[due]] = self._database.read(lambda connection: connection.run(f"SELECT {automatic_run_is_due()}"))
        return bool(due)

    def is_idle(self) -> bool:
        """Whether there is nothing to resolve, and no run to start."""
        return not self.backlog().records and not self.automatic_run_is_due()

    def backlog(self) -> Backlog:
        """What is left to resolve."""

        def work(connection: Connection) -> Backlog:
            tables = active_run(connection)
            if not tables:
                return Backlog()
            [lag] = [lag for lag in change_log.lags(connection) if lag.consumer == tables.consumer]
            [[members, is_open, failed]] = connection.run(
                f"""SELECT coalesce((SELECT sum(records) FROM {tables.counted.changes}), 0)::bigint,
                    EXISTS (SELECT FROM match_run WHERE status IN ('waiting', 'running') AND activate),
                    EXISTS (SELECT FROM match_run WHERE status = 'failed' AND model_of = {tables.run})"""
            )
            return Backlog(tables.run, lag.records, lag.seconds, members, is_open, failed)

        return self._database.read(work)

    def read_run(self, run: int, to: Tables) -> Version:
        """Writes the rows of a run's tables to files, all of one state; returns what it resolves with. Raises
        LookupError if the run has no tables any more."""
        tables = RunTables(run)
        members = ", ".join("s.name" if column == "source" else f"m.{column}" for column in MEMBER_COLUMNS)
        queries = (
            f"SELECT {members} FROM {tables.member} m JOIN source s ON s.bit = m.source",
            f"SELECT {', '.join(EDGE_COLUMNS)} FROM {tables.edge}",
            f"SELECT {', '.join(REVIEW_COLUMNS)} FROM {tables.review}",
            f"SELECT record_a, record_b, verdict FROM {tables.decision}",
            f"SELECT field, value, records FROM {tables.term}",
        )

        def work(connection: Connection) -> Version:
            if connection.run(f"SELECT to_regclass('{tables.member}') IS NULL") == [[True]]:
                raise LookupError(f"Run {run} has no tables")
            # Nobody drops them meanwhile.
            connection.run(f"LOCK TABLE {', '.join(tables.all)} IN ACCESS SHARE MODE")
            [[model]] = connection.run(f"SELECT model::text FROM match_run WHERE id = {run}")
            position = change_log.position(connection, tables.consumer)
            for query, stream in zip(queries, to.files, strict=True):
                stream.seek(0)
                stream.truncate()
                connection.run(f"COPY ({query}) TO STDOUT WITH (FORMAT csv)", stream=stream)
            return Version(settings_of(connection, tables), json.loads(model), position)

        return self._database.read(work)

    def read_records(self, record_ids: Iterable[int], records: BinaryIO) -> None:
        """Writes those of some records that there are, as CSV with a header: id, source, customer_id, and the fields
        that are normalised."""

        def work(connection: Connection) -> None:
            records.seek(0)
            records.truncate()
            copy_records(connection, records, f"r.id = ANY ({bigints(record_ids)})")

        self._database.read(work)

    def decisions(self) -> list[tuple[int, int, str]]:
        """All decided pairs with their verdict, the latest last."""
        return self._database.read(decided_pairs)

    def clear(self, run: int, batch: Batch) -> None:
        """Empties the tables of a run, because the batch ends with a change that deleted all records. Raises
        Superseded if the batch was consumed."""
        tables = RunTables(run)

        def work(connection: Connection) -> None:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            change_log.commit(connection, tables.consumer, batch)
            tables.empty(connection)

        self._database.write(work, repeatable=True)

    def write(self, run: int, batch: Batch, found: Resolved, begun: float) -> None:
        """Writes what changes do to the tables of a run, in one transaction with the position that `batch` ends at.
        `begun`: the value of time.monotonic() before the batch was resolved. Readers see all of it or nothing. Raises
        Superseded if the batch was consumed."""
        tables = RunTables(run)

        def work(connection: Connection) -> None:
            for stream in (found.members, found.edges, found.review, found.decisions):
                stream.seek(0)
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            change_log.commit(connection, tables.consumer, batch)
            if connection.run(f"SELECT {change_log.is_cleared_after(batch.after.entry)}") == [[True]]:
                # The tables were emptied after the batch was read, or will be: what it found is no more.
                return
            _write_members(connection, tables, found)
            _write_pairs(connection, tables, found)
            connection.run(
                f"""UPDATE match_state SET resolver_records = {batch.records},
                    resolver_seconds = {time.monotonic() - begun}, resolver_at = clock_timestamp()"""
            )

        self._database.write(work, repeatable=True)


def copy_records(connection: Connection, records: BinaryIO, chosen: str = "true") -> None:
    """Writes the chosen records, a condition on the record r, as CSV with a header: id, source, customer_id, and the
    fields that are normalised."""
    connection.run(
        f"""COPY (SELECT r.id, s.name AS source, {_FIELDS} FROM record r JOIN source s ON s.bit = r.source
            WHERE {chosen}) TO STDOUT WITH (FORMAT csv, HEADER)""",
        stream=records,
    )


def decided_pairs(connection: Connection) -> list[tuple[int, int, str]]:
    """All decided pairs with their verdict, the latest last."""
    rows = connection.run(
        """SELECT p.record_a, p.record_b, d.verdict FROM decision_pair p
           JOIN decision d ON d.id = p.decision_id ORDER BY d.id"""
    )
    return [(a, b, verdict) for a, b, verdict in rows]


def copy_members(connection: Connection, tables: RunTables, members: BinaryIO) -> None:
    """Adds members from a CSV file in which the source is a name."""
    connection.run(f"CREATE TEMP TABLE named (LIKE {tables.member}) ON COMMIT DROP")
    connection.run("ALTER TABLE named ALTER COLUMN source TYPE text")
    connection.run(f"COPY named ({', '.join(MEMBER_COLUMNS)}) FROM STDIN WITH (FORMAT csv)", stream=members)
    columns = ", ".join(column for column in MEMBER_COLUMNS if column != "source")
    values = ", ".join(f"named.{column}" for column in MEMBER_COLUMNS if column != "source")
    connection.run(
        f"""INSERT INTO {tables.member} ({columns}, source)
            SELECT {values}, s.bit FROM named JOIN source s ON s.name = named.source"""
    )


def copy_pairs(connection: Connection, tables: RunTables, edges: BinaryIO, review: BinaryIO) -> None:
    """Adds edges and review pairs from CSV files."""
    for table, columns, stream in (
        (tables.edge, EDGE_COLUMNS, edges),
        (tables.review, REVIEW_COLUMNS, review),
    ):
        connection.run(f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)", stream=stream)


def _write_members(connection: Connection, tables: RunTables, found: Resolved) -> None:
    """Replaces members, gives other records their new entities, and counts all entities again that had or have one of
    these records."""
    rewritten, moved = bigints(found.rewritten), bigints(found.entities)
    connection.run(
        f"""CREATE TEMP TABLE touched_entity ON COMMIT DROP AS
            SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id = ANY ({rewritten} || {moved})"""
    )
    touched = "SELECT entity_id FROM touched_entity"
    _count(connection, tables, f"{tables.member} WHERE entity_id IN ({touched})", -1)
    connection.run(f"DELETE FROM {tables.member} WHERE record_id = ANY ({rewritten})")
    connection.run(
        f"""UPDATE {tables.member} m SET entity_id = e.entity_id
            FROM unnest({moved}, {bigints(found.entities.values())}) AS e (record_id, entity_id)
            WHERE m.record_id = e.record_id"""
    )
    copy_members(connection, tables, found.members)
    connection.run(
        f"""CREATE TEMP TABLE joined_entity ON COMMIT DROP AS
            SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id = ANY ({rewritten} || {moved})
            EXCEPT {touched}"""
    )
    # What the entities that were not touched before counted: they only gained records.
    joined = "SELECT entity_id FROM joined_entity"
    gained = f"AND record_id <> ALL ({rewritten} || {moved})"
    _count(connection, tables, f"{tables.member} WHERE entity_id IN ({joined}) {gained}", -1)
    connection.run(f"INSERT INTO touched_entity {joined}")
    membership, members = tables.membership, f"{tables.member} WHERE entity_id IN ({touched})"
    connection.run(f"DELETE FROM {membership.table} WHERE entity_id IN ({touched})")
    connection.run(
        f"""INSERT INTO {membership.table} ({membership.columns})
            SELECT entity_id, bit_or(1::bigint << source), count(*) FROM {members} GROUP BY entity_id
            ORDER BY entity_id"""
    )
    _count(connection, tables, members, 1)


def _count(connection: Connection, tables: RunTables, members: str, sign: int) -> None:
    """Appends what some members (what follows FROM) with all of their entities count, times `sign`."""
    connection.run(
        f"""INSERT INTO {tables.counted.changes} (sources, customers, records)
            SELECT sources, {sign} * sum(entities), {sign} * sum(records) FROM (
                SELECT sources, 1, 0 FROM (
                    SELECT bit_or(1::bigint << source) AS sources FROM {members} GROUP BY entity_id) AS e
                UNION ALL SELECT 1::bigint << source, 0, count(*) FROM {members} GROUP BY source
            ) AS part (sources, entities, records) GROUP BY {BY_REGION}"""
    )


def _write_pairs(connection: Connection, tables: RunTables, found: Resolved) -> None:
    void, affected = bigints(found.void), bigints(found.affected)
    connection.run(
        f"""DELETE FROM {tables.edge} WHERE record_a = ANY ({void}) OR record_b = ANY ({void});
            DELETE FROM {tables.edge}
                WHERE remaining AND (record_a = ANY ({affected}) OR record_b = ANY ({affected}));
            DELETE FROM {tables.review} WHERE record_a = ANY ({affected}) OR record_b = ANY ({affected})"""
    )
    copy_pairs(connection, tables, found.edges, found.review)
    if found.decided:
        connection.run(f"DELETE FROM {tables.decision}")
        connection.run(f"COPY {tables.decision} FROM STDIN WITH (FORMAT csv)", stream=found.decisions)
