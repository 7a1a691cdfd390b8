"""Decisions: people said that records are the same person, or different ones."""

import json
from collections.abc import Sequence
from typing import Any

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.errors import Conflict
from dedup.store import change_log
from dedup.store.audit import record_action
from dedup.store.connection import Database
from dedup.store.customer_columns import as_text, is_customer
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.matching.run_tables import active_run
from dedup.store.sql import bigints, iso, text
from dedup.store.task_table import below


class Decisions:
    """The decisions of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(self, record_ids: Sequence[int], verdict: str, note: str | None, principal: str) -> dict[str, Any]:
        """Adds a decision about records ("same" or "different"), which the resolver applies; returns it. Raises
        LookupError, which names the records that do not exist."""
        ids = sorted(set(record_ids))

        def work(connection: Connection) -> dict[str, Any]:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            existing = {record for [record] in connection.run(f"SELECT id FROM record WHERE id = ANY ({bigints(ids)})")}
            if missing := [str(record) for record in ids if record not in existing]:
                raise LookupError(f"No such record: {', '.join(missing)}")
            [[decision]] = connection.run(
                f"""INSERT INTO decision (record_ids, customer_ids, verdict, note, decided_by)
                    SELECT {bigints(ids)}, array_agg(DISTINCT {as_text("r")}), {text(verdict)}, {text(note)},
                        {text(principal)} FROM record r WHERE id = ANY ({bigints(ids)}) RETURNING id"""
            )
            connection.run(
                f"""INSERT INTO decision_record (decision_id, record_id, source, customer_id, text_id)
                    SELECT {decision}, id, source, customer_id, text_id FROM record WHERE id = ANY ({bigints(ids)})"""
            )
            set_pairs(connection, [decision])
            record_action(connection, f"decide {verdict}", principal, records=len(ids))
            change_log.append_updated(connection, ids)
            return find(connection, f"id = {decision}", 1)[0]

        return self._database.write(work, repeatable=False)

    def revoke(self, decision: int, principal: str) -> dict[str, Any] | None:
        """Revokes a decision, which the resolver applies; returns the decision, None if it does not exist. Raises
        Conflict if it was revoked before."""

        def work(connection: Connection) -> dict[str, Any] | None:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            found = find(connection, f"id = {decision}", 1)
            if not found:
                return None
            if found[0]["revoked_at"]:
                raise Conflict("The decision was revoked before")
            connection.run(
                f"""UPDATE decision SET revoked_at = clock_timestamp(), revoked_by = {text(principal)}
                    WHERE id = {decision}"""
            )
            connection.run(
                f"""DELETE FROM decision_pair WHERE decision_id = {decision};
                    DELETE FROM decision_record WHERE decision_id = {decision}"""
            )
            record_action(connection, "revoke decision", principal, records=len(found[0]["record_ids"]))
            change_log.append_updated(connection, found[0]["record_ids"])
            return find(connection, f"id = {decision}", 1)[0]

        return self._database.write(work, repeatable=False)

    def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The decisions, also the revoked ones, the newest first, from below id `before`; at most `limit`."""
        return self._database.read(lambda connection: find(connection, below(before), limit))


def find(connection: Connection, condition: str, limit: int) -> list[dict[str, Any]]:
    """The decisions for which a condition holds, the newest first. `applied`: whether the entities of the active run
    respect it; None without one, and for decisions that have no effect."""
    tables = active_run(connection)
    applied = "NULL::boolean"
    if tables:
        applied = f"""(SELECT count(DISTINCT entity_id) = CASE verdict WHEN 'same' THEN 1 ELSE count(*) END
            FROM {tables.member} m WHERE m.record_id = ANY (record_ids) HAVING count(*) > 1)"""
    rows = connection.run(
        f"""SELECT row_to_json(d)::text FROM (
                SELECT id, record_ids, verdict, note, decided_by,
                    {iso("created_at")} AS created_at,
                    {iso("revoked_at")} AS revoked_at, revoked_by,
                    revoked_at IS NULL AND (SELECT count(*) FROM record r WHERE r.id = ANY (record_ids)) < 2 AS dormant,
                    CASE WHEN revoked_at IS NULL THEN {applied} END AS applied
                FROM decision WHERE {condition} ORDER BY id DESC LIMIT {limit}) AS d"""
    )
    return [json.loads(row) for [row] in rows]


def set_pairs(connection: Connection, decisions: Sequence[int]) -> None:
    """Makes the pairs of some decisions those of their current records."""
    chosen = f"decision_id = ANY ({bigints(decisions)})"
    connection.run(f"DELETE FROM decision_pair WHERE {chosen}")
    connection.run(
        f"""WITH one AS (SELECT DISTINCT decision_id, record_id FROM decision_record WHERE {chosen})
            INSERT INTO decision_pair (record_a, record_b, decision_id)
            SELECT a.record_id, b.record_id, decision_id
            FROM one a JOIN one b USING (decision_id) WHERE a.record_id < b.record_id"""
    )


def log_changed(connection: Connection, found: Sequence[int]) -> None:
    """Appends the records of some decisions to the change log, so that the resolver looks at them again."""
    rows = connection.run(f"SELECT record_id FROM decision_record WHERE decision_id = ANY ({bigints(found)})")
    change_log.append_updated(connection, [record for [record] in rows])


def forget_customer(connection: Connection, customer_id: CustomerId) -> None:
    """Removes a customer's records from all decisions, with their notes, and deletes the decisions that are left with
    fewer than two records. The caller holds ENTITIES_LOCK_EXCLUSIVE."""
    customer = text(str(customer_id))
    rows = connection.run(
        f"""WITH gone AS (DELETE FROM decision_record WHERE {is_customer(customer_id)} RETURNING decision_id)
            SELECT decision_id FROM gone UNION SELECT id FROM decision WHERE {customer} = ANY (customer_ids)"""
    )
    if not rows:
        return
    found = [decision for [decision] in rows]
    log_changed(connection, found)
    set_pairs(connection, found)
    connection.run(
        f"""UPDATE decision d SET note = NULL, customer_ids = array_remove(customer_ids, {customer}),
                record_ids = ARRAY(SELECT DISTINCT record_id FROM decision_record WHERE decision_id = d.id ORDER BY 1)
            WHERE id = ANY ({bigints(found)})"""
    )
    connection.run(
        f"""WITH gone AS (
                DELETE FROM decision WHERE id = ANY ({bigints(found)}) AND cardinality(record_ids) < 2 RETURNING id
            ) DELETE FROM decision_record r USING gone WHERE r.decision_id = gone.id"""
    )
