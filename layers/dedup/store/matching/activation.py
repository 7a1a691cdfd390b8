"""Making a run that is done the active one."""

from pg8000.native import Connection

from dedup.errors import Conflict
from dedup.store import change_log
from dedup.store.matching.forgetting import forget_missing
from dedup.store.matching.run_tables import RunTables, active_run

MOST_UNRESOLVED = 25_000
"""Changed records that a run may lack to be made active on request: answers by entity lack them until the resolver has
caught up. If it lacks more, it does not follow the change log any more: nothing would be trimmed."""


def activate(connection: Connection, run: int) -> None:
    """Makes a run the active one. The caller holds ENTITIES_LOCK_EXCLUSIVE."""
    former = active_run(connection)
    connection.run(f"UPDATE match_state SET active_run = {run}")
    if former:
        # What it had not read of the change log, nobody reads any more.
        forget_missing(connection, former)


def keep_ids(connection: Connection, tables: RunTables) -> None:
    """Gives entities that are new in a run the ids that they have in the active run, if it resolved their records while
    the run worked: by the rule of jobs.matching.clustering.create_entities, as far as the run has not given the ids to
    others. The caller holds ENTITIES_LOCK_EXCLUSIVE."""
    active = active_run(connection)
    if not active:
        return
    new, old = tables.membership.table, active.membership.table
    connection.run(
        f"""CREATE TEMP TABLE kept_id ON COMMIT DROP AS
            WITH free AS MATERIALIZED (SELECT entity_id FROM {old} EXCEPT SELECT entity_id FROM {new}),
            shared AS (
                SELECT n.entity_id, o.entity_id AS id, count(*) AS records, min(n.record_id) AS oldest
                FROM free JOIN {active.member} o USING (entity_id) JOIN {tables.member} n ON n.record_id = o.record_id
                GROUP BY 1, 2
            ), heir AS (SELECT DISTINCT ON (id) * FROM shared ORDER BY id, records DESC, oldest)
            SELECT DISTINCT ON (entity_id) entity_id, id FROM heir
            WHERE NOT EXISTS (SELECT FROM {old} o WHERE o.entity_id = heir.entity_id)
            ORDER BY entity_id, records DESC, id"""
    )
    for table in (tables.member, new):
        connection.run(f"UPDATE {table} t SET entity_id = k.id FROM kept_id k WHERE t.entity_id = k.entity_id")


def leave_behind(connection: Connection) -> None:
    """Forgets how far those runs have read the change log that lack too much to be made active."""
    connection.run(
        f"""DELETE FROM change_consumer w USING match_run r, match_state
            WHERE w.name = 'run-' || r.id AND r.status = 'done' AND r.id IS DISTINCT FROM active_run
                AND {change_log.records_behind("w")} > {MOST_UNRESOLVED}"""
    )


def lock_inactive(connection: Connection, run: int) -> bool:
    """Locks the row of a run that can be made active. False if it is active. Raises LookupError if it does not exist,
    and Conflict."""
    rows = connection.run(
        f"""SELECT status, kept, incomplete, id = coalesce((SELECT active_run FROM match_state), 0)
            FROM match_run WHERE id = {run} FOR UPDATE"""
    )
    if not rows:
        raise LookupError
    [[status, kept, incomplete, active]] = rows
    if active:
        return False
    if status != "done":
        raise Conflict(f"Run {run} is not done: its status is {status}")
    if not kept:
        raise Conflict(f"The entities of run {run} were deleted: those of the last runs only are kept")
    if incomplete:
        raise Conflict(f"Records were removed from the entities of run {run}: {_instead(run)}")
    _require_few_unresolved(connection, RunTables(run))
    return True


def _require_few_unresolved(connection: Connection, tables: RunTables) -> None:
    lags = [lag.records for lag in change_log.lags(connection) if lag.consumer == tables.consumer]
    if not lags or lags[0] > MOST_UNRESOLVED:
        raise Conflict(
            f"More than {MOST_UNRESOLVED:,} records were changed since run {tables.run}: {_instead(tables.run)}"
        )


def _instead(run: int) -> str:
    return f'start a run with {{"model_of": {run}}} instead, which uses the same model version'
