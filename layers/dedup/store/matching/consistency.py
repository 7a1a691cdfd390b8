"""Whether the entities of the active run agree with the records, and correcting them."""

from pg8000.native import Connection

from dedup.store import change_log
from dedup.store.customer_columns import as_text
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching.run_tables import RunTables, active_run
from dedup.store.region_counts import compare_with_records, recount


def find_errors(connection: Connection) -> tuple[int, int, int]:
    """How many entities the active run has, how many members and entities do not agree with the records, and how many
    region counts are wrong. A record that the resolver still has to look at may differ."""
    tables = active_run(connection)
    if not tables:
        return 0, 0, 0
    _, entities, wrong_entities, wrong_regions = compare_with_records(connection, tables.counted)
    return entities, len(_wrong_members(connection, tables)) + wrong_entities, wrong_regions


def correct(connection: Connection) -> None:
    """Makes counts agree with the members of the active run, and has the resolver look at members that do not agree
    with the records. The caller keeps writers out."""
    tables = active_run(connection, ENTITIES_LOCK_EXCLUSIVE)
    if tables:
        change_log.append_updated(connection, _wrong_members(connection, tables))
        recount(connection, tables.counted)


def _wrong_members(connection: Connection, tables: RunTables) -> list[int]:
    """The records that are no members, or have another source or customer, and the members that are no records."""
    unresolved = f"""SELECT c.records FROM record_change c, change_consumer w
        WHERE w.name = '{tables.consumer}' AND (c.position > w.position OR c.position IS NULL)"""
    rows = connection.run(
        f"""WITH wrong AS (
            SELECT coalesce(r.id, m.record_id) AS id FROM {tables.member} m FULL JOIN record r ON r.id = m.record_id
            WHERE m.record_id IS NULL OR r.id IS NULL OR (m.source, m.customer_id) <> (r.source, {as_text("r")})
        ), unresolved AS MATERIALIZED (SELECT range_agg(records) AS records FROM ({unresolved}) AS u)
        SELECT id FROM wrong, unresolved, change_consumer w
        WHERE w.name = '{tables.consumer}' AND NOT coalesce(unresolved.records @> id, false)
            AND NOT {change_log.is_cleared_after("w.position")} ORDER BY id"""
    )
    return [record for [record] in rows]
