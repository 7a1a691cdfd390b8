"""Questions about the entities of the active run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, takewhile
from operator import itemgetter
from typing import Any

from pg8000.native import Connection

from dedup.matching import normalise
from dedup.sets import SetQuery
from dedup.store.connection import Database
from dedup.store.matching import decisions
from dedup.store.matching.freshness import AsOf, as_of
from dedup.store.matching.run_tables import (
    MEMBER_COLUMNS,
    RunTables,
    entities_of,
    is_representative,
    require_active_run,
    settings_of,
)
from dedup.store.records import record_text
from dedup.store.set_questions import state_of
from dedup.store.sql import bigints, text

SHOWN = 500
"""Records that are shown of an entity: representatives first, then the latest. Every nightly copy of a customer adds
one, and an answer has at most 6 MB."""

SHOWN_BYTES = 2_000_000
"""UTF-8 bytes of the records that are shown, as in records.PAGE_BYTES: attributes make long records."""

SHOWN_EDGES = 2_000
"""Edges that are shown between these: those that join first."""

PAGE_RECORDS = 20_000
"""Records that are read for a page of entities; the page ends earlier if it would need more."""

SAMPLED = 200
"""Members with one key that are read to find different candidates among them."""


@dataclass(frozen=True)
class EntityPage:
    """A page of entities in id order, each with its number of records and SHOWN of them; whether more follow; the
    settings of the active run, and how far it is resolved."""

    entities: list[dict[str, Any]]
    more: bool
    settings: Mapping[str, Any]
    resolved: AsOf | None


@dataclass(frozen=True)
class Candidates:
    """Members that may match a record: their normalised values, `source` by its name. And, by column, how many records
    have the record's value (by its hash, if several have it) and how many have any (by None)."""

    members: list[dict[str, Any]]
    frequencies: dict[str, dict[str | None, int]]


