"""What keeps the database in order beside requests: sweep, merge deferred changes, compact, and verify.

After an upload: merge_deferred(), then compact(). The nightly verify(): sweep(), compact(), merge_deferred(), compare
with the records, and correct what differs. Each step is a transaction of its own, and may be repeated at any time.
"""

from dataclasses import dataclass
from math import inf

from pg8000.native import Connection

from dedup.store import change_log
from dedup.store.change_log import Lag
from dedup.store.connection import Database
from dedup.store.locks import TRY_ENTITIES_LOCK_SHARED, TRY_MERGE_LOCK_SHARED, stop_writers
from dedup.store.matching import activation, consistency
from dedup.store.matching.run_tables import active_run, drop_unneeded
from dedup.store.region_counts import (
    CUSTOMERS,
    Membership,
    compact,
    compare_with_records,
    count_changes,
    gain,
    recount,
)
from dedup.store.staging import drop_abandoned

MERGE_ROWS = 10_000
"""Deferred rows that are merged at once: uploads of the same customers wait for so many at most."""

KEPT_RUNS = 5
"""Runs whose tables are kept, the active one among them: those that can be compared."""


@dataclass(frozen=True)
class Verification:
    """What `verify` found: customers, entities of the active run, and regions of both, whose stored values differed
    from those of the records, and mistakes in the change log (change_log.find_errors). They are corrected now.
    `consumers`: how far each consumer of the change log is behind."""

    records: int
    customers: int
    wrong_customers: int
    wrong_regions: int
    entities: int = 0
    wrong_entities: int = 0
    wrong_entity_regions: int = 0
    wrong_changes: int = 0
    consumers: tuple[Lag, ...] = ()

    @property
    def agreed(self) -> bool:
        """Whether membership, counts and the change log were those of the records."""
        wrong = self.wrong_customers + self.wrong_regions + self.wrong_entities + self.wrong_entity_regions
        return wrong + self.wrong_changes == 0


class Maintenance:
    """The maintenance of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sweep(self) -> None:
        """Drops tables that nobody needs: those of abandoned loads, and those of runs that failed or are old. Runs that
        are not active and lack too many changes do not hold the change log any more."""
        self._database.write(drop_abandoned, repeatable=True)
        self._database.write(_drop_old_runs, repeatable=True)

    def merge_deferred(self, batches: float = inf) -> None:
        """Merges deferred changes of membership, MERGE_ROWS at a time; all of them, or so many batches. What another
        connection holds is left to it and to the next upload."""
        while batches > 0 and self._database.write(_merge_membership, repeatable=True):
            batches -= 1

    def compact(self) -> None:
        """Replaces the changes of each region by their sum, for customers and for the entities of the active run, and
        trims the change log."""
        self._database.write(lambda connection: compact(connection, CUSTOMERS), repeatable=True)
        self._database.write(change_log.trim, repeatable=True)
        self._database.write(_compact_entities, repeatable=True)

    def verify(self) -> Verification:
        """Recomputes membership and counts from the records and corrects what differs; returns what was found."""
        self.sweep()
        self.compact()
        self.merge_deferred()
        found = self._database.read(_compare)
        if not found.agreed:
            found = self._database.write(_correct, repeatable=True)
        return found


def _drop_old_runs(connection: Connection) -> None:
    # Otherwise a run that becomes active meanwhile could be taken for an old one.
    if connection.run(f"SELECT {TRY_ENTITIES_LOCK_SHARED}") == [[False]]:
        return
    connection.run(
        f"""UPDATE match_run SET kept = false WHERE kept AND id NOT IN (
                SELECT id FROM match_run WHERE kept ORDER BY finished_at DESC LIMIT {KEPT_RUNS}
            ) AND id <> coalesce((SELECT active_run FROM match_state), 0)"""
    )
    drop_unneeded(connection)
    activation.leave_behind(connection)


def _merge_membership(connection: Connection) -> bool:
    """Whether there may be more."""
    [[free]] = connection.run(f"SELECT {TRY_MERGE_LOCK_SHARED}")
    if not free:
        return False
    merged = [_merge_batch(connection, membership) for membership in CUSTOMERS.memberships]
    return MERGE_ROWS in merged


def _merge_batch(connection: Connection, membership: Membership) -> int:
    """Merges the first deferred rows of customers with one kind of id; returns how many there were."""
    customer = membership.id
    incoming = f"SELECT {customer}, bit_or(sources) AS sources FROM taken WHERE sources <> 0 GROUP BY {customer}"
    [[rows]] = connection.run(
        f"""WITH taken AS (
            DELETE FROM deferred_membership WHERE id = ANY (ARRAY(
                SELECT id FROM deferred_membership WHERE {customer} IS NOT NULL
                ORDER BY id LIMIT {MERGE_ROWS} FOR UPDATE SKIP LOCKED))
            RETURNING {customer}, sources
        ), {gain(membership, incoming)}, {count_changes(CUSTOMERS)} SELECT count(*) FROM taken"""
    )
    return int(rows)


def _compact_entities(connection: Connection) -> None:
    if tables := active_run(connection):
        compact(connection, tables.counted)


def _compare(connection: Connection) -> Verification:
    # Before the transaction's snapshot: one that is older than a TRUNCATE would see no records, but their log.
    connection.run("LOCK TABLE region_change IN ACCESS SHARE MODE")
    records, customers, wrong_customers, wrong_regions = compare_with_records(connection, CUSTOMERS)
    return Verification(
        records,
        customers,
        wrong_customers,
        wrong_regions,
        *consistency.find_errors(connection),
        change_log.find_errors(connection),
        change_log.lags(connection),
    )


def _correct(connection: Connection) -> Verification:
    stop_writers(connection)
    found = _compare(connection)
    connection.run("DELETE FROM deferred_membership")
    recount(connection, CUSTOMERS)
    consistency.correct(connection)
    change_log.correct(connection)
    return found
