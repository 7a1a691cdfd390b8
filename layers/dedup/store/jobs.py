"""What was asked of Spark, and what became of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.store.base import UNKNOWN, Base, text
from dedup.store.task_table import TaskTable, done, failed

_TASKS = TaskTable("job", elsewhere="run IS NOT NULL")
OUTBOX = _TASKS.outbox("job")


@dataclass(frozen=True)
class Starting:
    """One attempt at one job: the files below `prefix` are to be read."""

    job_id: int
    attempt: int
    prefix: str

    @property
    def current(self) -> str:
        """The condition in SQL that this attempt still is the one that works."""
        return f"id = {self.job_id} AND attempt = {self.attempt} AND status = 'running'"


@dataclass(frozen=True)
class Job:
    """What is known of a job. `run`: EMR Serverless's name of it. `figures`: the job's summary.json; `objects`: the
    keys of what it wrote, both only when it is done. Times are ISO 8601 in UTC. `fresh`: its objects are younger than
    was asked."""

    id: int
    status: str
    prefix: str
    run: str | None
    figures: dict[str, Any] | None
    objects: list[str] | None
    reason: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    fresh: bool

    @property
    def current(self) -> str:
        """The condition in SQL that it still runs where it did."""
        return f"id = {self.id} AND run IS NOT DISTINCT FROM {text(self.run)} AND status = 'running'"


class Jobs(Base):
    """The jobs of one database."""

    def expect_job(
        self, prefix: str, key: str | None = None, digest: str = "", principal: str = UNKNOWN
    ) -> tuple[int, str]:
        """Notes that the files below a prefix are to be read, once for a `key`: its id and status. Raises KeyReused."""
        return self._database.write(
            lambda connection: _TASKS.expect(connection, {"prefix": prefix}, key, digest, principal),
            repeatable=key is not None,
        )

    def claim_job(self, job_id: int, lease: float) -> Starting | None:
        """Begins a job; None where that was done before. Raises Busy while another attempt is at it."""
        claimed = self._database.write(
            lambda connection: _TASKS.claim(connection, job_id, lease, "attempt, prefix"), repeatable=False
        )
        return Starting(job_id, *claimed) if claimed else None

    def started_job(self, starting: Starting, run: str) -> None:
        """Notes under which name EMR Serverless runs it. Nothing when superseded."""
        self._change(starting, f"run = {text(run)}, lease_until = NULL")

    def finish_job(self, attempt: "Starting | Job", figures: Mapping[str, Any], objects: Sequence[str]) -> None:
        """Ends a job well. Nothing when superseded."""
        self._change(attempt, done(f"figures = {text(json.dumps(figures))}, objects = {text(json.dumps(objects))}"))

    def fail_job(self, attempt: "Starting | Job", reason: str) -> None:
        """Ends a job without an answer. Nothing when superseded."""
        self._change(attempt, failed(reason))

    def interrupt_job(self, starting: Starting, reason: str) -> None:
        """Gives a job back, to be begun by the next delivery; where this was the last, it failed."""
        self._change(starting, _TASKS.interrupted(reason))

    def job(self, job_id: int, kept_days: int) -> Job | None:
        """What is known of one job; None when there is none of that id."""
        found = self._jobs(f"id = {job_id}", 1, kept_days)
        return found[0] if found else None

    def jobs(self, before: int | None, limit: int, kept_days: int) -> list[Job]:
        """What is known of the jobs, the newest first, from below id `before`; `limit` of them at most."""
        return self._jobs("true" if before is None else f"id < {before}", limit, kept_days)

    def _change(self, attempt: "Starting | Job", changes: str) -> None:
        self._database.write(
            lambda connection: connection.run(f"UPDATE job SET {changes} WHERE {attempt.current}"), repeatable=True
        )

    def _jobs(self, condition: str, limit: int, kept_days: int) -> list[Job]:
        columns = "prefix, run, figures, objects"
        rows = self._database.read(lambda connection: _TASKS.found(connection, columns, condition, limit, kept_days))
        return [Job(*row) for row in rows]
