"""Upserts: each row of a file replaces the records of the same source and customer, or is added; a row that is marked
as deleted removes them. Of several rows of one customer, one counts: the last with the latest `modified_at`.

The records of these customers are looked up by an index, one customer at a time and in order: the time is linear in the
rows of the file, whatever the planner expects, and does not follow the size of the source. The rest is the work of a
snapshot that has these records only. A customer has one record at most then."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store import snapshots
from dedup.store.region_counts import CUSTOMERS
from dedup.store.sql import bigints
from dedup.store.staging import CUSTOMER, NUMBER, WORD

_ROWS = "upsert_row"
"""A temporary table with the row that counts of each customer in the file."""

_IN_PLACE = "upsert_in_place"
"""A temporary table of what is in place of these customers: their records, and their rows of stated_customer."""

_COLUMNS = snapshots.compared_columns(repeats=True)

_NEWER = "newer_customer"
"""A temporary table with the customers that newer upserts state: number, word (staging.CUSTOMER), source_bit."""


@dataclass(frozen=True)
class Chosen:
    """What an upsert takes into account. `left_out`: how many rows are not, because newer files state their customers,
    or their records were modified later; `remark` says so. `stated`: how many customers are not marked as deleted."""

    left_out: int
    remark: str | None
    stated: int


def choose(connection: Connection, staged: str, source_bit: int, newer: Collection[int]) -> Chosen:
    """Decides which staged rows of a source count, and compares them with the records in place, see
    snapshots.compare(). `newer` are the newer uploads. The caller holds MERGE_LOCK_EXCLUSIVE, and has analysed the
    table."""
    connection.run(
        f"""CREATE TEMP TABLE {_ROWS} ON COMMIT DROP AS
            SELECT DISTINCT ON (number, word) ctid AS staged, customer_id, text_id, modified_at,
                deleted IS TRUE AS deleted, count(*) OVER (PARTITION BY customer_id, text_id) AS rows, {_COLUMNS}
            FROM {staged} ORDER BY number, word, modified_at DESC NULLS LAST, file_order DESC"""
    )
    connection.run(f"ANALYZE {_ROWS}")
    connection.run(f"CREATE TEMP TABLE {_IN_PLACE} ON COMMIT DROP AS {in_place(source_bit)}")
    connection.run(f"ANALYZE {_IN_PLACE}")
    left_out, remark = _leave_out(connection, newer)
    columns = "number, word, digest, name_hash, email_hash"
    rows = f"SELECT staged, {columns} FROM {_ROWS} WHERE NOT deleted"
    records = f"SELECT record_id, {columns} FROM {_IN_PLACE} WHERE record_id IS NOT NULL"
    snapshots.compare(connection, rows, records, repeats=True)
    [[stated]] = connection.run(f"SELECT count(*) FROM {_ROWS} WHERE NOT deleted")
    return Chosen(left_out, remark, stated)


def in_place(source_bit: int) -> str:
    """A query for the table of what is in place of the customers. Rows of stated_customer have no record_id."""
    parts = []
    for membership in CUSTOMERS.memberships:
        customer = membership.id
        for table, chosen in (
            ("record", f"id AS record_id, NULL::tid AS stated, upload_id, modified_at, {_COLUMNS}"),
            (
                "stated_customer",
                f"NULL::bigint AS record_id, ctid AS stated, upload_id, modified_at, {CUSTOMER}, "
                f"NULL::bigint AS digest, NULL::bigint AS name_hash, NULL::bigint AS email_hash",
            ),
        ):
            # OFFSET 0 keeps the planner from any other join, and `+ 0` from the index on sources.
            parts.append(
                f"""SELECT f.* FROM (SELECT {customer} FROM {_ROWS} WHERE {customer} IS NOT NULL) AS s
                    CROSS JOIN LATERAL (
                        SELECT {chosen} FROM {table}
                        WHERE {customer} = s.{customer} AND source + 0 = {source_bit} OFFSET 0) AS f"""
            )
    return " UNION ALL ".join(parts)


def _leave_out(connection: Connection, newer: Collection[int]) -> tuple[int, str | None]:
    """Removes the customers from both tables that a newer file states, or whose record was modified later; returns how
    many rows of the file they have, and why."""
    [[older, upload_id, outdated]] = connection.run(
        f"""WITH held AS MATERIALIZED (
                SELECT number, word, max(upload_id) FILTER (WHERE upload_id = ANY ({bigints(newer)})) AS newer,
                    max(modified_at) AS modified_at
                FROM {_IN_PLACE} GROUP BY number, word
            ), gone AS (
                DELETE FROM {_ROWS} AS s USING held AS h WHERE s.number = h.number AND s.word = h.word
                    AND (h.newer IS NOT NULL OR s.modified_at < h.modified_at)
                RETURNING s.number, s.word, s.rows, h.newer
            ), forgotten AS (
                DELETE FROM {_IN_PLACE} AS p USING gone AS g WHERE p.number = g.number AND p.word = g.word
            )
            SELECT coalesce(sum(rows) FILTER (WHERE newer IS NOT NULL), 0)::bigint, max(newer),
                coalesce(sum(rows) FILTER (WHERE newer IS NULL), 0)::bigint FROM gone"""
    )
    reasons = [remark(upload_id)] if older else []
    if outdated:
        reasons.append(f"The records in place were modified later than {outdated} of the rows")
    left_out = older + outdated
    return left_out, f"{left_out} rows were left out. {'. '.join(reasons)}" if left_out else None


def remark(upload_id: int) -> str:
    """Why rows were left out whose customers are in a newer upload."""
    return f"A newer file states their customers: upload {upload_id}"


def remember_stated(connection: Connection, upload_id: int, source_bit: int) -> None:
    """Stores which customers the upsert states without a record of its own, once snapshots.write() has written what
    choose() compared."""
    connection.run(
        f"""DELETE FROM stated_customer WHERE ctid = ANY (ARRAY(
                SELECT stated FROM {_IN_PLACE} WHERE stated IS NOT NULL))"""
    )
    connection.run(
        f"""INSERT INTO stated_customer (customer_id, text_id, source, upload_id, modified_at)
            SELECT customer_id, text_id, {source_bit}, {upload_id}, modified_at FROM {_ROWS} AS s
            WHERE {snapshots.is_equal("s.staged")} ORDER BY number, word"""
    )


# Older files that are loaded later


def leave_out_stated(connection: Connection, staged: str, upload_id: int) -> tuple[int, int | None]:
    """Deletes the staged rows of customers that newer upserts of their source state, and creates the table of these
    customers; returns how many rows there were, and the latest of these upserts: None, without a table, if there are
    no newer upserts."""
    newer = _newer_upserts(connection, upload_id)
    if not newer:
        return 0, None
    uploads = bigints(newer)
    connection.run(
        f"""CREATE TEMP TABLE {_NEWER} ON COMMIT DROP AS
            SELECT {CUSTOMER}, source AS source_bit FROM record WHERE upload_id = ANY ({uploads})
            UNION SELECT {CUSTOMER}, source FROM stated_customer WHERE upload_id = ANY ({uploads})"""
    )
    # Linear also where the planner takes many records for few.
    connection.run(f"CREATE INDEX ON {_NEWER} (number, word, source_bit)")
    connection.run(f"ANALYZE {_NEWER}")
    connection.run(f"DELETE FROM {staged} WHERE {is_stated_later()}")
    return connection.row_count, max(newer)


def forget_stated(connection: Connection, source_bit: int, upload_id: int) -> None:
    """Deletes what upserts state that are not newer than an upload, a snapshot of the source."""
    newer = bigints(_newer_upserts(connection, upload_id))
    connection.run(f"DELETE FROM stated_customer WHERE source = {source_bit} AND upload_id <> ALL ({newer})")


def is_stated_later() -> str:
    """The condition on the columns of a staged row or a record that its customer is in the table of
    leave_out_stated()."""
    return f"""EXISTS (SELECT FROM {_NEWER} WHERE number = {NUMBER} AND word = {WORD}
        AND source_bit = source)"""


def _newer_upserts(connection: Connection, upload_id: int) -> Sequence[int]:
    rows = connection.run(
        f"""SELECT n.id FROM upload u JOIN upload n ON n.object_at > u.object_at
            WHERE u.id = {upload_id} AND n.mode = 'upsert' AND n.status = 'done'
                AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > n.finished_at)"""
    )
    return [upload for [upload] in rows]
