"""The advisory locks and the order in which they are taken. Whoever waits in one order can't deadlock:

    LONG_WRITE_LOCK → the row of an upload → MERGE_LOCK → ENTITIES_LOCK → the row of a run → ERASURE_LOCK
        → rows of erasure → CHANGE_LOG_LOCK

All are released at the end of the transaction. SCHEMA_LOCK is taken in transactions of its own. Rows of membership are
locked in the order of ids (region_counts.gain); tables are locked in the order in which records.clear() truncates them.
"""

from pg8000.native import Connection

LONG_WRITE_LOCK_SHARED = "pg_advisory_xact_lock_shared(7236838)"
"""Shared by operations that may take long: file loads (from before they store records) and deletions."""

_LONG_WRITE_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236838)"

MERGE_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236836)"
"""Exclusive lock for bulk changes of membership and for deletions."""

MERGE_LOCK_SHARED = "pg_advisory_xact_lock_shared(7236836)"
"""Shared by uploads through the API."""

TRY_MERGE_LOCK_SHARED = "pg_try_advisory_xact_lock_shared(7236836)"
"""Non-blocking; the change is deferred if the lock is not free."""

SCHEMA_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236837)"
"""One migration, or one registration of sources, at a time."""

ENTITIES_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236839)"
"""For whoever activates a run, writes what was resolved, records a decision, deletes records, or removes a customer
from runs."""

TRY_ENTITIES_LOCK_SHARED = "pg_try_advisory_xact_lock_shared(7236839)"
"""Non-blocking, for whoever drops the tables of runs."""

ERASURE_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236840)"
"""For an erasure that starts."""

ERASURE_LOCK_SHARED = "pg_advisory_xact_lock_shared(7236840)"
"""For uploads that finish, so that either the upload sees the erasure or the erasure sees its rejected rows."""

CHANGE_LOG_LOCK_EXCLUSIVE = "pg_advisory_xact_lock(7236841)"
"""For whoever numbers, trims or corrects entries of the change log, or registers a consumer. Writers don't take it."""

TRY_CHANGE_LOG_LOCK_EXCLUSIVE = "pg_try_advisory_xact_lock(7236841)"
"""Non-blocking form of CHANGE_LOG_LOCK_EXCLUSIVE."""


def stop_writers(connection: Connection) -> None:
    """Waits until nobody adds or deletes records, and keeps writers out until the end of the transaction. Readers
    continue."""
    connection.run(f"SELECT {_LONG_WRITE_LOCK_EXCLUSIVE}")
    # Every upload locks this table first. Short writers finish while others queue up; long ones have finished.
    connection.run("LOCK TABLE upload IN SHARE ROW EXCLUSIVE MODE")
    connection.run(f"SELECT {MERGE_LOCK_EXCLUSIVE}")
    connection.run("LOCK TABLE region_change IN SHARE ROW EXCLUSIVE MODE")
