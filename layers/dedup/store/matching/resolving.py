"""What the resolver reads, and writes to the tables of the active run: one change at a time, with the position in the
change log that it reached."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pg8000.native import Connection

from dedup.errors import Superseded
from dedup.matching import normalise
from dedup.store import change_log
from dedup.store.change_log import Batch
from dedup.store.connection import Database
from dedup.store.customer_columns import as_text
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching.run_tables import MEMBER_COLUMNS, RunTables, active_run
from dedup.store.sql import BY_REGION, bigints

CONSUMER = "resolver"
"""The name under which the resolver reads the change log."""


@dataclass(frozen=True)
class Resolved:
    """What a change does to the tables of a run. `members`, `entities`, `edges` and `review` are CSV files without a
    header, their columns in the order of the tables; `entities` has record_id, entity_id. The `source` of members is a
    source's name.

    rewritten: the records whose member is void; `members` has those that there still are, with any entity
    void: the records of which all edges are void
    affected: the records of which all pairs for review are void, and all edges that were found because of their
        component"""

    rewritten: Sequence[int]
    void: Sequence[int]
    affected: Sequence[int]
    members: BinaryIO
    entities: BinaryIO
    edges: BinaryIO
    review: BinaryIO


class Resolving:
    """The resolver's view of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_records(self, record_ids: Iterable[int], records: BinaryIO) -> None:
        """Writes those of some records that there are, as CSV with a header: id, source, customer_id, and the fields
        that are normalised."""
        fields = ", ".join((f"{as_text('r')} AS customer_id", *(f"r.{field}" for field in normalise.FIELDS)))

        def work(connection: Connection) -> None:
            records.seek(0)
            records.truncate()
            connection.run(
                f"""COPY (SELECT r.id, s.name AS source, {fields} FROM record r JOIN source s ON s.bit = r.source
                    WHERE r.id = ANY ({bigints(record_ids)})) TO STDOUT WITH (FORMAT csv, HEADER)""",
                stream=records,
            )

        self._database.read(work)

    def decisions(self) -> list[tuple[int, int, str]]:
        """All decided pairs with their verdict, the latest last."""
        rows = self._database.read(
            lambda connection: connection.run(
                """SELECT p.record_a, p.record_b, d.verdict FROM decision_pair p
                   JOIN decision d ON d.id = p.decision_id ORDER BY d.id"""
            )
        )
        return [(a, b, verdict) for a, b, verdict in rows]

    def write(self, run: int, batch: Batch, found: Resolved) -> None:
        """Writes a change to the tables of the active run, in one transaction with the position that `batch` ends at.
        Readers see all of it or nothing. Raises Superseded if another run is active, or the batch was consumed."""
        tables = RunTables(run)

        def work(connection: Connection) -> None:
            for stream in (found.members, found.entities, found.edges, found.review):
                stream.seek(0)
            if active_run(connection, ENTITIES_LOCK_EXCLUSIVE) != tables:
                raise Superseded("Another run is active")
            change_log.commit(connection, CONSUMER, batch)
            _copy_in(connection, tables, found)
            _write_members(connection, tables, found)
            _write_pairs(connection, tables, found)

        self._database.write(work, repeatable=True)


def _copy_in(connection: Connection, tables: RunTables, found: Resolved) -> None:
    for name, columns in (
        ("new_member", f"(LIKE {tables.member})"),
        ("new_entity", "(record_id bigint PRIMARY KEY, entity_id bigint NOT NULL)"),
    ):
        connection.run(f"CREATE TEMP TABLE {name} {columns} ON COMMIT DROP")
    connection.run("ALTER TABLE new_member ALTER COLUMN source TYPE text")
    connection.run("COPY new_member FROM STDIN WITH (FORMAT csv)", stream=found.members)
    connection.run("COPY new_entity FROM STDIN WITH (FORMAT csv)", stream=found.entities)
    connection.run("ANALYZE new_member; ANALYZE new_entity")


def _write_members(connection: Connection, tables: RunTables, found: Resolved) -> None:
    """Replaces members, gives records their entities, and counts these again: all records of an entity, former or new,
    are among those that get an entity or are void."""
    rewritten = bigints(found.rewritten)
    connection.run(
        f"""CREATE TEMP TABLE touched_entity ON COMMIT DROP AS
            SELECT entity_id FROM {tables.member} m WHERE record_id = ANY ({rewritten})
            UNION SELECT m.entity_id FROM {tables.member} m JOIN new_entity n USING (record_id)
            UNION SELECT entity_id FROM new_entity"""
    )
    connection.run("ALTER TABLE touched_entity ADD PRIMARY KEY (entity_id); ANALYZE touched_entity")
    members = f"{tables.member} WHERE entity_id IN (SELECT entity_id FROM touched_entity)"
    _count(connection, tables, members, -1)
    columns = ", ".join(column for column in MEMBER_COLUMNS if column not in ("source", "entity_id"))
    values = ", ".join(f"n.{column}" for column in MEMBER_COLUMNS if column not in ("source", "entity_id"))
    connection.run(f"DELETE FROM {tables.member} WHERE record_id = ANY ({rewritten})")
    connection.run(
        f"""INSERT INTO {tables.member} ({columns}, entity_id, source)
            SELECT {values}, e.entity_id, s.bit FROM new_member n JOIN new_entity e USING (record_id)
            JOIN source s ON s.name = n.source ORDER BY record_id"""
    )
    connection.run(
        f"""UPDATE {tables.member} m SET entity_id = e.entity_id FROM new_entity e
            WHERE m.record_id = e.record_id AND m.entity_id <> e.entity_id"""
    )
    membership = tables.membership
    connection.run(f"DELETE FROM {membership.table} WHERE entity_id IN (SELECT entity_id FROM touched_entity)")
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
        f"""DELETE FROM {tables.edge} WHERE record_a = ANY ({void}) OR record_b = ANY ({void})
            OR remaining AND (record_a = ANY ({affected}) OR record_b = ANY ({affected}));
            DELETE FROM {tables.review} WHERE record_a = ANY ({affected}) OR record_b = ANY ({affected})"""
    )
    connection.run(f"COPY {tables.edge} FROM STDIN WITH (FORMAT csv)", stream=found.edges)
    connection.run(f"COPY {tables.review} FROM STDIN WITH (FORMAT csv)", stream=found.review)
