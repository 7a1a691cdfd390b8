"""Moving records between the entities of a run, with membership and region counts; and exact duplicates that have to
leave their representative."""

from collections.abc import Iterable, Mapping

from pg8000.native import Connection

from dedup.matching import normalise
from dedup.store.matching.exact_duplicates import is_representative
from dedup.store.matching.run_tables import RunTables
from dedup.store.region_counts import count_changes, gain, lose, remove_empty
from dedup.store.sql import bigints


def count_new(connection: Connection, tables: RunTables, records: Iterable[int]) -> None:
    """Adds new members to membership and counts."""
    added = "SELECT 1::bigint << source, 0, count(*) FROM added GROUP BY source"
    connection.run(
        f"""WITH added AS MATERIALIZED (
            SELECT entity_id, source FROM {tables.member} WHERE record_id = ANY ({bigints(records)})
        ), {gain(tables.membership, _per_entity("added"))}, {count_changes(tables.counted, added)} SELECT"""
    )


def delete(connection: Connection, tables: RunTables, records: str, entities: str) -> None:
    """Deletes members, also from membership and counts. `records` and `entities`: the members and their entities, as
    arrays."""
    removed = "SELECT 1::bigint << source, 0, -count(*) FROM gone GROUP BY source"
    connection.run(
        f"""WITH gone AS (
            DELETE FROM {tables.member} WHERE record_id = ANY ({records}) RETURNING source
        ), {_lose(tables, records, entities)}, {count_changes(tables.counted, removed)} SELECT"""
    )
    remove_empty(connection, tables.counted)


def move(connection: Connection, tables: RunTables, entity_of: Mapping[int, int]) -> None:
    """Gives records other entities: record → entity. The caller holds ENTITIES_LOCK_EXCLUSIVE."""
    if not entity_of:
        return
    records, counted = bigints(entity_of), tables.counted
    former = connection.run(f"SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id = ANY ({records})")
    connection.run(
        f"""WITH {_lose(tables, records, bigints(entity for [entity] in former))}, {count_changes(counted)} SELECT"""
    )
    connection.run(
        f"""UPDATE {tables.member} m SET entity_id = t.entity_id
            FROM unnest({records}, {bigints(entity_of.values())}) AS t (record_id, entity_id)
            WHERE m.record_id = t.record_id"""
    )
    moved = _per_entity(f"{tables.member} WHERE record_id = ANY ({records})")
    connection.run(f"WITH {gain(tables.membership, moved)}, {count_changes(counted)} SELECT")
    remove_empty(connection, counted)


def duplicates_of(connection: Connection, tables: RunTables, representatives: str) -> dict[int, int]:
    """The representative of each exact duplicate, by its record id, for the representatives in an array."""
    return _duplicates(connection, tables, f"e.record_a = ANY ({representatives})")


def representatives_of(connection: Connection, tables: RunTables, record_ids: Iterable[int]) -> dict[int, int]:
    """The representative of each of the records that is an exact duplicate, by its record id."""
    return _duplicates(connection, tables, f"e.record_b = ANY ({bigints(record_ids)})")


def _duplicates(connection: Connection, tables: RunTables, condition: str) -> dict[int, int]:
    return dict(
        connection.run(
            f"""SELECT m.record_id, e.record_a FROM {tables.edge} e JOIN {tables.member} m ON m.record_id = e.record_b
                WHERE {condition} AND NOT {is_representative("m")}"""
        )
    )


def give_values(connection: Connection, tables: RunTables, representative: Mapping[int, int]) -> None:
    """Gives exact duplicates the normalised values of their representatives, so that they can leave their entity: each,
    with its representative. Those that have values keep them."""
    if not representative:
        return
    values = ", ".join(f"{column} = o.{column}" for column in normalise.COLUMNS)
    connection.run(
        f"""UPDATE {tables.member} m SET {values}
            FROM unnest({bigints(representative)}, {bigints(representative.values())}) AS r (record_id, representative)
            JOIN {tables.member} o ON o.record_id = r.representative
            WHERE m.record_id = r.record_id AND NOT {is_representative("m")}"""
    )


def _per_entity(members: str) -> str:
    """A query for the entities of some members, what follows FROM: id, sources, records."""
    return f"""SELECT entity_id, bit_or(1::bigint << source) AS sources, count(*) AS records
        FROM {members} GROUP BY entity_id"""


def _lose(tables: RunTables, records: str, entities: str) -> str:
    """The parts of a WITH by which entities lose some of their members. The statement that deletes or moves the members
    still sees them: an entity loses a source if all of its members of that source are among them."""
    return f"""parted AS (
            SELECT entity_id, source, count(*) FILTER (WHERE record_id = ANY ({records})) AS leaving, count(*) AS held
            FROM {tables.member} WHERE entity_id = ANY ({entities}) GROUP BY entity_id, source
        ), lost AS (
            SELECT entity_id, sum(leaving) AS records,
                bit_or(CASE WHEN leaving = held THEN 1::bigint << source ELSE 0 END) AS sources
            FROM parted WHERE leaving > 0 GROUP BY entity_id
        ), {lose(tables.membership, "lost")}"""
