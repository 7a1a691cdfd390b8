"""The figures of the report, and those that were kept of earlier ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pg8000.native import Connection

from dedup.records import KNOWN
from dedup.sets import Regions
from dedup.store import entities
from dedup.store.base import Base, iso, text
from dedup.store.records import state_of

SAMPLE = 200_000
"""Records that are looked at to say how complete they are: whole pages of the table, as many as these are on. The share
of so many is right to a fifth of a per cent nineteen times in twenty, were they in no order."""

_AT = iso("created_at")


@dataclass(frozen=True)
class Fault:
    """In how many rejected rows of a source's files a field was missing or malformed; `source` is None for files that
    name a source in each row."""

    source: str | None
    field: str
    missing: int
    malformed: int


@dataclass(frozen=True)
class People:
    """The active matching run: what it was told and found, and the people of each region as they are now."""

    run: int
    finished_at: str
    engine: str
    asked: Mapping[str, Any]
    """The settings that were asked for, over the defaults."""
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    decisions: int
    """What people said of records and did not take back."""
    regions: Regions


@dataclass(frozen=True)
class Figures:
    """One state of the database. `filled`: of each source's `looked_at` records, how many have the fields of KNOWN."""

    at: datetime
    records: Mapping[str, int]
    regions: Regions
    looked_at: Mapping[str, int]
    filled: Mapping[str, Mapping[str, int]]
    rows: Mapping[str | None, tuple[int, int]]
    """By source as in Fault: rows that files brought, and how many of them were rejected."""
    faults: list[Fault]
    people: People | None
    """None before the first finished run."""

    def to_keep(self) -> str:
        """What a later report compares with, as JSON."""
        kept = {"records": dict(sorted(self.records.items())), **_packed(self.regions)}
        if self.people:
            kept["people"] = {"run": self.people.run, **_packed(self.people.regions)}
        return json.dumps(kept)


@dataclass(frozen=True)
class Kept:
    """Figures that were kept: the records of each source, the customers of each region, and, where a matching
    run was active, which, and the people of each region."""

    id: int
    created_at: str
    records: Mapping[str, int]
    regions: Regions
    run: int | None
    people: Regions


class Reports(Base):
    """The figures of one database."""

    def figures(self) -> Figures:
        """The figures now. They are sums of few rows, and a sample of the records: they cost the same at any size."""
        return self._database.read(_figures)

    def last_report(self) -> Kept | None:
        """The figures that were kept last."""
        rows = self._database.read(
            lambda connection: connection.run(f"SELECT id, {_AT}, figures FROM report ORDER BY id DESC LIMIT 1")
        )
        return _kept(*rows[0]) if rows else None

    def keep_report(self) -> Kept:
        """Keeps the figures as they are now, for later reports to compare with; where they are those that were kept
        last, those."""

        def work(connection: Connection) -> Kept:
            # Alone: two that keep the same at the same moment keep one.
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
    """Regions as they are kept: each once as the bits of its sources, which stand in the order in which they are named
    beside. With all names in each, 50,000 regions of 63 sources are 20 MB of text."""
    sources = sorted(frozenset().union(*regions))
    bits = {source: 1 << place for place, source in enumerate(sources)}
    counts = sorted((sum(bits[source] for source in region), count) for region, count in regions.items())
    return {"sources": sources, "regions": counts}


def _unpacked(kept: Mapping[str, Any]) -> Regions:
    bits = [(1 << place, source) for place, source in enumerate(kept["sources"])]
    return {frozenset([source for bit, source in bits if region & bit]): count for region, count in kept["regions"]}


def _kept(report_id: int, created_at: str, figures: Mapping[str, Any]) -> Kept:
    # Figures that were kept before a run have none.
    people = figures.get("people")
    return Kept(
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
    looked_at = connection.run(
        f"""SELECT s.name, {", ".join(["count(*)", *(f"count({field})" for field in KNOWN)])}
            FROM record AS r TABLESAMPLE SYSTEM ({share}) REPEATABLE (0) JOIN source s ON s.bit = r.source GROUP BY 1"""
    )
    rows = connection.run(
        """SELECT source, sum(rows)::bigint, sum(rejected)::bigint FROM upload
           WHERE status IN ('done', 'failed') AND origin = 's3' GROUP BY source"""
    )
    faults = connection.run(
        """SELECT source, field, sum(missing)::bigint, sum(malformed)::bigint
           FROM upload_error JOIN upload ON id = upload_id WHERE status IN ('done', 'failed')
           GROUP BY source, field ORDER BY source, field"""
    )
    [[at]] = connection.run("SELECT now()")
    return Figures(
        at,
        dict(records),
        state.regions,
        {name: count for name, count, *_ in looked_at},
        {name: dict(zip(KNOWN, counts, strict=True)) for name, _, *counts in looked_at},
        {source: (brought, rejected) for source, brought, rejected in rows},
        [Fault(*row) for row in faults],
        _people(connection),
    )


def _people(connection: Connection) -> People | None:
    tables = entities.active_run(connection)
    if not tables:
        return None
    [[run]] = connection.run(
        f"""SELECT row_to_json(r)::text FROM (
                SELECT id AS run, {iso("finished_at")} AS finished_at, engine, asked,
                    settings, model, (SELECT count(*) FROM decision WHERE revoked_at IS NULL) AS decisions
                FROM match_run WHERE id = {tables.run}) AS r"""
    )
    return People(**json.loads(run), regions=state_of(connection, "entity").regions)
