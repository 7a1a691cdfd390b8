"""What the service takes and answers."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, EmailStr, Field


class Source(StrEnum):
    """The systems that records come from."""

    salesforce = "salesforce"
    hubspot = "hubspot"
    internal = "internal"


class CustomerCreate(BaseModel):
    """A record as a client sends it."""

    customer_id: int
    name: str = Field(min_length=1, max_length=255)
    email: EmailStr
    source: Source


class CustomerBulkCreate(BaseModel):
    """Many records in one request."""

    customers: list[CustomerCreate]


class CustomerResponse(CustomerCreate):
    """A record as it is stored."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    updated_at: datetime | None


class Message(BaseModel):
    """What was done."""

    message: str
    details: dict[str, Any]


class Analysis(BaseModel):
    """How many customers there are, and who they are."""

    total_records: int
    unique_customers: int
    duplicates_found: int
    unique_customer_ids: list[int]


class Comparison(BaseModel):
    """Which customers every source has, and which only one has."""

    in_all_sources: list[int]
    only_in_salesforce: list[int]
    only_in_hubspot: list[int]
    only_in_internal: list[int]
    salesforce_count: int
    hubspot_count: int
    internal_count: int
