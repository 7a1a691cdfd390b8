"""The figures of the report, and the baselines that later reports are compared with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pg8000.native import Connection

from dedup.records import DETAILS
from dedup.sets import Regions
from dedup.store.connection import Database
from dedup.store.matching import run_tables
from dedup.store.set_questions import state_of
from dedup.store.sql import iso, text

SAMPLE = 200_000
"""Records that are sampled to estimate completeness, as whole pages of the table. In random order, the share is right
to a fifth of a per cent in 95 of 100 cases."""

_AT = iso("created_at")


@dataclass(frozen=True)
class FieldErrors:
    """In how many rejected rows of a source's files a field was missing or malformed. `source` is None for files that
    name the source in each row."""

    source: str | None
    field: str
    missing: int
    malformed: int


@dataclass(frozen=True)
class People:
    """The active matching run: its settings and model, and how many entities are in each region now."""

    run: int
    finished_at: str
    engine: str
    asked: Mapping[str, Any]
    """The settings that the request changed."""
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    decisions: int
    """How many decisions were not revoked."""
    regions: Regions
    unresolved_records: int
    """How many changed records these entities do not contain yet."""


@dataclass(frozen=True)
class Figures:
    """One state of the database. `filled`: of each source's `sampled` records, how many have each field of DETAILS."""

    at: datetime
    records: Mapping[str, int]
    regions: Regions
    sampled: Mapping[str, int]
    filled: Mapping[str, Mapping[str, int]]
    rows: Mapping[str | None, tuple[int, int]]
    """By source, as in FieldErrors: rows of files, and how many of them were rejected."""
    field_errors: list[FieldErrors]
    people: People | None
    """None before the first finished run."""

    def to_keep(self) -> str:
        """The figures that a later report is compared with, as JSON."""
        kept = {"records": dict(sorted(self.records.items())), **_packed(self.regions)}
        if self.people:
            kept["people"] = {"run": self.people.run, **_packed(self.people.regions)}
        return json.dumps(kept)


@dataclass(frozen=True)
class Baseline:
    """A baseline: the records of each source and the customers of each region; if a matching run was active, which one,
    and the entities of each region."""

    id: int
    created_at: str
    records: Mapping[str, int]
    regions: Regions
    run: int | None
    people: Regions


class Reports:
    """The report's figures of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def figures(self) -> Figures:
        """The current figures. They are sums of few rows and a sample of the records, so they cost the same at any
        size."""
        return self._database.read(_figures)

    def baseline(self) -> Baseline | None:
        """The latest baseline; None if there is none."""
        rows = self._database.read(
            lambda connection: connection.run(f"SELECT id, {_AT}, figures FROM report ORDER BY id DESC LIMIT 1")
        )
        return _kept(*rows[0]) if rows else None

    def keep_baseline(self) -> Baseline:
        """Keeps the current figures as the baseline of later reports. If they equal the latest baseline, returns that
        one."""

        def work(connection: Connection) -> Baseline:
            # Exclusive: two requests at the same moment keep one baseline.
            connection.run("LOCK TABLE report IN SHARE ROW EXCLUSIVE MODE")
            figures = text(_figures(connection).to_keep())
            [row] = connection.run(
                f"""WITH last AS (SELECT * FROM report ORDER BY id DESC LIMIT 1), kept AS (
                        INSERT INTO report (figures) SELECT {figures}::json
                        WHERE NOT EXISTS (SELECT FROM last WHERE figures::text = {figures}) RETURNING *
                    ) SELECT id, {_AT}, figures FROM (SELECT * FROM kept UNION ALL SELECT * FROM last) AS either
                    ORDER BY id DESC LIMIT 1"""
            )
            return _kept(*row)

        return self._database.write(work, repeatable=True)


def _packed(regions: Regions) -> dict[str, Any]:
    """Regions as they are stored: each as the bits of its sources, in the order of the list of names. With the names in
    each region, 50,000 regions of 63 sources are 20 MB of text."""
    sources = sorted(frozenset().union(*regions))
    bits = {source: 1 << position for position, source in enumerate(sources)}
    counts = sorted((sum(bits[source] for source in region), count) for region, count in regions.items())
    return {"sources": sources, "regions": counts}


def _unpacked(kept: Mapping[str, Any]) -> Regions:
    bits = [(1 << position, source) for position, source in enumerate(kept["sources"])]
    return {frozenset([source for bit, source in bits if region & bit]): count for region, count in kept["regions"]}


def _kept(report_id: int, created_at: str, figures: Mapping[str, Any]) -> Baseline:
    # Baselines from before the first run have none.
    people = figures.get("people")
    return Baseline(
        report_id,
        created_at,
        figures["records"],
        _unpacked(figures),
        people["run"] if people else None,
        _unpacked(people) if people else {},
    )


def _figures(connection: Connection) -> Figures:
    state = state_of(connection, "customer")
    records = connection.run(
        """SELECT name, sum(records)::bigint FROM source JOIN change_now ON sources = 1::bigint << bit
           GROUP BY name HAVING sum(records) <> 0"""
    )
    share = min(100.0, 100 * SAMPLE / state.records) if state.records else 100.0
    sampled = connection.run(
        f"""SELECT s.name, {", ".join(["count(*)", *(f"count(r.{field})" for field in DETAILS)])}
            FROM record AS r TABLESAMPLE SYSTEM ({share}) REPEATABLE (0) JOIN source s ON s.bit = r.source GROUP BY 1"""
    )
    rows = connection.run(
        """SELECT source, sum(rows)::bigint, sum(rejected)::bigint FROM upload
           WHERE status IN ('done', 'failed') AND origin = 's3' GROUP BY source"""
    )
    field_errors = connection.run(
        """SELECT source, field, coalesce(sum(e.rows) FILTER (WHERE missing), 0)::bigint,
               coalesce(sum(e.rows) FILTER (WHERE NOT missing), 0)::bigint
           FROM upload_error e JOIN upload ON id = upload_id WHERE status IN ('done', 'failed')
           GROUP BY source, field ORDER BY source, field"""
    )
    [[at]] = connection.run("SELECT now()")
    return Figures(
        at,
        dict(records),
        state.regions,
        {name: count for name, count, *_ in sampled},
        {name: dict(zip(DETAILS, counts, strict=True)) for name, _, *counts in sampled},
        {source: (brought, rejected) for source, brought, rejected in rows},
        [FieldErrors(*row) for row in field_errors],
        _people(connection),
    )


def _people(connection: Connection) -> People | None:
    tables = run_tables.active_run(connection)
    if not tables:
        return None
    [[run]] = connection.run(
        f"""SELECT row_to_json(r)::text FROM (
                SELECT id AS run, {iso("finished_at")} AS finished_at, engine, asked,
                    settings, model, (SELECT count(*) FROM decision WHERE revoked_at IS NULL) AS decisions
                FROM match_run WHERE id = {tables.run}) AS r"""
    )
    state = state_of(connection, "entity")
    unresolved = state.resolved.unresolved_records if state.resolved else 0
    return People(**json.loads(run), regions=state.regions, unresolved_records=unresolved)
