"""Deleting records, with what is derived from them."""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.change_log import logged
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching import successors
from dedup.store.region_counts import CUSTOMERS, Membership, count_changes, lose, remove_empty


@dataclass(frozen=True)
class Deleted:
    """How many records were deleted, and how many customers lost a source by it."""

    records: int
    customers: int


def delete_records(connection: Connection, leaving: str) -> Deleted:
    """Deletes the records for which `leaving` holds, a condition on the columns of record, also from membership and
    counts; returns how many there were. The caller holds LONG_WRITE_LOCK_SHARED and MERGE_LOCK_EXCLUSIVE.

    One statement for each kind of id, which sees one state: records that an upload adds meanwhile stay, and so does
    what they deferred."""
    # Nobody decides about records that leave.
    connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
    successors.move_decisions(connection, leaving)
    deleted = [_delete(connection, leaving, membership) for membership in CUSTOMERS.memberships]
    remove_empty(connection, CUSTOMERS)
    return Deleted(*map(sum, zip(*deleted, strict=True)))


def _delete(connection: Connection, leaving: str, membership: Membership) -> tuple[int, int]:
    """Deletes those records whose customers have one kind of id; returns how many there were, and how many customers
    lost a source."""
    customer = membership.id
    removed_records = "SELECT 1::bigint << source, 0, -sum(records) FROM leaving GROUP BY source"
    [[records, customers]] = connection.run(
        f"""WITH gone AS (
            DELETE FROM record WHERE ({leaving}) AND {customer} IS NOT NULL RETURNING id, {customer}, source
        ), {logged("deleted", "gone")}, leaving AS MATERIALIZED (
            SELECT {customer}, source, count(*) AS records FROM gone GROUP BY 1, 2
        ), lost AS MATERIALIZED (
            SELECT {customer}, bit_or(1::bigint << source) AS sources FROM leaving AS l WHERE NOT EXISTS (
                SELECT FROM record r
                WHERE r.{customer} = l.{customer} AND r.source = l.source AND NOT ({leaving}))
            GROUP BY {customer}
        ), {lose(membership, "lost")}, masked AS (
            UPDATE deferred_membership AS p SET sources = p.sources & ~lost.sources
            FROM lost WHERE p.{customer} = lost.{customer} AND p.sources & lost.sources <> 0
        ), {count_changes(CUSTOMERS, removed_records)}
        SELECT (SELECT coalesce(sum(records), 0)::bigint FROM leaving), (SELECT count(*) FROM lost)"""
    )
    return records, customers
