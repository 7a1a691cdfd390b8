"""What takes records away."""

from pg8000.native import Connection

from dedup.store import decisions, entities
from dedup.store.base import count_changes


def take_out(connection: Connection, leaving: str) -> int:
    """Deletes the records for which `leaving` holds, a condition in SQL on the columns of record, from membership and
    counts too; how many there were. The caller holds WORK_LOCK and MERGE_LOCK.

    One statement, which sees one state: records that an upload adds meanwhile stay, and so does what they made
    pending."""
    entities.detach(connection, leaving)
    moved = decisions.follow(connection, leaving)
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
        ), changed AS (
            UPDATE customer_membership AS m SET previous = m.sources, sources = m.sources & ~lost.sources
            FROM lost WHERE m.customer_id = lost.customer_id RETURNING m.sources, m.previous
        ), masked AS (
            UPDATE deferred_membership AS p SET sources = p.sources & ~lost.sources
            FROM lost WHERE p.customer_id = lost.customer_id AND p.sources & lost.sources <> 0
        ), {count_changes("SELECT 1::bigint << source, 0, -sum(records) FROM leaving GROUP BY source")}
        SELECT coalesce(sum(records), 0)::bigint FROM leaving"""
    )
    connection.run("DELETE FROM customer_membership WHERE sources = 0")
    decisions.hold(connection, moved)
    return int(removed)
