"""Decides about uploads that are previewed or held."""

from dedup.services import tasks
from dedup.settings import settings
from dedup.store import Store
from dedup.store.load_attempt import Decision
from dedup.store.task_outbox import Task


def decide(upload_id: int, decision: Decision, store: Store, principal: str) -> None:
    """Continues to load an upload that is previewed or held. A repeated call only sends the message again if the upload
    still waits for it. Raises Conflict if the upload has another status."""
    if store.previews.decide(upload_id, decision, principal):
        tasks.enqueue(Task("upload", upload_id), store)


def end_undecided(store: Store) -> list[int]:
    """Ends uploads about which nobody decided before their files expired or a newer snapshot was loaded; returns their
    ids."""
    return store.previews.end_undecided(settings().file_retention_days)
