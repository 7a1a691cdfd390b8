"""The tables of matching runs, and which run is active.

Each run creates tables of its own in the schema matching, with its number in their names. See locks for who may change
or drop them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pg8000.native import Connection

from dedup.errors import NoRun
from dedup.matching import normalise
from dedup.matching.rules import IDENTITY, index_columns, term_columns, without_waived
from dedup.settings import settings
from dedup.store.locks import TRY_ENTITIES_LOCK_SHARED
from dedup.store.region_counts import Counted, Membership
from dedup.store.sql import bigints, text, texts

MEMBER_COLUMNS = ("record_id", "entity_id", *IDENTITY, *normalise.COLUMNS, "common", "representative")
"""The columns of a run's members: the record, its entity, its source and customer, its normalised values, those of them
that count as missing because too many people share them, and its representative. See RunTables.member."""

EDGE_COLUMNS = (
    "record_a", "record_b", "rule", "weight", "probability", "waterfall", "joins", "veto", "review_flag", "remaining",
)  # fmt: skip
"""The columns of a run's edges, see RunTables.edge."""

REVIEW_COLUMNS = (
    "record_a", "record_b", "weight", "probability", "waterfall", "constraint_name", "uncertainty",
)  # fmt: skip
"""The columns of a run's review pairs."""


def automatic_run_is_due() -> str:
    """The condition that the resolver starts a run by itself: the first one, if there are few records, and another when
    the records of an automatic run have doubled, because how likely a match is depends on their number. The first run
    of more records is the last."""
    below, records = settings().automatic_run_below, "(SELECT coalesce(sum(records), 0) FROM region_change)"
    return f"""((NOT EXISTS (SELECT FROM match_run) AND {records} BETWEEN 1 AND {below - 1}
        OR EXISTS (SELECT FROM match_run r JOIN match_state ON r.id = active_run
            WHERE automatic AND r.records < {below} AND {records} >= 2 * r.records))
        AND NOT EXISTS (SELECT FROM match_run WHERE status IN ('waiting', 'running')))"""


def is_representative(member: str) -> str:
    """The condition that a member has normalised values of its own."""
    return f"{member}.representative IS NULL"


@dataclass(frozen=True)
class RunTables:
    """The names of a run's tables."""

    run: int

    @property
    def member(self) -> str:
        """Every record that the run knows, with its entity and its normalised values. An exact duplicate of an earlier
        member of the same source and customer has none, but names its `representative`. `common`: the values that count
        as missing, as jobs.matching.preparation.common_text writes them."""
        return f"matching.member_{self.run}"

    @property
    def edge(self) -> str:
        """The pairs that a match rule joins, and those that the model gave a weight from the threshold `review` on.
        `joins`: whether the pair is to be joined; `remaining`: it was scored only because both records were in one
        component."""
        return f"matching.edge_{self.run}"

    @property
    def review(self) -> str:
        """The pairs for clerical review."""
        return f"matching.review_{self.run}"

    @property
    def decision(self) -> str:
        """The decided pairs that the entities respect: the smaller record id first."""
        return f"matching.decision_{self.run}"

    @property
    def consumer(self) -> str:
        """The name under which the run reads the change log."""
        return f"run-{self.run}"

    @property
    def term(self) -> str:
        """Term frequencies of the model version: how many records have a value, if several have it; without a value,
        how many have any. They are what training counted. Values are hashed, see dedup.matching.scoring.term_value."""
        return f"matching.term_{self.run}"

    @property
    def counted(self) -> Counted:
        """Membership and region counts of the entities."""
        return Counted((self.membership,), f"matching.change_{self.run}", self.member)

    @property
    def membership(self) -> Membership:
        """Which sources have each entity, and its number of records."""
        return Membership(f"matching.membership_{self.run}", "entity_id", counts_records=True)

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, in the order in which readers lock them."""
        return (
            self.counted.changes, self.membership.table, self.member, self.edge, self.review, self.decision, self.term,
        )  # fmt: skip

    def create(self, connection: Connection) -> None:
        """Creates them, empty and without indexes."""
        forms = ", ".join(f"{column} text" for column in normalise.COLUMNS)
        connection.run(
            f"""CREATE TABLE {self.member} (
                record_id bigint NOT NULL, entity_id bigint NOT NULL, source smallint NOT NULL,
                customer_id text NOT NULL, {forms}, common text, representative bigint)"""
        )
        connection.run(
            f"""CREATE TABLE {self.edge} (
                record_a bigint NOT NULL, record_b bigint NOT NULL, rule text, weight double precision,
                probability double precision, waterfall text, joins boolean NOT NULL, veto text, review_flag text,
                remaining boolean NOT NULL)"""
        )
        connection.run(
            f"""CREATE TABLE {self.review} (
                record_a bigint NOT NULL, record_b bigint NOT NULL, weight double precision,
                probability double precision, waterfall text, constraint_name text,
                uncertainty double precision NOT NULL)"""
        )
        connection.run(
            f"CREATE TABLE {self.decision} (record_a bigint NOT NULL, record_b bigint NOT NULL, verdict text NOT NULL)"
        )
        connection.run(f"CREATE TABLE {self.term} (field text NOT NULL, value text, records bigint NOT NULL)")
        connection.run(
            f"""CREATE TABLE {self.membership.table} (
                entity_id bigint PRIMARY KEY, sources bigint NOT NULL, previous bigint NOT NULL DEFAULT 0,
                records bigint NOT NULL)"""
        )
        connection.run(
            f"""CREATE TABLE {self.counted.changes} (
                    sources bigint NOT NULL, customers bigint NOT NULL, records bigint NOT NULL
                ) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0)"""
        )

    def index(self, connection: Connection, settings: Mapping[str, Any]) -> None:
        """Creates the indexes, and the planner's statistics."""
        connection.run(
            f"""ALTER TABLE {self.member} ADD PRIMARY KEY (record_id);
                CREATE INDEX ON {self.member} (entity_id); CREATE INDEX ON {self.member} (customer_id)"""
        )
        # Of representatives only: there is no limit to how often uploads may repeat a record.
        connection.run(
            "; ".join(
                f"CREATE INDEX ON {self.member} ({', '.join(columns)}) WHERE representative IS NULL"
                for columns in index_columns(settings)
                if columns != IDENTITY
            )
        )
        connection.run(
            f"""CREATE INDEX ON {self.edge} (record_a); CREATE INDEX ON {self.edge} (record_b);
                CREATE INDEX ON {self.review} (record_a); CREATE INDEX ON {self.review} (record_b);
                CREATE INDEX ON {self.review} (uncertainty DESC, record_a, record_b);
                CREATE INDEX ON {self.term} (field, value);
                CREATE INDEX ON {self.membership.table} (sources, entity_id);
                CREATE INDEX ON {self.membership.table} (entity_id) WHERE records > 1"""
        )
        connection.run(f"ANALYZE {', '.join(self.all)}")

    def empty(self, connection: Connection) -> None:
        """Deletes all rows, but the term frequencies without a value, which are nobody's."""
        fields = texts(term_columns(settings_of(connection, self)))
        totals = connection.run(
            f"SELECT field, records FROM {self.term} WHERE field = ANY ({fields}) AND value IS NULL"
        )
        connection.run(f"TRUNCATE {', '.join(self.all)}")
        if totals:
            rows = ", ".join(f"({text(field)}, {records})" for field, records in totals)
            connection.run(f"INSERT INTO {self.term} (field, records) VALUES {rows}")

    def drop(self, connection: Connection) -> None:
        """Drops those that exist."""
        connection.run(f"DROP TABLE IF EXISTS {', '.join(self.all)}")


