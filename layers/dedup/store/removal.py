"""Deleting records, with what is derived from them."""

from pg8000.native import Connection

from dedup.store.matching import decisions, detach, successors
from dedup.store.region_counts import CUSTOMERS, count_changes, lose, remove_empty


def delete_records(connection: Connection, leaving: str) -> int:
    """Deletes the records for which `leaving` holds, a condition on the columns of record, also from membership and
    counts; returns how many there were. The caller holds LONG_WRITE_LOCK_SHARED and MERGE_LOCK_EXCLUSIVE.

    One statement, which sees one state: records that an upload adds meanwhile stay, and so does what they deferred."""
    detach.detach(connection, leaving)
    moved = successors.move_decisions(connection, leaving)
    removed_records = "SELECT 1::bigint << source, 0, -sum(records) FROM leaving GROUP BY source"
    [[removed]] = connection.run(
        f"""WITH gone AS (
            DELETE FROM record WHERE {leaving} RETURNING customer_id, source
        ), leaving AS MATERIALIZED (
            SELECT customer_id, source, count(*) AS records FROM gone GROUP BY 1, 2
        ), lost AS MATERIALIZED (
            SELECT customer_id, bit_or(1::bigint << source) AS sources FROM leaving AS l WHERE NOT EXISTS (
                SELECT FROM record r
                WHERE r.customer_id = l.customer_id AND r.source = l.source AND NOT ({leaving}))
            GROUP BY customer_id
        ), {lose(CUSTOMERS, "lost")}, masked AS (
            UPDATE deferred_membership AS p SET sources = p.sources & ~lost.sources
            FROM lost WHERE p.customer_id = lost.customer_id AND p.sources & lost.sources <> 0
        ), {count_changes(CUSTOMERS, removed_records)}
        SELECT coalesce(sum(records), 0)::bigint FROM leaving"""
    )
    remove_empty(connection, CUSTOMERS)
    decisions.apply(connection, moved)
    return int(removed)
