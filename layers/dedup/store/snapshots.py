"""Snapshots: the staged rows of a file are compared with the records of its source, and only the differences are
written. What follows costs as much as there are differences; only the comparison reads all rows and records. Upserts
(upserts.py) compare fewer of them, in the same way.

Rows and records are compared as multisets: by customer and a digest of the content. What differs is paired by customer,
as far as possible: a paired record is changed and keeps its id; the other rows are added, the other records deleted."""

from collections.abc import Collection
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.change_log import logged
from dedup.store.removal import delete_records
from dedup.store.sql import bigints
from dedup.store.staging import CONTENT, CUSTOMER, DIGEST, insert_records

DIFFERENCES = "snapshot_difference"
"""A temporary table with the position of a staged row (ctid), and the record that differs from it: null for a row to be
added. The row is null for a record to be deleted."""

_REMOVED = "snapshot_removed"
"""A temporary table with the records to be deleted."""

PAIRED = "staged IS NOT NULL AND record_id IS NOT NULL"
"""The condition on a difference that the row changes the record."""

_WORK_MEM = "64MB"
"""For sorting and joining: a million rows fit into it."""

_MOST_NAMED = 10_000
"""Records that are named in a statement at most: 80 kB for each time."""

_RANDOM_PAGE_COST = 1.1
"""That of a solid-state drive. With PostgreSQL's default, which is that of a disk, the table of records is read as a
whole to find one per cent of them."""

_PAIRED_BY = ("name_hash", "email_hash")
"""What the record and the row of one customer have in common that are paired first: it matters only if the customer has
several."""


@dataclass(frozen=True)
class Replaced:
    """What a snapshot or an upsert did: the number of records that were added, changed and deleted, and the number of
    customers that the source no longer has."""

    added: int
    changed: int
    removed: int
    customers_removed: int


def write(connection: Connection, staged: str, upload_id: int) -> Replaced:
    """Makes the records that compare() has compared those of the table `staged`; membership and counts still lack the
    rows that are added (added_rows). The caller holds LONG_WRITE_LOCK_SHARED and MERGE_LOCK_EXCLUSIVE."""
    _, changed, removed = count_differences(connection)
    connection.run(f"SET LOCAL random_page_cost = {_RANDOM_PAGE_COST}")
    if changed:
        _change(connection, staged, upload_id)
    added = insert_records(connection, added_rows(staged), upload_id)
    if not (added or removed):
        return Replaced(0, changed, 0, 0)
    # Also if none is deleted: decisions about records that were deleted before move to those that are added.
    deleted = delete_records(connection, _is_removed(connection, removed))
    return Replaced(added, changed, deleted.records, deleted.customers)


def count_differences(connection: Connection) -> tuple[int, int, int]:
    """The number of rows to be added, and of records to be changed and deleted."""
    [[added, changed, removed]] = connection.run(
        f"""SELECT count(*) FILTER (WHERE record_id IS NULL), count(*) FILTER (WHERE {PAIRED}),
            count(*) FILTER (WHERE staged IS NULL) FROM {DIFFERENCES}"""
    )
    return added, changed, removed


def added_rows(staged: str) -> str:
    """The staged rows that were added by write(), for what follows FROM."""
    return f"""(SELECT s.* FROM {DIFFERENCES} d JOIN {staged} s ON s.ctid = d.staged WHERE d.record_id IS NULL) AS s"""


def _is_removed(connection: Connection, removed: int) -> str:
    """The condition on a record that it is one of the `removed` ones.

    Few are named, because the planner overestimates what it costs to look for a record among the results of a query,
    and reads the whole table instead: 0.35 s of a million records. Many are in a table of their own with an index:
    after a VACUUM meanwhile, the planner believes that the tables with the new records are empty, and would read the
    table of differences once for each of them."""
    chosen = f"SELECT record_id FROM {DIFFERENCES} WHERE staged IS NULL"
    if removed <= _MOST_NAMED:
        return f"id = ANY ({bigints(record for [record] in connection.run(chosen))})"
    connection.run(
        f"""CREATE TEMP TABLE {_REMOVED} (record_id bigint PRIMARY KEY) ON COMMIT DROP;
            INSERT INTO {_REMOVED} {chosen}; ANALYZE {_REMOVED}"""
    )
    return f"id IN (SELECT record_id FROM {_REMOVED})"


def is_equal(staged: str) -> str:
    """The condition that compare() found a record which is equal to a staged row (ctid)."""
    return f"NOT EXISTS (SELECT FROM {DIFFERENCES} d WHERE d.staged = {staged})"


def compared_records(source_bit: int, newer: Collection[int], spared: str = "false") -> str:
    """The condition on a record that a snapshot of its source states it or removes it. Records of the `newer` uploads
    are left alone, and those that are `spared`, a condition on the columns of record."""
    stays = f" AND NOT ({spared})" if spared != "false" else ""
    return f"source = {source_bit}{stays}" + (f" AND upload_id <> ALL ({bigints(newer)})" if newer else "")


