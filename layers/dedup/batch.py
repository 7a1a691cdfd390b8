"""Jobs on Spark: on EMR Serverless, or, in a checkout of the repository, as a process of this machine.

The job is jobs/regions.py in both; it writes below `jobs/<id>/` in the bucket."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dedup import bucket
from dedup.connection import Unavailable
from dedup.settings import settings
from dedup.store import Conflict, Job, Store

KEPT_DAYS = 7
"""Days after which the bucket's lifecycle deletes what a job wrote. Rejected rows hold names and addresses."""

LEASE = 900.0
"""Seconds that an attempt has: as many as its function."""

STOP_SECONDS = 15.0
RUN_MINUTES = 360
CODE = "code"
"""The prefix where the job's code is in the bucket."""

_ENDED_BADLY = {"FAILED", "CANCELLED"}
_ROOT = Path(__file__).resolve().parents[2]


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

    Raises store.Busy while another attempt is at it, and whatever keeps it from being started now."""
    prefix = store.claim_job(job_id, LEASE)
    if prefix is None:
        return None
    try:
        if settings().batch_application:
            store.started_job(job_id, start(job_id, prefix))
            return "running"
        reason = _run_here(job_id, prefix, remaining_seconds() - STOP_SECONDS)
        if reason:
            store.fail_job(job_id, reason)
            return "failed"
        store.finish_job(job_id, *_written(job_id))
    except BaseException as error:
        store.interrupt_job(job_id, f"Interrupted ({type(error).__name__})")
        raise
    return "done"


def start(job_id: int, prefix: str) -> str:
    """Starts the job on EMR Serverless, once however often it is asked; the run's id."""
    s3 = f"s3://{settings().bucket}"
    code = f"{s3}/{CODE}"
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
    }
    answer = client().start_job_run(
        applicationId=settings().batch_application,
        clientToken=f"job-{job_id}",
        executionRoleArn=settings().batch_role,
        executionTimeoutMinutes=RUN_MINUTES,
        name=f"regions-{job_id}",
        jobDriver={
            "sparkSubmit": {
                "entryPoint": f"{code}/regions.py",
                "entryPointArguments": [f"{s3}/{prefix}", f"{s3}/jobs/{job_id}"],
                "sparkSubmitParameters": " ".join(f"--conf {name}={value}" for name, value in conf.items()),
            }
        },
    )
    return str(answer["jobRunId"])


def seen_to(job: Job, store: Store) -> Job:
    """The job as it is now: one that runs on EMR Serverless is asked for its state, and ended where it has ended."""
    if job.status != "running" or not job.run:
        return job
    try:
        run = client().get_job_run(applicationId=settings().batch_application, jobRunId=job.run)["jobRun"]
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("EMR Serverless does not say how the job is") from error
    if run["state"] in _ENDED_BADLY:
        store.fail_job(job.id, str(run.get("stateDetails") or run["state"])[:1_000])
    elif run["state"] == "SUCCESS":
        store.finish_job(job.id, *_written(job.id))
    return store.job(job.id, KEPT_DAYS) or job


def _run_here(job_id: int, prefix: str, seconds: float) -> str | None:
    """Does the job in a process of its own. Why it failed, where it did: what the job says of what can be mended."""
    s3 = f"s3://{settings().bucket}"
    command = [sys.executable, "-m", "jobs.regions", f"{s3}/{prefix}", f"{s3}/jobs/{job_id}"]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=_ROOT, timeout=seconds, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "It took longer than a function may: ask for a smaller prefix"
    said = done.stderr.strip().rpartition("\n")[2]
    return (said or f"The process ended with {done.returncode}")[:1_000] if done.returncode else None


def _written(job_id: int) -> tuple[dict[str, Any], list[str]]:
    """The summary of a job that has ended well, and the keys of all that it wrote."""
    prefix, name = f"jobs/{job_id}/", settings().bucket
    figures = json.loads(bucket.client().get_object(Bucket=name, Key=f"{prefix}summary.json")["Body"].read())
    pages = bucket.client().get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
    return figures, [key for key in keys if key.endswith((".parquet", ".json"))]
