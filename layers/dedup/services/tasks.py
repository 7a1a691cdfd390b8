"""Sends the messages of tasks: the first one when a task is created, and further ones by the sweeper if it was lost.

The row of a task is the outbox of its messages; see dedup.store.task_outbox."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger

from dedup.aws import queues
from dedup.errors import Unavailable
from dedup.settings import SERVICE, settings
from dedup.store import Store
from dedup.store.task_outbox import Task

PATIENCE = 7_200.0
"""Seconds after which a message counts as lost: longer than any queue takes to deliver a failed message again."""

AT_ONCE = 100
"""Most tasks of each kind that one sweep handles. The next sweep handles the others."""

QUEUES: Mapping[str, str] = {
    "export": "export_queue",
    "run": "match_queue",
    "job": "job_queue",
    "upload": "files_queue",
    "delete_upload": "files_queue",
    "erasure": "files_queue",
}
"""The setting that has the queue's URL, by kind of task."""

logger = Logger(service=SERVICE, child=True)


@dataclass(frozen=True)
class Swept:
    """The result of a sweep: tasks whose message was sent again, and tasks that were ended because they cannot
    continue."""

    enqueued: Sequence[Task]
    ended: Sequence[Task]


def enqueue_created(kind: str, created: tuple[int, str], store: Store) -> dict[str, Any]:
    """Enqueues a task that was created, if it is waiting. `created` is its id and status; returns both for the API's
    response."""
    task_id, status = created
    if status == "waiting":
        enqueue(Task(kind, task_id), store)
    return {"id": task_id, "status": status}


def enqueue(task: Task, store: Store, delay: int = 0) -> None:
    """Sends the message of a task, for delivery after `delay` seconds. If the queue is not available, the sweeper sends
    the message later: the task is stored already."""
    try:
        _send(task, delay)
    except Unavailable:
        logger.warning(
            "The queue is not available: the sweeper will send the message", extra={"task": task.kind, "id": task.id}
        )
        # Without this, the sweeper would wait for PATIENCE.
        with suppress(Unavailable):
            store.tasks.not_enqueued([task])


def sweep(store: Store, patience: float = PATIENCE) -> Swept:
    """Sends lost messages again, and ends tasks that cannot continue. Sweeps may run concurrently. Raises Unavailable
    if the database or a queue is not available; the next sweep sends the remaining messages."""
    ended = store.tasks.end_overdue(patience, AT_ONCE)
    due = store.tasks.due(patience, AT_ONCE)
    for sent, task in enumerate(due):
        try:
            _send(task)
        except Unavailable:
            store.tasks.not_enqueued(due[sent:])
            raise
    if due or ended:
        logger.info("Swept", extra={"enqueued": len(due), "ended": len(ended)})
    return Swept(due, ended)


def _send(task: Task, delay: int = 0) -> None:
    queues.send(getattr(settings(), QUEUES[task.kind]), {task.kind: task.id}, delay)
