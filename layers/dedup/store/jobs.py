"""What was asked of Spark, and what became of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.store.base import UNKNOWN, Base, text
from dedup.store.work import Work, done, failed

_WORK = Work("job", elsewhere="run IS NOT NULL")


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


class Jobs(Base):
    """The jobs of one database."""

    def expect_job(
        self, prefix: str, key: str | None = None, digest: str = "", principal: str = UNKNOWN
    ) -> tuple[int, str]:
        """Notes that the files below a prefix are to be read, once for a `key`: its id and status. Raises KeyReused."""
        return self._database.write(
            lambda connection: _WORK.expect(connection, {"prefix": prefix}, key, digest, principal),
            repeatable=key is not None,
        )

    def claim_job(self, job_id: int, lease: float) -> str | None:
        """Begins a job: its prefix; None where that was done before. Raises Busy while another attempt is at it."""
        claimed = self._database.write(
            lambda connection: _WORK.claim(connection, job_id, lease, "prefix"), repeatable=False
        )
        return str(claimed[0]) if claimed else None

    def started_job(self, job_id: int, run: str) -> None:
        """Notes under which name EMR Serverless runs it."""
        self._change(job_id, f"run = {text(run)}, lease_until = NULL")

    def finish_job(self, job_id: int, figures: Mapping[str, Any], objects: Sequence[str]) -> None:
        """Ends a job well."""
        self._change(job_id, done(f"figures = {text(json.dumps(figures))}, objects = {text(json.dumps(objects))}"))

    def fail_job(self, job_id: int, reason: str) -> None:
        """Ends a job without an answer."""
        self._change(job_id, failed(reason))

    def interrupt_job(self, job_id: int, reason: str) -> None:
        """Gives a job back, to be begun by the next delivery; where this was the last, it failed."""
        self._change(job_id, _WORK.interrupted(reason))

    def job(self, job_id: int, kept_days: int) -> Job | None:
        """What is known of one job; None when there is none of that id."""
        found = self._jobs(f"id = {job_id}", 1, kept_days)
        return found[0] if found else None

    def jobs(self, before: int | None, limit: int, kept_days: int) -> list[Job]:
        """What is known of the jobs, the newest first, from below id `before`; `limit` of them at most."""
        return self._jobs("true" if before is None else f"id < {before}", limit, kept_days)

    def _change(self, job_id: int, changes: str) -> None:
        self._database.write(
            lambda connection: connection.run(f"UPDATE job SET {changes} WHERE id = {job_id} AND status = 'running'"),
            repeatable=True,
        )

    def _jobs(self, condition: str, limit: int, kept_days: int) -> list[Job]:
        columns = "prefix, run, figures, objects"
        rows = self._database.read(lambda connection: _WORK.found(connection, columns, condition, limit, kept_days))
        return [Job(*row) for row in rows]