class Entities:
    """The entities of the active run of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, query: SetQuery, after: int | None, limit: int, min_records: int) -> EntityPage:
        """The selected entities with at least so many records, above id `after`. Raises NoRun."""

        def work(connection: Connection) -> EntityPage:
            tables = require_active_run(connection)
            state = state_of(connection, "entity")
            chosen = query.select(state.regions)
            settings = settings_of(connection, tables)
            if not chosen:
                return EntityPage([], False, settings, state.resolved)
            masks = ", ".join(str(state.masks[region]) for region in chosen)
            inside = "true" if len(chosen) == len(state.regions) else f"sources IN ({masks})"
            several = f"AND records > 1 AND records >= {min_records}" if min_records > 1 else ""
            counts = connection.run(
                f"""SELECT entity_id, records FROM {tables.membership.table}
                    WHERE {inside} {several} AND entity_id > {after or 0} ORDER BY entity_id LIMIT {limit + 1}"""
            )
            shown = _fitting(dict(counts[:limit]))
            records = _records_of(connection, tables, list(shown))
            page = [
                {"id": entity, "total_records": count, "records": records.get(entity, [])}
                for entity, count in shown.items()
            ]
            return EntityPage(page, len(counts) > len(shown), settings, state.resolved)

        return self._database.read(work)

    def get(self, entity_id: int) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
        """One entity: its number of records, SHOWN of them, the edges between these, the decisions about them, and how
        far the run is resolved; and the run's settings. None if there is no such entity. Raises NoRun."""

        def work(connection: Connection) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
            tables = require_active_run(connection)
            members = _members_of(connection, tables, [entity_id])
            records = list(whole_records(connection, [record for record, _ in members]).values())
            if not records:
                return None
            records.sort(key=itemgetter("id"))
            ids = bigints(record["id"] for record in records)
            edges = connection.run(
                f"""SELECT record_a, record_b, rule, weight, probability, waterfall FROM (
                        SELECT * FROM {tables.edge} WHERE record_a = ANY ({ids}) AND record_b = ANY ({ids})
                        ORDER BY joins DESC, record_a, record_b LIMIT {SHOWN_EDGES}
                    ) AS e ORDER BY 1, 2, rule NULLS LAST"""
            )
            [[total, resolved]] = connection.run(
                f"SELECT records, {as_of(tables)} FROM {tables.membership.table} WHERE entity_id = {entity_id}"
            )
            found = {
                "id": entity_id,
                "total_records": total,
                "records": records,
                "edges": _edges(edges),
                "decisions": decisions.find(connection, f"record_ids && {ids}", 1_000),
                **asdict(AsOf.of(resolved)),
            }
            return found, settings_of(connection, tables)

        return self._database.read(work)

    def of_records(self, record_ids: Sequence[int]) -> dict[int, int]:
        """The entity of each record that the active run knows. Raises NoRun."""
        return self._database.read(
            lambda connection: entities_of(connection, require_active_run(connection), record_ids)
        )

    def records(self, entity_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """The records of entities without their long fields, at most SHOWN of each, in id order. Raises NoRun."""
        return self._database.read(
            lambda connection: _records_of(connection, require_active_run(connection), entity_ids)
        )

    def candidates(
        self,
        run: int,
        values: Mapping[str, Any],
        keys: Sequence[Sequence[str]],
        terms: Mapping[str, str | None],
        most: int,
        most_in_all: int,
    ) -> Candidates:
        """Members of a run that share a key with a record's normalised values. Of exact duplicates, only one is
        returned; of each key, at most `most`; in all, at most `most_in_all`, those of the first keys first. `terms`:
        the hashed values whose frequencies are returned, by column (dedup.matching.scoring.term_value)."""
        tables = RunTables(run)
        found = _candidates_query(tables, values, keys, most, most_in_all)
        asked = " OR ".join(
            [
                "false",
                *(
                    f"field = {text(t)} AND (value IS NULL OR value = {text(value or '')})"
                    for t, value in terms.items()
                ),
            ]
        )

        def work(connection: Connection) -> Candidates:
            rows = connection.run(found) if found else []
            frequencies: dict[str, dict[str | None, int]] = {}
            for field, value, records in connection.run(
                f"SELECT field, value, records FROM {tables.term} WHERE {asked or 'false'}"
            ):
                frequencies.setdefault(field, {})[value] = records
            return Candidates([dict(zip(MEMBER_COLUMNS, row, strict=True)) for row in rows], frequencies)

        return self._database.read(work)


def _candidates_query(
    tables: RunTables, values: Mapping[str, Any], keys: Sequence[Sequence[str]], most: int, most_in_all: int
) -> str | None:
    """None if the values have none of the keys."""
    content = ", ".join(normalise.CONTENT)
    scans = [
        f"""(SELECT DISTINCT ON ({content}) m.* FROM (
                SELECT * FROM {tables.member} m
                WHERE {" AND ".join(f"m.{column} = {_value(column, values[column])}" for column in key)}
                    AND {is_representative("m")}
                LIMIT {SAMPLED}
            ) AS m ORDER BY {content}, record_id LIMIT {most})"""
        for key in keys
        if all(values.get(column) is not None for column in key)
    ]
    if not scans:
        return None
    columns = ", ".join("s.name" if column == "source" else f"m.{column}" for column in MEMBER_COLUMNS)
    found = f"SELECT * FROM ({' UNION ALL '.join(scans)}) AS m LIMIT {most_in_all}"
    return f"SELECT DISTINCT ON (m.record_id) {columns} FROM ({found}) AS m JOIN source s ON s.bit = m.source"


def _value(column: str, value: str | int) -> str:
    literal = str(value) if isinstance(value, int) else text(value)
    return f"(SELECT bit FROM source WHERE name = {literal})" if column == "source" else literal


def whole_records(connection: Connection, record_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Records as the API shows them, by id; those that exist, up to SHOWN_BYTES in the order of `record_ids`."""
    ids = bigints(record_ids)
    rows = connection.run(
        f"""WITH found AS MATERIALIZED ({record_text(f"SELECT * FROM record WHERE id = ANY ({ids})")}), measured AS (
                SELECT found.id, line, sum(octet_length(line)) OVER (ORDER BY place) AS bytes
                FROM found JOIN unnest({ids}) WITH ORDINALITY AS wanted (id, place) ON wanted.id = found.id
            ) SELECT id, line FROM measured WHERE bytes <= {SHOWN_BYTES}"""
    )
    return {record: json.loads(line) for record, line in rows}


def _fitting(counts: Mapping[int, int]) -> dict[int, int]:
    """The first entities, of some with their number of records, that PAGE_RECORDS allow: at least one."""
    read = accumulate(min(SHOWN, count) for count in counts.values())
    page = list(takewhile(lambda so_far: so_far <= PAGE_RECORDS, read))
    return dict(list(counts.items())[: max(1, len(page))])


def _members_of(connection: Connection, tables: RunTables, entity_ids: Sequence[int]) -> list[list[int]]:
    """The records of entities with their entities, at most SHOWN of each, those that are shown first at first."""
    found: list[list[int]] = connection.run(
        f"""SELECT m.record_id, m.entity_id FROM unnest({bigints(entity_ids)}) AS e (entity_id) CROSS JOIN LATERAL (
                SELECT record_id, entity_id, {is_representative("m")} AS first FROM {tables.member} m
                WHERE m.entity_id = e.entity_id ORDER BY first DESC, record_id DESC LIMIT {SHOWN}
            ) AS m ORDER BY m.first DESC, m.record_id DESC"""
    )
    return found


def _records_of(
    connection: Connection, tables: RunTables, entity_ids: Sequence[int]
) -> dict[int, list[dict[str, Any]]]:
    members = sorted(_members_of(connection, tables, entity_ids))
    chosen = f"SELECT * FROM record WHERE id = ANY ({bigints(record for record, _ in members)})"
    records = {record: json.loads(line) for record, line in connection.run(record_text(chosen, brief=True))}
    found: dict[int, list[dict[str, Any]]] = {}
    for record, entity in members:
        if record in records:
            found.setdefault(entity, []).append(records[record])
    return found


def _edges(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    names = ("record_a", "record_b", "rule", "weight", "probability", "waterfall")
    return [dict(zip(names, row, strict=True)) for row in rows]
