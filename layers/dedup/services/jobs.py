"""Spark jobs that count regions: started on EMR Serverless, or run on this machine by the runner of a checkout.

Matching runs with many records are Spark jobs too; jobs/matching/runs.py starts those."""

import json
import runpy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dedup.aws import bucket, spark
from dedup.errors import Conflict
from dedup.settings import settings
from dedup.store import Store
from dedup.store.jobs import Job

LEASE = 900.0
"""Seconds until another attempt may take over: the timeout of the function that runs jobs."""

STOP_SECONDS = 15.0
"""Seconds of the function that are reserved for storing the result after a local job was stopped."""


class Runner(Protocol):
    """Runs jobs on this machine. Settings.batch_runner names a file with such a function, called `run`."""

    def __call__(self, module: str, arguments: Sequence[str], seconds: float) -> str | None:
        """Runs a module of jobs/ with command-line arguments, for at most `seconds`. Returns the reason if it failed,
        otherwise None."""


def available() -> bool:
    """Whether this deployment can run Spark jobs."""
    return bool(settings().batch_application or settings().batch_runner)


def require() -> None:
    """Raises Conflict if this deployment cannot run Spark jobs."""
    if not available():
        raise Conflict("This deployment cannot run Spark jobs. Deploy the stack with CreateBatch=true")


def run_locally(module: str, arguments: Sequence[str], remaining_seconds: float) -> str | None:
    """Runs a module of jobs/ on this machine, and stops it early enough to store the result. Returns the reason if the
    job failed, otherwise None."""
    # Loaded from a file, because functions can import modules of the layer only.
    runner: Runner = runpy.run_path(settings().batch_runner)["run"]
    return runner(module, arguments, remaining_seconds - STOP_SECONDS)


def run(job_id: int, store: Store, remaining_seconds: Callable[[], float]) -> str | None:
    """Starts a job on EMR Serverless, or runs it on this machine. Returns its status, or None if it was started before.

    Raises errors.Busy while another attempt holds the lease, and any error that prevents the start."""
    starting = store.jobs.claim(job_id, LEASE)
    if starting is None:
        return None
    arguments = [bucket.s3_url(starting.prefix), bucket.s3_url(f"jobs/{job_id}")]
    try:
        if settings().batch_application:
            store.jobs.submitted(starting, spark.submit("regions", f"regions-{job_id}", arguments))
            return "running"
        reason = run_locally("regions", arguments, remaining_seconds())
        if reason:
            store.jobs.fail(starting, reason)
            return "failed"
        store.jobs.finish(starting, *_written(job_id))
    except BaseException as error:
        store.jobs.interrupt(starting, f"Interrupted ({type(error).__name__})")
        raise
    return "done"


def refresh(job: Job, store: Store) -> Job:
    """Returns the job with its current state. If it has ended on EMR Serverless, the result is stored. Raises
    Unavailable."""
    if job.status != "running" or not job.run:
        return job
    over, reason = spark.ended(job.run)
    if reason:
        store.jobs.fail(job, reason)
    elif over:
        store.jobs.finish(job, *_written(job.id))
    return store.jobs.get(job.id, bucket.JOB_DAYS) or job


def _written(job_id: int) -> tuple[dict[str, Any], list[str]]:
    """Returns the summary of a finished job, and the keys of its output."""
    prefix, name = f"jobs/{job_id}/", settings().bucket
    figures = json.loads(bucket.client().get_object(Bucket=name, Key=f"{prefix}summary.json")["Body"].read())
    return figures, [key for key in bucket.keys_below(name, prefix) if key.endswith(bucket.WRITTEN)]
