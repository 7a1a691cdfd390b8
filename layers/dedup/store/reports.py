"""The figures of the report, and those that were kept of earlier ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pg8000.native import Connection

from dedup.records import KNOWN
from dedup.sets import Regions
from dedup.store.base import ISO_TIME, Base, text
from dedup.store.records import regions_of

SAMPLE = 200_000
"""Records that are looked at to say how complete they are: whole pages of the table, as many as these are on. The share
of so many is right to a fifth of a per cent nineteen times in twenty, were they in no order."""

_AT = f"to_char(created_at AT TIME ZONE 'UTC', {ISO_TIME})"


@dataclass(frozen=True)
class Fault:
    """In how many rejected rows of a source's files a field was missing or malformed; `source` is None for files that
    name a source in each row."""

    source: str | None
    field: str
    missing: int
    malformed: int


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

    def to_keep(self) -> str:
        """What a later report compares with, as JSON."""
        regions = sorted([sorted(region), customers] for region, customers in self.regions.items())
        return json.dumps({"records": dict(sorted(self.records.items())), "regions": regions})


@dataclass(frozen=True)
class Kept:
    """Figures that were kept: the records of each source, and the customers of each region."""

    id: int
    created_at: str
    records: Mapping[str, int]
    regions: Regions


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


def _kept(report_id: int, created_at: str, figures: Mapping[str, Any]) -> Kept:
    regions = {frozenset(region): customers for region, customers in figures["regions"]}
    return Kept(report_id, created_at, figures["records"], regions)


def _figures(connection: Connection) -> Figures:
    regions, _, total, *_ = regions_of(connection, "customer")
    records = connection.run(
        """SELECT name, sum(records)::bigint FROM source JOIN change_now ON sources = 1::bigint << bit
           GROUP BY name HAVING sum(records) <> 0"""
    )
    share = min(100.0, 100 * SAMPLE / total) if total else 100.0
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
           FROM upload_fault JOIN upload ON id = upload_id WHERE status IN ('done', 'failed')
           GROUP BY source, field ORDER BY source, field"""
    )
    [[at]] = connection.run("SELECT now()")
    return Figures(
        at,
        dict(records),
        regions,
        {name: count for name, count, *_ in looked_at},
        {name: dict(zip(KNOWN, counts, strict=True)) for name, _, *counts in looked_at},
        {source: (brought, rejected) for source, brought, rejected in rows},
        [Fault(*row) for row in faults],
    )
