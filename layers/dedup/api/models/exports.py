"""Request and response models of the exports operations."""

import json
from typing import Annotated, Any, Literal
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from dedup.records import PLAIN, CustomerId, Email, KnownFields, Name, Source, without_controls
from dedup.settings import MAX_SOURCES
from dedup.validation import MAX_ERRORS, Request, at_most
from dedup.api.models.common import Count
from dedup.api.models.common import Model
from dedup.api.models.common import Question
from dedup.api.models.common import Sources
from dedup.api.models.common import Time
from dedup.api.models.common import WorkStatus


class ExportRequest(Question):
    """Whose records are to be written: the customers of a set question, as /api/v1/deduplication/customers asks it."""

    within: Sources = Field(default=[], alias="in", description="Sources that all have the customer")
    not_in: Sources = Field(default=[], description="Sources that none has the customer")
    region: Sources = Field(default=[], description="Sources that have the customer, and no other")
    by: Literal["customer", "entity"] = Field(
        default="customer", description="entity: ask by person, after the first finished run of the matching"
    )
    format: Literal["csv", "ndjson", "parquet"] = "csv"


class ExportBegun(Model):
    """An export that will be written."""

    id: int
    status: WorkStatus


class ExportAccount(Model):
    """What became of an export: a line for each record of each customer (or entity), by customer (or entity)."""

    id: int
    status: WorkStatus
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
