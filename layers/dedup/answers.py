"""What the API answers, as models: they are validated against, and documented from, these."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dedup.records import CustomerId, Email, Name

Ids = Annotated[list[int], Field(description="One page of customer ids, ascending")]
Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Service(BaseModel):
    """That the API runs, and where its documentation is."""

    message: str
    status: str
    version: str
    docs: str


class Health(BaseModel):
    """Whether the database answers."""

    status: str


class StoredRecord(BaseModel):
    """A record as it is stored."""

    id: int
    customer_id: CustomerId
    name: Name
    email: Email
    source: str
    created_at: Time
    updated_at: Time | None


class UploadDetails(BaseModel):
    """What an upload stored."""

    count: Count
    upload_id: int


class Uploaded(BaseModel):
    """An upload that was accepted whole."""

    message: str
    details: UploadDetails


class DeletionDetails(BaseModel):
    """What was deleted."""

    deleted_count: Count


class Cleared(BaseModel):
    """That all records were deleted."""

    message: str
    details: DeletionDetails


class Analysis(BaseModel):
    """How many customers there are. Counts are of everything; the ids are one page."""

    total_records: Count
    unique_customers: Count
    duplicates_found: Count
    unique_customer_ids: Ids


class Comparison(BaseModel):
    """Which sources have whom. Beside the fields here, for each source: `only_in_<source>` (one page of ids),
    `only_in_<source>_count` and `<source>_count` (distinct customers, of everything)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Ids | Count]

    in_all_sources: Ids
    in_all_sources_count: Count


class CustomerSelection(BaseModel):
    """The customers that a set question selects. The count is of everything; the ids are one page."""

    count: Count
    customer_ids: Ids


class RegionCount(BaseModel):
    """How many customers are in exactly these sources and in no other."""

    sources: list[str]
    count: Count


class InvalidField(BaseModel):
    """One thing wrong with a request: where, why, and the kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """An error, as RFC 9457 shapes it. A validation error lists at most 100 of its `total` faults in `detail`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | list[InvalidField]
    total: Count | None = None