def active_run(connection: Connection, lock: str = "") -> RunTables | None:
    """The tables of the active run, None before the first; with a lock of locks, which is held until the end of the
    transaction."""
    # The lock in a statement of its own: one that waits for a lock does not see what was committed while it waited.
    rows = connection.run(f"{f'SELECT {lock}; ' if lock else ''}SELECT active_run FROM match_state")
    [run] = rows[-1]
    return RunTables(run) if run else None


def require_active_run(connection: Connection) -> RunTables:
    """The tables of the active run. Raises NoRun."""
    tables = active_run(connection)
    if not tables:
        raise NoRun("No run of the matching was finished yet: begin one with POST /api/v1/matching/runs")
    return tables


def settings_of(connection: Connection, tables: RunTables) -> Mapping[str, Any]:
    """The settings of a run, without the constraints that its model version waives."""
    [[settings, waived]] = connection.run(
        f"SELECT settings::text, coalesce(model->'waived', '[]')::text FROM match_run WHERE id = {tables.run}"
    )
    return without_waived(json.loads(settings), json.loads(waived))


def settings_text(connection: Connection, tables: RunTables) -> str:
    """The settings of a run with all constraints, as JSON."""
    [[settings]] = connection.run(f"SELECT settings::text FROM match_run WHERE id = {tables.run}")
    return str(settings)


def entities_of(connection: Connection, tables: RunTables, record_ids: Sequence[int]) -> dict[int, int]:
    """The entity of each record that a run knows."""
    rows = connection.run(
        f"SELECT record_id, entity_id FROM {tables.member} WHERE record_id = ANY ({bigints(record_ids)})"
    )
    return dict(rows)


def all_runs(connection: Connection) -> list[RunTables]:
    """The tables of all runs that have any, by run."""
    rows = connection.run(
        """SELECT DISTINCT split_part(relname, '_', 2)::bigint AS run FROM pg_class
           WHERE relnamespace = 'matching'::regnamespace AND relkind = 'r' AND relname ~ '^[a-z]+_[0-9]+$'
           ORDER BY run"""
    )
    return [RunTables(run) for [run] in rows]


def drop_unneeded(connection: Connection) -> None:
    """Drops the tables of runs that are not kept and not being worked on, and forgets how far they have read the change
    log. Does nothing while the lock is not free: the next call does it."""
    if connection.run(f"SELECT {TRY_ENTITIES_LOCK_SHARED}") == [[False]]:
        return
    rows = connection.run("SELECT id FROM match_run WHERE kept OR status = 'running' AND lease_until >= now()")
    needed = {run for [run] in rows}
    for tables in all_runs(connection):
        if tables.run not in needed:
            tables.drop(connection)
    connection.run(
        """DELETE FROM change_consumer WHERE name LIKE 'run-%' AND NOT EXISTS (
            SELECT FROM match_run r WHERE name = 'run-' || r.id AND (kept OR status IN ('waiting', 'running')))"""
    )
