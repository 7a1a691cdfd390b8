"""Request and response models of the exports operations."""

from typing import Literal

from pydantic import Field

from dedup.api.models.common import Count, Model, Question, Sources, TaskStatus, Time


class ExportRequest(Question):
    """Whose records are to be written: the customers of a set question, as /api/v1/deduplication/customers asks it."""

    within: Sources = Field(default=[], alias="in", description="Sources that all have the customer")
    not_in: Sources = Field(default=[], description="Sources that none has the customer")
    region: Sources = Field(default=[], description="Sources that have the customer, and no other")
    by: Literal["customer", "entity"] = Field(
        default="customer", description="entity: ask by person, after the first finished run of the matching"
    )
    format: Literal["csv", "ndjson", "parquet"] = "csv"


class ExportCreated(Model):
    """An export that will be written."""

    id: int
    status: TaskStatus


class ExportStatus(Model):
    """What became of an export: a line for each record of each customer (or entity), by customer (or entity)."""

    id: int
    status: TaskStatus
    within: list[str] = Field(alias="in")
    not_in: list[str]
    region: list[str]
    by: str
    format: str
    rows: Count = Field(description="Records; so far, while it is written")
    bytes: Count | None
    url: str | None = Field(description="The file, for 15 minutes; none when it is older than 7 days")
    reason: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
