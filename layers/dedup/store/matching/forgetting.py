"""Removing a customer, or everything, from the tables of matching runs."""

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching.run_tables import RunTables, active_run, drop_unneeded
from dedup.store.sql import bigints, text


def forget_customer(connection: Connection, customer_id: CustomerId) -> None:
    """Removes a customer from all runs that have tables, but the active one: the resolver removes the customer there,
    for what follows from the removal needs the values that are removed. The other runs cannot be made active any more.
    Takes ENTITIES_LOCK_EXCLUSIVE."""
    connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
    drop_unneeded(connection)
    # A run that is not done yet reads the change log before it is.
    rows = connection.run("SELECT id FROM match_run, match_state WHERE kept AND id IS DISTINCT FROM active_run")
    for [run] in rows:
        _forget(connection, RunTables(run), f"customer_id = {text(str(customer_id))}")


def forget_missing(connection: Connection, tables: RunTables) -> None:
    """Removes the members whose record is gone from a run that the resolver does not follow any more. The caller holds
    ENTITIES_LOCK_EXCLUSIVE."""
    _forget(connection, tables, f"NOT EXISTS (SELECT FROM record r WHERE r.id = {tables.member}.record_id)")


def _forget(connection: Connection, tables: RunTables, leaving: str) -> None:
    rows = connection.run(f"DELETE FROM {tables.member} WHERE {leaving} RETURNING record_id")
    if not rows:
        return
    gone = bigints(record for [record] in rows)
    pairs = f"record_a = ANY ({gone}) OR record_b = ANY ({gone})"
    connection.run(
        f"""DELETE FROM {tables.edge} WHERE {pairs}; DELETE FROM {tables.review} WHERE {pairs};
            DELETE FROM {tables.decision} WHERE {pairs};
            UPDATE match_run SET incomplete = true WHERE id = {tables.run}"""
    )


def clear(connection: Connection) -> None:
    """Empties the tables of the active run, and drops those of the other runs. The caller holds
    ENTITIES_LOCK_EXCLUSIVE."""
    connection.run("UPDATE match_run SET kept = false WHERE id IS DISTINCT FROM (SELECT active_run FROM match_state)")
    drop_unneeded(connection)
    tables = active_run(connection)
    if tables:
        tables.empty(connection)
