"""Client of EMR Serverless, which runs Spark jobs.

A job is a module of jobs/; its output is below `jobs/` in the bucket."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dedup.aws import bucket
from dedup.errors import Unavailable
from dedup.settings import settings

RUN_MINUTES = 360
"""Minutes after which EMR Serverless stops a run."""

CODE = "code"
"""Prefix of the jobs' code in the bucket. `make job-code` builds it: a Python, the packages, and a file MODULE.py for
each job."""

_ENDED_BADLY = {"FAILED", "CANCELLED"}


@cache
def client() -> Any:
    """The EMR Serverless client of this Lambda environment."""
    import boto3

    return boto3.client("emr-serverless")


def submit(module: str, token: str, arguments: Sequence[str], jars: Sequence[str] = ()) -> str:
    """Starts a run of a module of jobs/ and returns the run's id. Idempotent: a token starts one run. `jars` are names
    of files beside the code."""
    code = bucket.s3_url(CODE)
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


def ended(run: str) -> tuple[bool, str | None]:
    """Whether a run has ended, and why it failed, or None. Raises Unavailable."""
    try:
        known = client().get_job_run(applicationId=settings().batch_application, jobRunId=run)["jobRun"]
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("EMR Serverless did not return the state of the job") from error
    if known["state"] in _ENDED_BADLY:
        return True, str(known.get("stateDetails") or known["state"])[:1_000]
    return known["state"] == "SUCCESS", None
