"""Request and response models of set questions, the report baseline and Spark jobs."""

from typing import Annotated

from pydantic import ConfigDict, Field

from dedup.api.models.common import AsOf, Count, Model, RequestModel, TaskStatus, Time, Unresolved
from dedup.records import CustomerId

Ids = Annotated[
    list[CustomerId],
    Field(description="One page of ids: integers in ascending order, then texts in the order of their code points"),
]


class Analysis(Model):
    """Counts of customers and duplicates. Counts are of the whole set; the ids are one page. `as_of` and
    `unresolved_records`: only by entity."""

    total_records: Count
    unique_customers: Count
    duplicates_found: Count
    unique_customer_ids: Ids
    as_of: AsOf | None = None
    unresolved_records: Unresolved | None = None


class Comparison(Model):
    """Overlap of the sources. There are three more fields for each source: `only_in_<source>` (one page of ids),
    `only_in_<source>_count`, and `<source>_count` (distinct customers). Counts are of the whole set. `as_of` and
    `unresolved_records`: only by entity."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Ids | Count]

    in_all_sources: Ids
    in_all_sources_count: Count
    as_of: AsOf | None = None
    unresolved_records: Unresolved | None = None


class CustomerSelection(Model):
    """The customers of a set question. The count is of the whole set; the ids are one page. `as_of` and
    `unresolved_records`: only by entity."""

    count: Count
    customer_ids: Ids
    as_of: AsOf | None = None
    unresolved_records: Unresolved | None = None


class RegionCount(Model):
    """A region: the number of customers in exactly these sources and in no other."""

    sources: list[str]
    count: Count


class KeptReport(Model):
    """A stored report baseline."""

    id: int
    created_at: Time


class JobRequest(RequestModel):
    """The files that a Spark job reads."""

    prefix: str = Field(
        default="incoming/",
        max_length=900,
        pattern=r"^incoming/[^\u0000-\u001f\u007f-\u009f]*$",
        description="Prefix of the keys of the files, such as incoming/hubspot/ for the files of one source",
    )


class JobCreated(Model):
    """A Spark job that was created."""

    id: int
    status: TaskStatus


class JobRegion(Model):
    """A region: the number of customers in exactly these sources and in no other, and of their records."""

    sources: list[str]
    count: Count
    records: Count


class JobOutput(Model):
    """A file that a job wrote."""

    name: str = Field(description="A Parquet file: regions/…, customers/…, rejects/… or files/…; or summary.json")
    url: str = Field(description="Presigned URL of the file, valid for 15 minutes")


class JobStatus(Model):
    """The status of a Spark job. Its results are present when it is done."""

    id: int
    status: TaskStatus
    prefix: str
    regions: list[JobRegion] | None = Field(
        default=None, description="The 100 largest regions, the largest first; the output `regions` has all of them"
    )
    region_count: Count | None = Field(default=None, description="Number of regions with customers")
    customers: Count | None = None
    records: Count | None = None
    files: Count | None = None
    failed: Count | None = Field(
        default=None, description="Number of files that could not be read; the output `files` has the reasons"
    )
    rejected: Count | None = Field(
        default=None, description="Number of rejected rows; the output `rejects` has the reasons"
    )
    outputs: list[JobOutput] = Field(description="At most 1,000 files; empty after 7 days, when they are deleted")
    reason: str | None
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
