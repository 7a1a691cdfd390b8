"""Messages of tasks: the first one, where the task is asked for, and those of the sweeper, which sends what was lost.

The rule is dedup.store.tasks': the row that asks for a task is the outbox of its messages."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger

from dedup.aws import queues
from dedup.errors import Unavailable
from dedup.settings import SERVICE, settings
from dedup.store import Store
from dedup.store.tasks import Task

PATIENCE = 7_200.0
"""Seconds that a message may be on its way: more than it takes any queue to deliver again one that was not handled."""

AT_ONCE = 100
"""Tasks of each kind that are seen to by one sweep. The others are seen to by the next."""

QUEUES: Mapping[str, str] = {
    "export": "export_queue",
    "run": "match_queue",
    "job": "job_queue",
    "upload": "files_queue",
    "delete_upload": "files_queue",
    "erasure": "files_queue",
}
"""The setting with the queue of each kind of task."""

logger = Logger(service=SERVICE, child=True)


@dataclass(frozen=True)
class Swept:
    """What a sweep did: the tasks of which it sent messages, and those that it ended because they can't go on."""

    enqueued: Sequence[Task]
    ended: Sequence[Task]


def begin(kind: str, noted: tuple[int, str], store: Store) -> dict[str, Any]:
    """Has a task begun that was noted, its id and status, if it waits; what the API says of it."""
    task_id, status = noted
    if status == "waiting":
        enqueue(Task(kind, task_id), store)
    return {"id": task_id, "status": status}


def enqueue(task: Task, store: Store, delay: int = 0) -> None:
    """Sends the message of a task that was noted, to be delivered after so many seconds. Where the queue does not take
    it, the sweeper will send it: the caller was promised no more than that the task is noted."""
    try:
        _send(task, delay)
    except Unavailable:
        logger.warning("The queue took no message: the sweeper will send it", extra={"task": task.kind, "id": task.id})
        # Else it waits for as long as one whose message was lost.
        with suppress(Unavailable):
            store.tasks.not_enqueued([task])


def sweep(store: Store, patience: float = PATIENCE) -> Swept:
    """Sends again what was lost on its way, and ends what can't go on. Any number of sweeps may run at the same time.
    Raises Unavailable where the database or a queue is not to be had; what was not sent is sent by the next."""
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
