"""Snapshots: the staged rows of a file are compared with the records of its source, and only the differences are
written. What follows costs as much as there are differences; only the comparison reads all rows and records.

Rows and records are compared as multisets: by customer and a digest of the content. What differs is paired by customer,
as far as possible: a paired record is changed and keeps its id; the other rows are added, the other records deleted."""

from collections.abc import Collection
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.change_log import logged
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching import attach, renewal
from dedup.store.matching.run_tables import active_run
from dedup.store.record_columns import TYPES
from dedup.store.removal import delete_records
from dedup.store.sql import bigints
from dedup.store.staging import CONTENT, insert_records

DIFFERENCES = "snapshot_difference"
"""A temporary table with the position of a staged row (ctid), and the record that differs from it: null for a row to be
added. The row is null for a record to be deleted."""

PAIRED = "staged IS NOT NULL AND record_id IS NOT NULL"
"""The condition on a difference that the row changes the record."""

HASHED_CONTENT = ", ".join(f"{column}::text" if TYPES.get(column) == "json" else column for column in CONTENT)
"""The content of a staged row or a record, as columns that can be hashed."""

_KEYS = f"""coalesce(customer_id, hashtextextended(text_id, 1)) AS number,
    hash_record_extended(ROW(text_id, {HASHED_CONTENT}), 0) AS digest"""
"""What is compared: the customer and the content, as two integers, which are sorted in a third of the time of texts. A
digest has 64 bits: one change in 2^64 is overlooked."""

_WORK_MEM = "64MB"
"""For sorting and joining: a million rows fit into it."""

_PAIRED_BY = ("name_hash", "email_hash")
"""What the record and the row of one customer have in common that are paired first: it matters only if the customer has
several."""


@dataclass(frozen=True)
class Replaced:
    """What a snapshot did: the number of records that were added, changed and deleted, and the number of customers that
    the source no longer has."""

    added: int
    changed: int
    removed: int
    customers_removed: int


def replace(connection: Connection, staged: str, upload_id: int) -> Replaced:
    """Makes the records of a source those of the table `staged`, which compare() has compared with them, also in the
    active run; membership and counts still lack the rows that are added (added_rows). The caller holds
    LONG_WRITE_LOCK_SHARED and MERGE_LOCK_EXCLUSIVE."""
    _, changed, removed = count_differences(connection)
    if changed:
        _change(connection, staged, upload_id)
    [[last]] = connection.run("SELECT coalesce(max(id), 0) FROM record")
    added = insert_records(connection, added_rows(staged), upload_id)
    if added or changed:
        tables = active_run(connection, ENTITIES_LOCK_EXCLUSIVE)
        if tables:
            # Before others are deleted: records of the same person keep their entity.
            attach.attach_records(connection, tables, f"r.upload_id = {upload_id} AND r.id > {last}")
            renewal.renew(connection, tables, _changed_records(connection))
    if not (added or removed):
        return Replaced(0, changed, 0, 0)
    # Also if none is deleted: decisions about records that were deleted before move to those that are added.
    deleted = delete_records(connection, f"id IN (SELECT record_id FROM {DIFFERENCES} WHERE staged IS NULL)")
    return Replaced(added, changed, deleted.records, deleted.customers)


def count_differences(connection: Connection) -> tuple[int, int, int]:
    """The number of rows to be added, and of records to be changed and deleted."""
    [[added, changed, removed]] = connection.run(
        f"""SELECT count(*) FILTER (WHERE record_id IS NULL), count(*) FILTER (WHERE {PAIRED}),
            count(*) FILTER (WHERE staged IS NULL) FROM {DIFFERENCES}"""
    )
    return added, changed, removed


def added_rows(staged: str) -> str:
    """The staged rows that were added by replace(), for what follows FROM."""
    return f"""(SELECT s.* FROM {DIFFERENCES} d JOIN {staged} s ON s.ctid = d.staged WHERE d.record_id IS NULL) AS s"""


def _changed_records(connection: Connection) -> list[int]:
    rows = connection.run(f"SELECT record_id FROM {DIFFERENCES} WHERE {PAIRED} ORDER BY record_id")
    return [record for [record] in rows]


def compared_records(source_bit: int, newer: Collection[int]) -> str:
    """The condition on a record that a snapshot of its source states it or removes it. Records of the `newer` uploads
    are left alone."""
    return f"source = {source_bit}" + (f" AND upload_id <> ALL ({bigints(newer)})" if newer else "")


def compare(connection: Connection, staged: str, compared: str, *, repeats: bool) -> None:
    """Creates the table of differences between the table `staged`, which is analysed, and the records that meet the
    condition `compared`. `repeats`: a customer may have several rows or records. The caller holds
    MERGE_LOCK_EXCLUSIVE."""
    connection.run(f"SET LOCAL work_mem = '{_WORK_MEM}'")
    [[any_records]] = connection.run(f"SELECT EXISTS (SELECT FROM record WHERE {compared})")
    query = _differences(staged, compared, repeats=repeats) if any_records else _all_added(staged)
    _create_differences(connection, query)


def add_all(connection: Connection, staged: str) -> None:
    """Creates the table of differences for staged rows that are added, whatever records there are."""
    _create_differences(connection, _all_added(staged))


def _all_added(staged: str) -> str:
    return f"SELECT ctid AS staged, NULL::bigint AS record_id FROM {staged}"


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


def _differences(staged: str, compared: str, *, repeats: bool) -> str:
    """A query for the table of differences. `compared`: a condition on the columns of record; `repeats`: a customer may
    have several rows or records. Otherwise they need not be numbered, which takes most of the time.

    Full joins only: they are never carried out as nested loops, whatever the planner expects."""
    steps = ["differing"]
    parts = []
    for column in _PAIRED_BY:
        steps.append(f"by_{column}")
        parts.append(f"{steps[-1]} AS MATERIALIZED ({_paired(steps[-2], column)})")
    paired = " UNION ALL ".join(f"SELECT staged, record_id FROM {step} WHERE {PAIRED}" for step in steps[1:])
    hashed = "hashtextextended({}, 0)" if repeats else "0"
    columns = f"{_KEYS}, coalesce(text_id, '') AS word, " + ", ".join(
        f"{hashed.format(column.removesuffix('_hash'))} AS {column}" for column in _PAIRED_BY
    )
    rows = f"SELECT ctid AS staged, {columns} FROM {staged}"
    records = f"SELECT id AS record_id, {columns} FROM record WHERE {compared}"
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
