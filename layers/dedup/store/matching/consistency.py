"""Whether the entities of the active run agree with the records, and correcting them."""

from pg8000.native import Connection

from dedup.store.customer_columns import as_text
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching import attach, detach, members
from dedup.store.matching.run_tables import RunTables, active_run
from dedup.store.region_counts import compare_with_records, recount
from dedup.store.sql import bigints

_WRONG_IDENTITY = f"(m.source, m.customer_id) <> (r.source, {as_text('r')})"
"""The condition that a member m has another source or customer than its record r."""


def find_errors(connection: Connection) -> tuple[int, int, int]:
    """How many entities the active run has, how many members and entities do not agree with the records, and how many
    region counts are wrong."""
    tables = active_run(connection)
    if not tables:
        return 0, 0, 0
    _, entities, wrong_entities, wrong_regions = compare_with_records(connection, tables.counted)
    [[wrong_members]] = connection.run(
        f"""SELECT count(*) FROM {tables.member} m FULL JOIN record r ON r.id = m.record_id
            WHERE r.id IS NULL OR {_WRONG_IDENTITY}
                OR m.record_id IS NULL AND r.upload_id NOT IN (SELECT upload_id FROM deferred_match)"""
    )
    return entities, wrong_members + wrong_entities, wrong_regions


def correct(connection: Connection) -> None:
    """Makes the active run agree with the records. The caller keeps writers out."""
    tables = active_run(connection, ENTITIES_LOCK_EXCLUSIVE)
    if tables:
        _correct_identities(connection, tables)
        catch_up(connection, tables, "true", removed=True)
        recount(connection, tables.counted)


def catch_up(connection: Connection, tables: RunTables, records: str, *, removed: bool) -> None:
    """Adds the records that are not members yet, of those r that meet a condition; and, if records were removed,
    removes the members whose record is gone."""
    attach.attach_missing(connection, tables, records, active_run(connection))
    if removed:
        missing = f"NOT EXISTS (SELECT FROM record r WHERE r.id = {tables.member}.record_id)"
        detach.detach_members(connection, tables, missing)


def _correct_identities(connection: Connection, tables: RunTables) -> None:
    """Gives members the source and customer of their records. They stay in their entities until the next run looks
    again. Exact duplicates get values of their own, because their representative may be another customer's."""
    rows = connection.run(
        f"SELECT m.record_id FROM {tables.member} m JOIN record r ON r.id = m.record_id WHERE {_WRONG_IDENTITY}"
    )
    if not rows:
        return
    ids = [record for [record] in rows]
    members.give_values(connection, tables, members.representatives_of(connection, tables, ids))
    connection.run(
        f"""UPDATE {tables.member} m SET source = r.source, customer_id = {as_text("r")} FROM record r
            WHERE r.id = m.record_id AND m.record_id = ANY ({bigints(ids)})"""
    )
