"""Typed settings from environment variables, read once on first use. ALLOWED_ORIGINS is an exception: dedup.api.app
reads it when it is imported."""

import os
import re
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "dedup")
"""Service name in logs and metrics. On AWS it is the name of the stack, because the stacks of an AWS account share the
namespace of metrics."""

VERSION = "1.0.0"
"""The API's version, in `GET /` and in the OpenAPI document."""

MAX_SOURCES = 63
"""A set of sources is stored as the bits of a signed 64-bit integer without its sign bit."""

_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _comma_separated(value: object) -> object:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _source_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _SOURCE_NAME.fullmatch(name):
            raise ValueError(
                f"source {name!r}: expected a lower-case letter, then lower-case letters, digits or _, at most 63"
            )
        # compare-sources has the fields only_in_<source>, only_in_<source>_count and <source>_count.
        if name.startswith(("only_in_", "in_all_sources")) or name.endswith("_count"):
            raise ValueError(f"source {name!r}: the name conflicts with a field of compare-sources")
    if len(set(names)) != len(names):
        raise ValueError("sources: a name is repeated")
    return names


Sources = Annotated[
    tuple[str, ...],
    Field(min_length=1, max_length=MAX_SOURCES),
    BeforeValidator(_comma_separated),
    AfterValidator(_source_names),
]


class Settings(BaseModel):
    """The settings of a function. Each field is read from the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sources: Sources = ("salesforce", "hubspot", "internal")
    bucket: str = Field(default="", description="the bucket of uploaded files, rejected rows and exports")
    files_queue: str = Field(
        default="",
        description="the queue of the ingest function, which also deletes large uploads and erases customers",
    )
    file_retention_days: int = Field(
        default=30, gt=0, description="days after which the bucket's lifecycle deletes files and rejected rows"
    )
    max_file_bytes: int = Field(
        default=5 * 1024**3, gt=0, description="maximum size of a file; S3 accepts at most 5 GiB in one PUT"
    )
    snapshot_max_removed: int = Field(
        default=20,
        ge=0,
        le=100,
        description="share of a source's customers, in per cent, that a snapshot may remove without being held; 100: "
        "no snapshot is held",
    )
    event_bus: str = Field(
        default="", description="the EventBridge bus that receives an event when an upload ends; empty: no events"
    )
    export_queue: str = Field(default="", description="the queue of exports")
    job_queue: str = Field(default="", description="the queue of Spark jobs")
    batch_application: str = Field(default="", description="the EMR Serverless application that runs Spark jobs")
    batch_role: str = Field(default="", description="the ARN of the execution role of Spark jobs")
    batch_runner: str = Field(
        default="", description="path of the Python file that runs Spark jobs on this machine, set by `make run`"
    )
    clear_confirm: bool = Field(default=False, description="DELETE /customers requires ?confirm=everything")
    match_queue: str = Field(default="", description="the queue of matching runs")
    resolver_queue: str = Field(default="", description="the queue of the resolver; empty: its schedule alone wakes it")
    automatic_run_below: int = Field(
        default=1_000, ge=0, description="number of records below which the resolver starts runs by itself; 0: never"
    )
    match_memory: str = Field(
        default="2GB", description="memory limit of DuckDB in the functions that match and resolve"
    )
    engine_threshold: int = Field(
        default=5_000_000, gt=0, description="number of records from which a matching run uses Spark instead of DuckDB"
    )
    db_host: str = "127.0.0.1"
    db_port: int = 5432
    db_name: str = "dedup"
    db_user: str = "dedup"
    db_password: str | None = Field(
        default=None, repr=False, description="for local use; on AWS, db_iam_auth or db_secret_arn is used instead"
    )
    db_iam_auth: bool = Field(default=False, description="db_user authenticates with an IAM token")
    db_secret_arn: str = Field(
        default="", repr=False, description="the secret with the password and, optionally, the user"
    )
    db_app_user: str = Field(default="", description="the role that migrate grants access to the tables")
    db_app_iam_auth: bool = Field(default=False, description="db_app_user authenticates with an IAM token")
    db_connect_timeout: float = Field(default=2.0, gt=0, description="seconds")
    db_statement_timeout: float = Field(
        default=20.0, gt=0, description="seconds; must be less than the function's timeout"
    )


@cache
def settings() -> Settings:
    """Returns the settings, read from the environment on the first call.

    Raises pydantic.ValidationError, which names the variable and the reason."""
    fields = Settings.model_fields
    return Settings.model_validate({name: os.environ[name.upper()] for name in fields if os.environ.get(name.upper())})
