"""The environment as typed settings, read once and on first use. dedup.api.app reads ALLOWED_ORIGINS itself, when it is
imported."""

import os
import re
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "dedup")
"""In logs and metrics. On AWS the stack's name: two environments of one account share the metrics' namespace."""

VERSION = "1.0.0"
"""What `GET /` and the document say of the API."""

MAX_SOURCES = 63
"""A set of sources is kept as the bits of a signed 64-bit integer, and the sign bit is left alone."""

_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _comma_separated(value: object) -> object:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _source_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _SOURCE_NAME.fullmatch(name):
            raise ValueError(
                f"source {name!r}: expected a lower-case letter followed by letters, digits or _, 63 at most"
            )
        # compare-sources makes fields of the names: only_in_<source>, only_in_<source>_count, <source>_count.
        if name.startswith(("only_in_", "in_all_sources")) or name.endswith("_count"):
            raise ValueError(f"source {name!r}: this name would collide with a field of compare-sources")
    if len(set(names)) != len(names):
        raise ValueError("a source is named twice")
    return names


Sources = Annotated[
    tuple[str, ...],
    Field(min_length=1, max_length=MAX_SOURCES),
    BeforeValidator(_comma_separated),
    AfterValidator(_source_names),
]


class Settings(BaseModel):
    """The settings of one function. Each field is read from the variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sources: Sources = ("salesforce", "hubspot", "internal")
    bucket: str = Field(default="", description="where files arrive and rejected rows go; none: no uploads of files")
    files_queue: str = Field(
        default="", description="the queue of the function that loads files; it deletes large uploads too"
    )
    file_retention_days: int = Field(
        default=30, gt=0, description="days after which the bucket's lifecycle deletes files and rejected rows"
    )
    max_file_bytes: int = Field(
        default=5 * 1024**3, gt=0, description="larger files are refused; S3 takes 5 GiB in one PUT"
    )
    event_bus: str = Field(
        default="", description="the EventBridge bus that is told how uploads ended; none: nobody is"
    )
    export_queue: str = Field(default="", description="the queue that starts exports; none: no exports")
    job_queue: str = Field(default="", description="the queue that starts jobs on Spark")
    batch_application: str = Field(default="", description="the EMR Serverless application that jobs run on")
    batch_role: str = Field(default="", description="the ARN of the role that they have there")
    batch_runner: str = Field(
        default="", description="path of the Python file that runs jobs on this machine, as make run sets it"
    )
    clear_confirm: bool = Field(default=False, description="clearing everything needs ?confirm=everything")
    match_queue: str = Field(default="", description="the queue that starts runs of the matching; none: no runs")
    match_memory: str = Field(default="2GB", description="what the matching's engine may take of the function's memory")
    engine_threshold: int = Field(
        default=5_000_000, gt=0, description="records from which Spark matches, and not DuckDB"
    )
    db_host: str = "127.0.0.1"
    db_port: int = 5432
    db_name: str = "dedup"
    db_user: str = "dedup"
    db_password: str | None = Field(default=None, repr=False, description="on a laptop; on AWS one of the next two")
    db_iam_auth: bool = Field(default=False, description="db_user signs in with a token that IAM makes")
    db_secret_arn: str = Field(
        default="", repr=False, description="the secret with the password, and the user if it has one"
    )
    db_app_user: str = Field(default="", description="the role that migrate, as the owner, lets use the tables")
    db_app_iam_auth: bool = Field(default=False, description="that role signs in with a token that IAM makes")
    db_connect_timeout: float = Field(default=2.0, gt=0, description="seconds")
    db_statement_timeout: float = Field(default=20.0, gt=0, description="seconds; less than the function's")


@cache
def settings() -> Settings:
    """The settings, as the environment said when they were first asked for.

    Raises pydantic.ValidationError, which names the variable and the reason."""
    fields = Settings.model_fields
    return Settings.model_validate({name: os.environ[name.upper()] for name in fields if os.environ.get(name.upper())})