def compare_source(connection: Connection, staged: str, compared: str, *, repeats: bool) -> None:
    """Compares the table `staged` of a snapshot, which is analysed, and the records that meet the condition `compared`;
    see compare()."""
    connection.run(f"SET LOCAL work_mem = '{_WORK_MEM}'")
    [[any_records]] = connection.run(f"SELECT EXISTS (SELECT FROM record WHERE {compared})")
    if not any_records:
        return add_all(connection, staged)
    columns, of_records = compared_columns("digest", repeats=repeats), compared_columns(repeats=repeats)
    records = f"SELECT id AS record_id, {of_records} FROM record WHERE {compared}"
    return compare(connection, f"SELECT ctid AS staged, {columns} FROM {staged}", records, repeats=repeats)


def compare(connection: Connection, rows: str, records: str, *, repeats: bool) -> None:
    """Creates the table of differences. `rows` and `records` are queries for compared_columns() and `staged` (the
    position of a staged row, ctid) or `record_id`. `repeats`: a customer may have several rows or records. The caller
    holds MERGE_LOCK_EXCLUSIVE."""
    _create_differences(connection, _differences(rows, records, repeats=repeats))


def compared_columns(digest: str = DIGEST, *, repeats: bool) -> str:
    """The columns that are compared: the customer and the content, as two integers (number, digest), which are sorted
    in a third of the time of texts; the customer's id as a text (word); and what is paired first if customers have
    several rows or records."""
    hashed = "hashtextextended({}, 0)" if repeats else "0"
    paired = ", ".join(f"{hashed.format(column.removesuffix('_hash'))} AS {column}" for column in _PAIRED_BY)
    return f"{CUSTOMER}, {digest} AS digest, {paired}"


def add_all(connection: Connection, staged: str) -> None:
    """Creates the table of differences for staged rows that are added, whatever records there are."""
    _create_differences(connection, f"SELECT ctid AS staged, NULL::bigint AS record_id FROM {staged}")


def _create_differences(connection: Connection, query: str) -> None:
    connection.run(f"CREATE TEMP TABLE {DIFFERENCES} ON COMMIT DROP AS {query}")
    connection.run(f"ANALYZE {DIFFERENCES}")


def size_of_source(connection: Connection, source_bit: int) -> tuple[int, int]:
    """The number of records of a source, and of its customers."""
    [[records, customers]] = connection.run(
        f"""SELECT coalesce(sum(records) FILTER (WHERE sources = 1::bigint << {source_bit}), 0)::bigint,
                coalesce(sum(customers) FILTER (WHERE sources & (1::bigint << {source_bit}) <> 0), 0)::bigint
            FROM change_now"""
    )
    return records, customers


def _differences(rows: str, records: str, *, repeats: bool) -> str:
    """A query for the table of differences; see compare(). If no customer has several rows or records, they need not be
    numbered, which takes most of the time.

    Full joins only: they are never carried out as nested loops, whatever the planner expects."""
    steps = ["differing"]
    parts = []
    for column in _PAIRED_BY:
        steps.append(f"by_{column}")
        parts.append(f"{steps[-1]} AS MATERIALIZED ({_paired(steps[-2], column)})")
    paired = " UNION ALL ".join(f"SELECT staged, record_id FROM {step} WHERE {PAIRED}" for step in steps[1:])
    keys = "number, digest"
    if repeats:
        rows, records = _numbered(rows, keys, "staged"), _numbered(records, keys, "record_id")
        keys += ", nth"
    kept = ", ".join(f"coalesce(s.{column}, r.{column}) AS {column}" for column in ("word", *_PAIRED_BY))
    return f"""
        WITH differing AS MATERIALIZED (
            SELECT staged, record_id, number, {kept} FROM ({rows}) AS s FULL JOIN ({records}) AS r USING ({keys})
            WHERE staged IS NULL OR record_id IS NULL
        ), {", ".join(parts)}
        {paired} UNION ALL SELECT staged, record_id FROM ({_paired(steps[-1])}) AS rest"""


def _numbered(query: str, keys: str, order: str) -> str:
    """The rows of a query, numbered (nth) among those with the same keys."""
    return f"SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY {order}) AS nth FROM ({query}) AS q"


def _paired(step: str, *columns: str) -> str:
    """A query for the rows and records that `step` left without a counterpart, of which those of one customer are
    paired that agree in some columns, in their order."""
    keys = ", ".join(("number", "word", *columns))
    kept = ("number", "word", *_PAIRED_BY)
    merged = ", ".join(f"coalesce(s.{c}, r.{c}) AS {c}" for c in kept)
    rows = f"SELECT staged, {', '.join(kept)} FROM {step} WHERE record_id IS NULL"
    records = f"SELECT record_id, {', '.join(kept)} FROM {step} WHERE staged IS NULL"
    return f"""SELECT staged, record_id, {merged} FROM ({_numbered(rows, keys, "staged")}) AS s
        FULL JOIN ({_numbered(records, keys, "record_id")}) AS r USING ({keys}, nth)"""


def _change(connection: Connection, staged: str, upload_id: int) -> None:
    """Changes the records that are paired with a row, in id order."""
    values = ", ".join(f"{column} = s.{column}" for column in CONTENT)
    connection.run(
        f"""WITH changed AS (
            UPDATE record r SET {values}, upload_id = {upload_id}, updated_at = now()
            FROM (
                SELECT d.record_id, s.* FROM {DIFFERENCES} d JOIN {staged} s ON s.ctid = d.staged
                WHERE d.record_id IS NOT NULL ORDER BY d.record_id
            ) AS s WHERE r.id = s.record_id RETURNING r.id
        ), {logged("updated", "changed")} SELECT"""
    )
