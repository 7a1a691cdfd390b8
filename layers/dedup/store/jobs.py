"""Jobs on Spark: what was asked for, and how far it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.store.audit import UNKNOWN
from dedup.store.connection import Database
from dedup.store.sql import text
from dedup.store.task_table import Attempt, TaskTable, below, done, failed

_TASKS = TaskTable("job", external="run IS NOT NULL")
OUTBOX = _TASKS.outbox("job")


@dataclass(frozen=True)
class JobAttempt:
    """One attempt to start one job, which reads the files below `prefix`."""

    id: int
    attempt: int
    prefix: str


@dataclass(frozen=True)
class Job:
    """The state of a job. `run`: its name on EMR Serverless. `figures`: the job's summary.json; `objects`: the keys of
    what it wrote; both only when it is done. Times are ISO 8601 in UTC. `fresh`: its objects have not expired."""

    id: int
    status: str
    attempt: int
    prefix: str
    run: str | None
    figures: dict[str, Any] | None
    objects: list[str] | None
    reason: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    fresh: bool


class Jobs:
    """The jobs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, prefix: str, key: str | None = None, digest: str = "", principal: str = UNKNOWN
    ) -> tuple[int, str]:
        """Adds a job for the files below a prefix, once for a `key`; returns its id and status. Raises KeyReused."""
        return self._database.write(
            lambda connection: _TASKS.create(connection, {"prefix": prefix}, key, digest, principal),
            repeatable=key is not None,
        )

    def claim(self, job_id: int, lease: float) -> JobAttempt | None:
        """Starts an attempt at a job; None if it has ended or runs on EMR Serverless. Raises Busy while another attempt
        is at it."""
        claimed = self._database.write(
            lambda connection: _TASKS.claim(connection, job_id, lease, "attempt, prefix"), repeatable=True
        )
        return JobAttempt(job_id, *claimed) if claimed else None

    def submitted(self, attempt: JobAttempt, run: str) -> None:
        """Records the name of the run on EMR Serverless. Does nothing when superseded."""
        self._end(attempt, f"run = {text(run)}, lease_until = NULL")

    def finish(self, attempt: Attempt, figures: Mapping[str, Any], objects: Sequence[str]) -> None:
        """Ends a job well. Does nothing when superseded."""
        self._end(attempt, done(f"figures = {text(json.dumps(figures))}, objects = {text(json.dumps(objects))}"))

    def fail(self, attempt: Attempt, reason: str) -> None:
        """Ends a job as failed. Does nothing when superseded."""
        self._end(attempt, failed(reason))

    def interrupt(self, attempt: JobAttempt, reason: str) -> None:
        """Gives a job back for another attempt; after the last one, it has failed."""
        self._end(attempt, _TASKS.interrupted(reason))

    def get(self, job_id: int, kept_days: int) -> Job | None:
        """One job; None if it does not exist."""
        found = self._find(f"id = {job_id}", 1, kept_days)
        return found[0] if found else None

    def page(self, before: int | None, limit: int, kept_days: int) -> list[Job]:
        """The jobs, the newest first, from below id `before`; at most `limit`."""
        return self._find(below(before), limit, kept_days)

    def _end(self, attempt: Attempt, changes: str) -> None:
        self._database.write(lambda connection: _TASKS.end(connection, attempt, changes), repeatable=True)

    def _find(self, condition: str, limit: int, kept_days: int) -> list[Job]:
        columns = "attempt, prefix, run, figures, objects"
        rows = self._database.read(lambda connection: _TASKS.found(connection, columns, condition, limit, kept_days))
        return [Job(*row) for row in rows]
