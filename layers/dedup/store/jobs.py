"""What was asked of Spark, and what became of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pg8000.native import Connection

from dedup.store.base import ISO_TIME, UNKNOWN, Base, note, text
from dedup.store.records import KeyReused
from dedup.store.uploads import Busy

TRIES = 3
"""Attempts, as many as the queue gives."""

_STATUS = f"""CASE WHEN status <> 'running' OR run IS NOT NULL OR lease_until >= now() THEN status
    WHEN attempt < {TRIES} THEN 'waiting' ELSE 'failed' END"""
_TIMES = ", ".join(f"to_char({n} AT TIME ZONE 'UTC', {ISO_TIME})" for n in ("created_at", "started_at", "finished_at"))


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

    def expect_job(self, prefix: str, key: str | None = None, digest: str = "", by: str = UNKNOWN) -> tuple[int, str]:
        """Notes that the files below a prefix are to be read, once for a `key`: its id and status. Raises KeyReused."""

        def work(connection: Connection) -> tuple[int, str]:
            rows = connection.run(
                f"""INSERT INTO job (prefix, key, digest) VALUES ({text(prefix)}, {text(key)}, {text(digest)})
                    ON CONFLICT (key) DO NOTHING RETURNING id, status"""
            )
            if rows:
                note(connection, "job", by)
                return rows[0][0], rows[0][1]
            [[job_id, status, first]] = connection.run(f"SELECT id, {_STATUS}, digest FROM job WHERE key = {text(key)}")
            if first != digest:
                raise KeyReused
            return job_id, status

        return self._database.write(work, repeatable=key is not None)

    def claim_job(self, job_id: int, lease: float) -> str | None:
        """Begins a job: its prefix; None where that was done before. Raises Busy while another attempt is at it."""

        def work(connection: Connection) -> str | None:
            rows = connection.run(
                f"""UPDATE job SET status = 'running', attempt = attempt + 1, reason = NULL, started_at = now(),
                        lease_until = now() + interval '{lease} s'
                    WHERE id = {job_id} AND ({_STATUS}) = 'waiting' RETURNING prefix"""
            )
            if not rows and connection.run(
                f"SELECT FROM job WHERE id = {job_id} AND ({_STATUS}) = 'running' AND run IS NULL"
            ):
                raise Busy
            return str(rows[0][0]) if rows else None

        return self._database.write(work, repeatable=False)

    def started_job(self, job_id: int, run: str) -> None:
        """Notes under which name EMR Serverless runs it."""
        self._change(job_id, f"run = {text(run)}, lease_until = NULL")

    def finish_job(self, job_id: int, figures: Mapping[str, Any], objects: Sequence[str]) -> None:
        """Ends a job well."""
        self._change(
            job_id,
            f"""status = 'done', figures = {text(json.dumps(figures))}, objects = {text(json.dumps(objects))},
                finished_at = clock_timestamp()""",
        )

    def fail_job(self, job_id: int, reason: str) -> None:
        """Ends a job without an answer."""
        self._change(job_id, f"status = 'failed', reason = {text(reason)}, finished_at = clock_timestamp()")

    def interrupt_job(self, job_id: int, reason: str) -> None:
        """Gives a job back, to be begun by the next delivery; where this was the last, it failed."""
        self._change(
            job_id,
            f"""reason = {text(reason)}, status = CASE WHEN attempt < {TRIES} THEN 'waiting' ELSE 'failed' END,
                finished_at = CASE WHEN attempt < {TRIES} THEN NULL ELSE clock_timestamp() END""",
        )

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
        query = f"""
            SELECT id, {_STATUS}, prefix, run, figures, objects,
                CASE WHEN status = 'running' AND ({_STATUS}) <> 'running' THEN 'It was cut off' ELSE reason END,
                {_TIMES}, coalesce(finished_at > now() - interval '{kept_days} days', false)
            FROM job WHERE {condition} ORDER BY id DESC LIMIT {limit}"""
        return [Job(*row) for row in self._database.read(lambda connection: connection.run(query))]
