"""Removing records from the entities of a run."""

from collections.abc import Iterable, Sequence

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.matching.rules import term_columns
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching import members
from dedup.store.matching.exact_duplicates import is_representative, values_of_customer
from dedup.store.matching.run_tables import RunTables, active_run, all_runs, drop_unneeded, settings_of
from dedup.store.sql import bigints, text, texts

BATCH = 2_000
"""Members up to which each one that leaves is looked up, whatever the size of the run."""

SHARE = 50
"""If at most one member in so many leaves, the values of each are looked up; if more leave, all remaining members are
read once."""


def detach(connection: Connection, leaving: str) -> None:
    """Removes the records for which `leaving` holds, a condition on the columns of record, from the active run. To be
    called before they are deleted; takes ENTITIES_LOCK_EXCLUSIVE, so that no upload comes between."""
    tables = active_run(connection, ENTITIES_LOCK_EXCLUSIVE)
    connection.run("UPDATE match_state SET removals = removals + 1")
    if tables:
        detach_members(connection, tables, f"record_id IN (SELECT id FROM record WHERE {leaving})")


def detach_members(connection: Connection, tables: RunTables, leaving: str) -> None:
    """Removes the members for which a condition holds from a run. If a record of the same source and customer stays in
    the entity, the edges of the one that leaves are reassigned to it, until the next run looks again.

    From here on, the records and their entities are constant arrays, and nothing is joined to them: the time is linear
    whatever the planner knows of the tables, which is little after a large upload or a clear."""
    rows = connection.run(f"SELECT record_id, entity_id FROM {tables.member} WHERE {leaving}")
    if not rows:
        return
    ids = [record for record, _ in rows]
    gone, entities = bigints(ids), bigints({entity for _, entity in rows})
    [[known]] = connection.run(f"SELECT reltuples::bigint FROM pg_class WHERE oid = '{tables.member}'::regclass")
    few = len(ids) <= max(BATCH, known // SHARE)
    fields = term_columns(settings_of(connection, tables))
    _reassign(connection, tables, ids, entities)
    if fields and few:
        _remove_terms(connection, tables, gone, fields)
    for pairs in (tables.edge, tables.review):
        for side in ("record_a", "record_b"):
            connection.run(f"DELETE FROM {pairs} WHERE {side} = ANY ({gone})")
    members.delete(connection, tables, gone, entities)
    if fields and not few:
        _remove_unused_terms(connection, tables, fields)


def _reassign(connection: Connection, tables: RunTables, ids: Sequence[int], entities: str) -> None:
    """Reassigns the edges and review pairs of members that leave to members that stay: to the first exact duplicate, or
    to another record of the same source and customer. `entities`: those of the members that leave, as an array."""
    gone = bigints(ids)
    # First the far end of each edge, then the near one: otherwise the planner, which expects few of both, compares all
    # pairs of members before it reads an edge.
    found = connection.run(
        f"""WITH near AS MATERIALIZED (
                SELECT e.record_a AS gone, m.*, {is_representative("m")} AS representative
                FROM {tables.edge} e JOIN {tables.member} m ON m.record_id = e.record_b
                WHERE e.record_a = ANY ({gone}) AND e.record_b <> ALL ({gone})
            )
            SELECT near.gone, min(near.record_id) FROM near
            JOIN {tables.member} g ON g.record_id = near.gone
            WHERE NOT near.representative OR {values_of_customer("near")} IS NOT DISTINCT FROM {values_of_customer("g")}
            GROUP BY near.gone"""
    )
    duplicate = dict(found)
    members.give_values(connection, tables, {first: record for record, first in duplicate.items()})
    successors = dict(connection.run(_others_of(tables, gone, entities))) | duplicate
    if not successors:
        return
    successor = f"unnest({bigints(successors)}, {bigints(successors.values())}) AS t (record_id, successor)"
    for pairs in (tables.edge, tables.review):
        connection.run(
            f"""WITH s AS MATERIALIZED (SELECT * FROM {successor}), moved AS (
                SELECT e.ctid AS row, coalesce(a.successor, e.record_a) AS one,
                    coalesce(b.successor, e.record_b) AS other
                FROM {pairs} e LEFT JOIN s a ON a.record_id = e.record_a LEFT JOIN s b ON b.record_id = e.record_b
                WHERE e.record_a = ANY ({gone}) OR e.record_b = ANY ({gone})
            )
            UPDATE {pairs} e SET record_a = least(one, other), record_b = greatest(one, other)
            FROM moved WHERE e.ctid = moved.row AND one <> other"""
        )


def _others_of(tables: RunTables, gone: str, entities: str) -> str:
    """A query for the first representative that stays in the same entity, of the same source and customer, for each
    member that leaves: record_id, other.

    It goes through the entities once, in order. To join the table with itself takes the square of the time: the planner
    expects one row for three columns together, and compares each member that leaves with each that stays."""
    return f"""
        WITH inside AS (
            SELECT record_id, entity_id, source, customer_id, {is_representative("m")} AS representative,
                record_id = ANY ({gone}) AS leaves
            FROM {tables.member} m WHERE entity_id = ANY ({entities}) OFFSET 0
        ), with_other AS (
            SELECT record_id, leaves, min(record_id) FILTER (WHERE NOT leaves AND representative)
                OVER (PARTITION BY entity_id, source, customer_id) AS other
            FROM inside
        )
        SELECT record_id, other FROM with_other WHERE leaves AND other IS NOT NULL"""


def _values_of(members: str, fields: Iterable[str]) -> str:
    """A query for the values in each field of some members: field, value, and how many have it (n)."""
    return " UNION ALL ".join(
        f"""SELECT {text(field)} AS field, {field} AS value, count(*) AS n FROM {members} WHERE {field} IS NOT NULL
            GROUP BY {field}"""
        for field in fields
    )


def _remove_terms(connection: Connection, tables: RunTables, gone: str, fields: Sequence[str]) -> None:
    """Removes the terms of members that are about to leave, if no others have them. Other terms keep their counts:
    they are part of the model version."""
    lone = " UNION ALL ".join(
        f"""SELECT t.ctid FROM ({_values_of("gone", [field])}) AS v
            JOIN {tables.term} t ON t.field = v.field AND t.value = v.value
            WHERE v.n + 1 > (SELECT count(*) FROM (
                SELECT FROM {tables.member} m WHERE m.{field} = t.value AND {is_representative("m")}
                LIMIT v.n + 1) AS m)"""
        for field in fields
    )
    connection.run(
        f"""WITH gone AS MATERIALIZED (
            SELECT {", ".join(fields)} FROM {tables.member} WHERE record_id = ANY ({gone})
        ) DELETE FROM {tables.term} WHERE ctid IN ({lone})"""
    )


def _remove_unused_terms(connection: Connection, tables: RunTables, fields: Sequence[str]) -> None:
    """Removes the terms that no member has. For when many have left: to look up the values of each takes longer than to
    read all members."""
    held = " UNION ALL ".join(
        f"SELECT DISTINCT {text(field)} AS field, {field} AS value FROM {tables.member}" for field in fields
    )
    connection.run(
        f"""DELETE FROM {tables.term} t WHERE value IS NOT NULL
            AND NOT EXISTS (SELECT FROM ({held}) AS h WHERE h.field = t.field AND h.value = t.value)"""
    )


def remove_unused_terms(connection: Connection, tables: RunTables, field: str, values: Sequence[str]) -> None:
    """Removes the terms for some values of a field that no member has."""
    connection.run(
        f"""DELETE FROM {tables.term} t WHERE t.field = {text(field)} AND t.value = ANY ({texts(values)})
            AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.{field} = t.value AND {is_representative("m")})"""
    )


def forget_customer(connection: Connection, customer_id: CustomerId) -> None:
    """Removes a customer from all runs that have tables, also members whose record was deleted before. To be called
    before the records are deleted; takes ENTITIES_LOCK_EXCLUSIVE."""
    connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
    drop_unneeded(connection)
    for tables in all_runs(connection):
        detach_members(connection, tables, f"customer_id = {text(str(customer_id))}")


def clear(connection: Connection) -> None:
    """Removes all records from the active run, and drops the tables of the other runs. Of its term frequencies, those
    without a value stay."""
    tables = active_run(connection, ENTITIES_LOCK_EXCLUSIVE)
    connection.run("DELETE FROM deferred_match")
    connection.run("UPDATE match_state SET removals = removals + 1")
    connection.run("UPDATE match_run SET kept = false WHERE id IS DISTINCT FROM (SELECT active_run FROM match_state)")
    drop_unneeded(connection)
    if tables:
        fields = texts(term_columns(settings_of(connection, tables)))
        totals = connection.run(
            f"SELECT field, records FROM {tables.term} WHERE field = ANY ({fields}) AND value IS NULL"
        )
        connection.run(f"TRUNCATE {', '.join(tables.all)}")
        if totals:
            rows = ", ".join(f"({text(field)}, {records})" for field, records in totals)
            connection.run(f"INSERT INTO {tables.term} (field, records) VALUES {rows}")
