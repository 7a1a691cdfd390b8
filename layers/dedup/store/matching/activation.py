"""Bringing the entities of a run up to date with what changed since it read the records, and making a run that is done
the active one."""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.errors import Conflict
from dedup.store.matching import consistency, renewal, resolution
from dedup.store.matching.run_tables import RunTables, active_run
from dedup.store.sql import text

_MAX_TRANSACTION = "15 minutes"
"""The longest transaction: no function runs longer. A timestamp such as finished_at may be written this long before it
is committed and visible."""

MOST_ADDED = 25_000
"""Records that a run may lack to be made active on request, within the time that a request has."""


@dataclass(frozen=True)
class State:
    """A state of the records and decisions: the database's time, and the number of removals before it."""

    at: str
    removals: int


def catch_up(connection: Connection, tables: RunTables, known: State) -> None:
    """Brings the members of a run up to date with the records that were added, changed and removed since a state."""
    since = _since(known)
    [[removals]] = connection.run("SELECT removals FROM match_state")
    consistency.catch_up(connection, tables, since, removed=removals != known.removals)
    changed = connection.run(f"SELECT id FROM record r WHERE {since} AND updated_at IS NOT NULL ORDER BY id")
    renewal.renew(connection, tables, [record for [record] in changed])


def apply_new_decisions(connection: Connection, tables: RunTables, known: State) -> None:
    """Applies what was decided, revoked, or moved to other records since a state. The caller holds
    ENTITIES_LOCK_EXCLUSIVE."""
    rows = connection.run(
        f"""SELECT DISTINCT unnest(record_ids) FROM decision WHERE greatest(created_at, revoked_at, followed_at)
            > {text(known.at)}::timestamptz - interval '{_MAX_TRANSACTION}'"""
    )
    if rows:
        resolution.resolve_again(connection, tables, [record for [record] in rows], active_run(connection))


def caught_up(tables: RunTables) -> str:
    """The changes to the row of a run in the transaction that brought it up to date."""
    return f"""caught_up_at = now(), caught_up_removals = (SELECT removals FROM match_state),
        records = (SELECT count(*) FROM {tables.member}), entities = (SELECT count(*) FROM {tables.membership.table})"""


def lock_inactive(connection: Connection, run: int) -> State | None:
    """Locks the row of a run that can be made active; returns the state with which it was brought up to date last. None
    if it is active. Raises LookupError if it does not exist, and Conflict."""
    rows = connection.run(
        f"""SELECT status, kept, caught_up_at::text, caught_up_removals,
                id = coalesce((SELECT active_run FROM match_state), 0)
            FROM match_run WHERE id = {run} FOR UPDATE"""
    )
    if not rows:
        raise LookupError
    [[status, kept, at, removals, active]] = rows
    if active:
        return None
    if status != "done":
        raise Conflict(f"Run {run} is not done: its status is {status}")
    if not kept:
        raise Conflict(f"The entities of run {run} were deleted: those of the last runs only are kept")
    return State(at, removals)


def require_few_added(connection: Connection, tables: RunTables, known: State) -> None:
    """Raises Conflict if a run lacks so many records that a request has no time to add them."""
    [[lacking]] = connection.run(
        f"""SELECT count(*) FROM (
                SELECT FROM record r WHERE {_since(known)}
                AND NOT EXISTS (SELECT FROM {tables.member} m WHERE m.record_id = r.id) LIMIT {MOST_ADDED + 1}) AS r"""
    )
    if lacking > MOST_ADDED:
        raise Conflict(
            f"More than {MOST_ADDED:,} records were added since run {tables.run}: "
            f'start a run with {{"model_of": {tables.run}}} instead, which uses the same model version'
        )


def _since(known: State) -> str:
    """The condition for the records r of uploads that finished since a state."""
    return f"""r.upload_id = ANY (ARRAY(SELECT u.id FROM upload u WHERE u.status IN ('done', 'deleting')
        AND u.finished_at > {text(known.at)}::timestamptz - interval '{_MAX_TRANSACTION}'))"""
