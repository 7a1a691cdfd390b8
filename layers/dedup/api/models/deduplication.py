"""Request and response models of the set questions, the report baseline and the Spark jobs."""

from typing import Annotated

from pydantic import ConfigDict, Field

from dedup.api.models.common import Count, Model, Question, TaskStatus, Time

Ids = Annotated[list[int], Field(description="One page of customer ids, ascending")]


class Analysis(Model):
    """How many customers there are. Counts are of everything; the ids are one page."""

    total_records: Count
    unique_customers: Count
    duplicates_found: Count
    unique_customer_ids: Ids


class Comparison(Model):
    """Which sources have whom. Beside the fields here, for each source: `only_in_<source>` (one page of ids),
    `only_in_<source>_count` and `<source>_count` (distinct customers, of everything)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Ids | Count]

    in_all_sources: Ids
    in_all_sources_count: Count


class CustomerSelection(Model):
    """The customers that a set question selects. The count is of everything; the ids are one page."""

    count: Count
    customer_ids: Ids


class RegionCount(Model):
    """How many customers are in exactly these sources and in no other."""

    sources: list[str]
    count: Count


class KeptReport(Model):
    """The figures that later reports are compared with."""

    id: int
    created_at: Time


class JobRequest(Question):
    """Which files are to be read."""

    prefix: str = Field(
        default="incoming/",
        max_length=900,
        pattern=r"^incoming/[^\u0000-\u001f\u007f-\u009f]*$",
        description="Of the objects' keys: incoming/hubspot/ for those of one source",
    )


class JobCreated(Model):
    """A job that will be done."""

    id: int
    status: TaskStatus


class JobRegion(Model):
    """How many customers exactly these sources have, in how many records."""

    sources: list[str]
    count: Count
    records: Count


class JobOutput(Model):
    """A file that a job wrote."""

    name: str = Field(description="regions/…, customers/…, rejects/… or files/…, Parquet; summary.json")
    url: str = Field(description="The file, for 15 minutes")


class JobStatus(Model):
    """What became of a job. What it found is there when it is done."""

    id: int
    status: TaskStatus
    prefix: str
    regions: list[JobRegion] | None = Field(
        default=None, description="The 100 largest, the largest first; the output regions has all of them"
    )
    region_count: Count | None = Field(default=None, description="Regions that have a customer")
    customers: Count | None = None
    records: Count | None = None
    files: Count | None = None
    failed: Count | None = Field(default=None, description="Files that could not be used: the output files says why")
    rejected: Count | None = Field(default=None, description="Rows that were refused: the output rejects says why")
    outputs: list[JobOutput] = Field(description="1,000 at most; none when they are older than 7 days")
    reason: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
