"""Request and response models of the exports operations."""

from typing import Literal

from pydantic import Field

from dedup.api.models.common import Count, Model, RequestModel, Sources, TaskStatus, Time


class ExportRequest(RequestModel):
    """The set question that selects the customers to export, as in /api/v1/deduplication/customers."""

    within: Sources = Field(default=[], alias="in", description="Include customers present in all of these sources")
    not_in: Sources = Field(default=[], description="Exclude customers present in any of these sources")
    region: Sources = Field(
        default=[], description="Include customers present in exactly these sources and in no other"
    )
    by: Literal["customer", "entity"] = Field(
        default="customer", description="`entity` selects entities of the active matching run instead of customers"
    )
    format: Literal["csv", "ndjson", "parquet"] = "csv"


class ExportCreated(Model):
    """An export that was created."""

    id: int
    status: TaskStatus


class ExportStatus(Model):
    """The status of an export. Its file has one line for each record, ordered by customer (or entity)."""

    id: int
    status: TaskStatus
    within: list[str] = Field(alias="in")
    not_in: list[str]
    region: list[str]
    by: str
    format: str
    rows: Count = Field(description="Number of records written, also while the export is running")
    bytes: Count | None
    url: str | None = Field(
        description="Presigned URL of the file, valid for 15 minutes; null after 7 days, when the file is deleted"
    )
    reason: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
