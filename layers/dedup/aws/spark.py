"""Jobs on Spark: on EMR Serverless, or, in a checkout of the repository, as a process of this machine.

The job is a module of jobs/ in both, and writes below `jobs/` in the bucket. Regions are counted for whoever asks; a
run of the matching with many records is a job too, begun by jobs/runs.py."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dedup.aws import bucket
from dedup.errors import Conflict, Unavailable
from dedup.settings import settings
from dedup.store import Store
from dedup.store.jobs import Job

KEPT_DAYS = 7
"""Days after which the bucket's lifecycle deletes what a job wrote. Rejected rows hold names and addresses."""

LEASE = 900.0
"""Seconds that an attempt has: as many as its function."""

STOP_SECONDS = 15.0
RUN_MINUTES = 360
CODE = "code"
"""The prefix where the job's code is in the bucket."""

_ENDED_BADLY = {"FAILED", "CANCELLED"}
_ROOT = Path(__file__).resolve().parents[3]


@cache
def client() -> Any:
    """The EMR Serverless client of this Lambda environment."""
    import boto3

    return boto3.client("emr-serverless")


def require() -> None:
    """Raises Conflict where there is nothing that jobs could run on."""
    if not (settings().batch_application or settings().batch_here):
        raise Conflict("There is nothing here that jobs run on: deploy the stack with CreateBatch=true")


def work(job_id: int, store: Store, remaining_seconds: Callable[[], float]) -> str | None:
    """Starts a job on EMR Serverless, or does it here: its status then; None where that was done before.

    Raises errors.Busy while another attempt is at it, and whatever keeps it from being started now."""
    starting = store.jobs.claim(job_id, LEASE)
    if starting is None:
        return None
    arguments = _arguments(job_id, starting.prefix)
    try:
        if settings().batch_application:
            store.jobs.submitted(starting, submit("regions", f"regions-{job_id}", arguments))
            return "running"
        reason = run_here("regions", arguments, remaining_seconds() - STOP_SECONDS)
        if reason:
            store.jobs.fail(starting, reason)
            return "failed"
        store.jobs.finish(starting, *_written(job_id))
    except BaseException as error:
        store.jobs.interrupt(starting, f"Interrupted ({type(error).__name__})")
        raise
    return "done"


def place(key: str) -> str:
    """What jobs call an object, or a prefix, of the bucket."""
    return f"s3://{settings().bucket}/{key}"


def _arguments(job_id: int, prefix: str) -> list[str]:
    return [place(prefix), place(f"jobs/{job_id}")]


def submit(module: str, token: str, arguments: Sequence[str], jars: Sequence[str] = ()) -> str:
    """Starts a module of jobs/ on EMR Serverless, once for a token however often it is asked, with jars that are beside
    its code; the run's id."""
    code = place(CODE)
    variables = {
        "PYSPARK_PYTHON": "./environment/bin/python",
        "SOURCES": ",".join(settings().sources),
        "MAX_FILE_BYTES": str(settings().max_file_bytes),
        "AWS_DEFAULT_REGION": client().meta.region_name,
    }
    conf = {
        "spark.archives": f"{code}/python.tar.gz#environment",
        "spark.submit.pyFiles": f"{code}/jobs.zip",
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": variables["PYSPARK_PYTHON"],
        **{f"spark.emr-serverless.driverEnv.{name}": value for name, value in variables.items()},
        **{f"spark.executorEnv.{name}": value for name, value in variables.items()},
        **({"spark.jars": ",".join(f"{code}/{jar}" for jar in jars)} if jars else {}),
    }
    answer = client().start_job_run(
        applicationId=settings().batch_application,
        clientToken=token,
        executionRoleArn=settings().batch_role,
        executionTimeoutMinutes=RUN_MINUTES,
        name=token,
        jobDriver={
            "sparkSubmit": {
                "entryPoint": f"{code}/{module}.py",
                "entryPointArguments": [*arguments],
                "sparkSubmitParameters": " ".join(f"--conf {name}={value}" for name, value in conf.items()),
            }
        },
    )
    return str(answer["jobRunId"])


def seen_to(job: Job, store: Store) -> Job:
    """The job as it is now: one that runs on EMR Serverless is asked for its state, and ended where it has ended."""
    if job.status != "running" or not job.run:
        return job
    over, reason = ended(job.run)
    if reason:
        store.jobs.fail(job, reason)
    elif over:
        store.jobs.finish(job, *_written(job.id))
    return store.jobs.get(job.id, KEPT_DAYS) or job


def ended(run: str) -> tuple[bool, str | None]:
    """Whether a run on EMR Serverless is over, and why it failed, where it did. Raises Unavailable."""
    try:
        known = client().get_job_run(applicationId=settings().batch_application, jobRunId=run)["jobRun"]
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("EMR Serverless does not say how the job is") from error
    if known["state"] in _ENDED_BADLY:
        return True, str(known.get("stateDetails") or known["state"])[:1_000]
    return known["state"] == "SUCCESS", None


def run_here(module: str, arguments: Sequence[str], seconds: float) -> str | None:
    """Does a module of jobs/ in a process of its own, which ends with this one, and so does all that it starts. Why it
    failed, where it did: what it says of what can be mended."""
    command = [sys.executable, "-m", "jobs.attended", module, *arguments]
    theirs, ours = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=_ROOT,
            text=True,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            said = process.communicate(timeout=seconds)[1]
        finally:
            # Spark's Java is of its group.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    except subprocess.TimeoutExpired:
        return "It took longer than a function may"
    finally:
        os.close(theirs)
        os.close(ours)
    reason = said.strip().rpartition("\n")[2]
    return (reason or f"The process ended with {process.returncode}")[:1_000] if process.returncode else None


def _written(job_id: int) -> tuple[dict[str, Any], list[str]]:
    """The summary of a job that has ended well, and the keys of all that it wrote."""
    prefix, name = f"jobs/{job_id}/", settings().bucket
    figures = json.loads(bucket.client().get_object(Bucket=name, Key=f"{prefix}summary.json")["Body"].read())
    return figures, [key for key in bucket.keys_below(name, prefix) if key.endswith(bucket.WRITTEN)]
