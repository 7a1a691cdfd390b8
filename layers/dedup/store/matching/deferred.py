"""Merging deferred uploads into the entities of the active run: those that did not wait for a bulk change."""

from collections.abc import Sequence
from itertools import accumulate

from pg8000.native import Connection

from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE, TRY_ENTITIES_LOCK_SHARED, TRY_MERGE_LOCK_SHARED
from dedup.store.matching import attach
from dedup.store.matching.resolution import resolve_again
from dedup.store.matching.run_tables import RunTables, active_run
from dedup.store.sql import bigints

UPLOADS = 100
"""Deferred uploads that are considered together."""


def merge(connection: Connection) -> bool:
    """Adds the records of some deferred uploads to the active run and applies the decisions about them; whether there
    were any. Does nothing while the locks are not free: the next upload does it."""
    if connection.run(f"SELECT {TRY_MERGE_LOCK_SHARED}") == [[False]]:
        return False
    uploads = _claim_uploads(connection)
    if not uploads:
        return False
    decided = _decided(connection, uploads)
    if decided:
        connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
    elif connection.run(f"SELECT {TRY_ENTITIES_LOCK_SHARED}") == [[False]] or _decided(connection, uploads):
        # Decided in between: the next call takes the exclusive lock.
        return False
    tables = _attach(connection, uploads)
    if tables and decided:
        resolve_again(connection, tables, decided)
    return True


def _claim_uploads(connection: Connection) -> list[int]:
    """Deferred uploads, with about BATCH records in all; nobody else gets them until the end of the transaction."""
    rows = connection.run(
        f"""SELECT p.upload_id, coalesce(u.accepted, 0) FROM deferred_match p LEFT JOIN upload u ON u.id = p.upload_id
            ORDER BY p.upload_id LIMIT {UPLOADS} FOR UPDATE OF p SKIP LOCKED"""
    )
    before = accumulate((accepted for _, accepted in rows), initial=0)
    return [upload for (upload, _), records in zip(rows, before, strict=False) if records < attach.BATCH]


def _attach(connection: Connection, uploads: Sequence[int]) -> RunTables | None:
    """Adds the records of deferred uploads; returns the tables of the active run, if there is one. The caller holds a
    lock on entities."""
    connection.run(f"DELETE FROM deferred_match WHERE upload_id = ANY ({bigints(uploads)})")
    tables = active_run(connection)
    if tables:
        attach.attach_missing(connection, tables, f"r.upload_id = ANY ({bigints(uploads)})")
    return tables


def _decided(connection: Connection, uploads: Sequence[int]) -> list[int]:
    """The records of some uploads that a decision in effect is about."""
    rows = connection.run(
        f"""SELECT id FROM record r WHERE upload_id = ANY ({bigints(uploads)}) AND EXISTS (
                SELECT FROM decision_pair p WHERE r.id IN (p.record_a, p.record_b))"""
    )
    return [record for [record] in rows]
