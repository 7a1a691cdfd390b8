"""One rule for tasks of every kind that can't continue without a message: it is sent again, or the task is ended.

The row of a task, written in the transaction that creates it, is the outbox of its messages. A message may be lost, or
come twice: whoever receives it claims the task first."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pg8000.native import Connection

from dedup.store import erasures, exports, jobs, uploads
from dedup.store.connection import Database
from dedup.store.matching import runs
from dedup.store.sql import bigints
from dedup.store.task_table import Outbox

KINDS: Sequence[Outbox] = (
    exports.OUTBOX,
    runs.OUTBOX,
    jobs.OUTBOX,
    uploads.LOADS,
    uploads.DELETIONS,
    erasures.OUTBOX,
)
"""Every kind of task."""

SENDS = 4
"""Messages that are sent for a task that nobody claims, including the first."""

_BY_KIND = {outbox.kind: outbox for outbox in KINDS}


class Task(NamedTuple):
    """One task: its kind, which is what messages call it, and its id among those of its kind."""

    kind: str
    id: int


class Tasks:
    """The tasks of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, patience: float, limit: int) -> list[Task]:
        """The tasks that need a message, at most `limit` of each kind. They are recorded as sent.

        A task needs a message if its queue did not accept the first, or if the last one was sent or received more than
        `patience` seconds ago. The patience doubles with each message that is sent without the task being claimed."""

        def condition(outbox: Outbox) -> str:
            return f"""{outbox.waits} AND {outbox.may}
                AND (enqueued_at IS NULL OR sends < {SENDS} AND {_late(patience)})"""

        changes = "enqueued_at = now(), sends = sends + (enqueued_at IS NOT NULL)::int"
        return self._change_tasks(lambda outbox: changes, condition, limit)

    def end_overdue(self, patience: float, limit: int) -> list[Task]:
        """Ends tasks that have no attempt left, or for which SENDS messages were sent and none was received, at most
        `limit` of each kind, with the reason; returns them."""

        def overdue(outbox: Outbox) -> str:
            late = _late(patience)
            return f"""({outbox.over} OR {outbox.waits}
                AND (sends >= {SENDS} AND {late} OR NOT {outbox.may} AND coalesce({late}, true)))"""

        return self._change_tasks(lambda outbox: outbox.end, overdue, limit)

    def not_enqueued(self, tasks: Iterable[Task]) -> None:
        """Records that the queue did not accept the messages of these tasks: they are due at once."""
        ids: dict[str, list[int]] = {}
        for task in tasks:
            ids.setdefault(task.kind, []).append(task.id)

        def work(connection: Connection) -> None:
            for kind, those in ids.items():
                table = _BY_KIND[kind].table
                connection.run(f"UPDATE {table} SET enqueued_at = NULL WHERE id = ANY ({bigints(those)})")

        if ids:
            self._database.write(work, repeatable=True)

    def queues_lost(self, *, workers: bool) -> None:
        """Records that the queues are empty, so that every waiting task is due at once. `workers`: the workers are gone
        as well, whatever their leases say."""
        # A task without a lease runs in an external system.
        lease = ", lease_until = CASE WHEN lease_until > now() THEN now() ELSE lease_until END" if workers else ""

        def work(connection: Connection) -> None:
            for table, condition in {outbox.table: outbox.open for outbox in KINDS}.items():
                connection.run(
                    f"""UPDATE {table} SET enqueued_at = NULL, sends = 1{lease} WHERE id = ANY (ARRAY(
                        SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED))"""
                )

        self._database.write(work, repeatable=True)

    def _change_tasks(
        self, changes: Callable[[Outbox], str], condition: Callable[[Outbox], str], limit: int
    ) -> list[Task]:
        """One statement for all kinds. A row that is locked is being worked on."""
        changed = ", ".join(
            f"""of_{outbox.kind} AS (
                UPDATE {outbox.table} SET {changes(outbox)} WHERE id = ANY (ARRAY(
                    SELECT id FROM {outbox.table} WHERE {outbox.open} AND {condition(outbox)}
                    ORDER BY id LIMIT {limit} FOR UPDATE SKIP LOCKED))
                RETURNING id)"""
            for outbox in KINDS
        )
        found = " UNION ALL ".join(f"SELECT '{outbox.kind}', id FROM of_{outbox.kind}" for outbox in KINDS)
        rows = self._database.write(
            lambda connection: connection.run(f"WITH {changed} {found} ORDER BY 1, 2"), repeatable=True
        )
        return [Task(kind, task_id) for kind, task_id in rows]


def _late(patience: float) -> str:
    return f"enqueued_at < now() - {patience} * interval '1 s' * 2 ^ (sends - 1)"
