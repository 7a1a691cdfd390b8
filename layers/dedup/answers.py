"""What the API answers, as models: they are validated against, and documented from, these."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from dedup.records import PLAIN, CustomerId, Email, KnownFields, Name, Source, without_controls
from dedup.settings import MAX_SOURCES
from dedup.validation import MAX_ERRORS, Request, at_most

Ids = Annotated[list[int], Field(description="One page of customer ids, ascending")]
Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

Mode = Literal["add", "replace"]
WorkStatus = Literal["waiting", "running", "done", "failed"]
Filename = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^/\\]+$",
        json_schema_extra={"pattern": r"^[^/\\\u0000-\u001f\u007f-\u009f]+$"},
    ),
    AfterValidator(without_controls),
]


Sources = Annotated[list[Source], Field(max_length=MAX_SOURCES), at_most(MAX_SOURCES)]


class Model(BaseModel, defer_build=True):
    """What the models here are. Each is built when it is first used, for a function uses a few of them."""


class Question(Model, Request, extra="forbid"):
    """What the bodies of requests here are: a field that is unknown is refused."""


class Service(Model):
    """That the API runs, and where its documentation is."""

    message: str
    status: str
    version: str
    docs: str


class Health(Model):
    """Whether the database answers."""

    status: str


class StoredFields(Model):
    """What every stored record has."""

    id: int
    customer_id: CustomerId
    name: Name
    email: Email
    source: str
    created_at: Time
    updated_at: Time | None


class StoredRecord(KnownFields, StoredFields):
    """A record as it is stored. Of the fields from phone to date_of_birth it has those that are known."""


class Customer(Model):
    """One customer: the sources that have them, and a page of their records in id order."""

    customer_id: CustomerId
    sources: list[str]
    entity_ids: list[int] = Field(description="Who they are by matching; none before the first run")
    records: list[StoredRecord]


class RejectedFiles(Model):
    """Rejected rows of an erased customer that are still in the bucket. A function cuts them out of their files."""

    status: WorkStatus = Field(
        description="done: none is left. failed: it was tried three times; the same request tries it again"
    )
    files: Count = Field(description="Files that are still to be cut")
    rows: Count = Field(description="Rows of the customer in them")
    reason: str | None


class Erasure(Model):
    """What was erased of a customer. `files` are the keys of the files that brought them: these stay in the bucket
    until they expire, at most 1,000 are named. `exports` are the ids of those that were asked for here and are in the
    bucket or being written: any of them may hold the customer, until it expires or its object is deleted."""

    customer_id: CustomerId
    records: Count
    sources: list[str]
    rejected_files: RejectedFiles
    files: list[str]
    exports: list[int] = Field(description="Exports of /api/v1/exports that may hold the customer, at most 1,000")


class Erased(Model):
    """That a customer was erased."""

    message: str
    details: Erasure


class UploadDetails(Model):
    """What an upload stored."""

    count: Count
    upload_id: int


class Uploaded(Model):
    """An upload that was accepted whole."""

    message: str
    details: UploadDetails


class DeletionDetails(Model):
    """What was deleted."""

    deleted_count: Count


class Cleared(Model):
    """That all records were deleted."""

    message: str
    details: DeletionDetails


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


class FileRequest(Question):
    """A file that will be uploaded."""

    filename: Filename
    size: Annotated[int, Field(strict=True, gt=0, le=5 * 1024**3)] | None = Field(
        default=None, description="In bytes; the URL then takes exactly so many"
    )


class UploadRequest(FileRequest):
    """A file that will be uploaded, and adds records."""

    source: Source | None = Field(default=None, description="Whose records these are, where the file does not say")
    mode: Literal["add"] = "add"

    @field_validator("mode", mode="before")
    @classmethod
    def _add(cls, mode: object) -> object:
        if mode == "replace":
            reason = "A snapshot, which replaces records, is uploaded with POST /api/v1/uploads/snapshots"
            raise PydanticCustomError("snapshot", reason)
        return mode


class SnapshotRequest(FileRequest):
    """A file that will be uploaded, and has all of a source's records: they take the place of its others."""

    source: Source = Field(description="Whose records these are")
    mode: Literal["replace"] = "replace"


class ExpectedUpload(Model):
    """Where to PUT the file, until when, and where to see what became of it."""

    id: int
    status: str
    url: str
    method: str
    expires_in: int


class UploadAccount(Model):
    """What became of an upload. came, went and stayed count customers of its sources: new with this upload, gone with
    this snapshot, there before."""

    id: int
    status: Literal["waiting", "loading", "done", "failed", "deleting", "deleted"]
    origin: Literal["api", "s3"]
    mode: Mode
    source: str | None
    object_key: str | None
    rows: Count = Field(description="So far, while it loads")
    accepted: Count
    rejected: Count
    came: Count | None
    went: Count | None
    stayed: Count | None
    reason: str | None
    rejected_url: str | None = Field(
        description="The rejected rows with line, field and reason, as CSV; for 15 minutes"
    )
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class SignIn(Model):
    """Where people sign in by OpenID: the user pool's host, and the client that the page is there."""

    url: str
    client_id: str


class PageConfig(Model):
    """What the page is told of its deployment."""

    sources: tuple[str, ...]
    sign_in: SignIn | None = Field(description="None where nobody signs in, or requests are signed instead")


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


class JobBegun(Model):
    """A job that will be done."""

    id: int
    status: WorkStatus


class JobRegion(Model):
    """How many customers exactly these sources have, in how many records."""

    sources: list[str]
    count: Count
    records: Count


class JobOutput(Model):
    """A file that a job wrote."""

    name: str = Field(description="regions/…, customers/…, rejects/… or files/…, Parquet; summary.json")
    url: str = Field(description="The file, for 15 minutes")


class JobAccount(Model):
    """What became of a job. What it found is there when it is done."""

    id: int
    status: WorkStatus
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


class InvalidField(Model):
    """One thing wrong with a request: where, why, and the kind of error."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(Model):
    """An error, as RFC 9457 shapes it. A validation error lists the first 100 validation errors in `detail`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | list[InvalidField]
    total: Count | None = Field(
        default=None,
        description=f"How many validation errors were found. From {MAX_ERRORS} on there may be more: a list of records "
        "is validated no further than to the record that brings them to that number.",
    )


MAX_SETTINGS = 10_000
"""Values in the settings of a run, those in lists and objects counted: each of them may have an error."""


def _of_a_sensible_size(settings: Any) -> Any:
    count, inside = 0, [settings]
    while inside:
        value = inside.pop()
        count += 1
        if count > MAX_SETTINGS:
            raise PydanticCustomError("too_long", f"At most {MAX_SETTINGS:,} values are taken, those in lists included")
        if isinstance(value, dict | list):
            inside += value.values() if isinstance(value, dict) else value
    return settings


class RunRequest(Question):
    """A run of the matching."""

    settings: Annotated[dict[str, Any], BeforeValidator(_of_a_sensible_size)] = Field(
        default={}, description="In place of the defaults: objects are laid over them, all else replaces"
    )

    @field_validator("settings")
    @classmethod
    def _mean_something(cls, settings: dict[str, Any]) -> dict[str, Any]:
        from dedup.match_settings import Settings  # the one operation that needs them

        Settings.over(settings)
        # In one order: a repeat is one whichever way its client orders them.
        ordered: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
        return ordered


class RunBegun(Model):
    """A run that waits to begin."""

    id: int
    status: WorkStatus


class ModelInfo(Model):
    """What the run knew of how alike one person's records are."""

    model_config = ConfigDict(extra="allow")

    version: str


class WeightBar(Model):
    """Scored pairs whose match weight is from here to one more."""

    weight: int
    pairs: Count


class NearPair(Model):
    """Two records near the threshold."""

    record_a: int
    record_b: int
    weight: float
    probability: float


class MatchRun(Model):
    """A run of the matching. `in_force`: its entities are those that are asked about."""

    id: int
    status: WorkStatus
    reason: str | None
    engine: Literal["duckdb", "spark"] | None
    progress: float = Field(ge=0, le=1)
    stage: str | None
    in_force: bool
    records: Count | None
    pairs: Count | None = Field(description="Pairs that were scored")
    entities: Count | None
    model: ModelInfo | None
    histogram: list[WeightBar]
    near_threshold: list[NearPair]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class ChangedEntity(Model):
    """An entity whose records had several in the other run."""

    entity_id: int
    record_ids: list[int]


class RunChanges(Model):
    """What changed between two runs, of the records that both know: the first hundred of each, and how many."""

    came_together: list[ChangedEntity]
    came_apart: list[ChangedEntity]
    came_together_count: Count
    came_apart_count: Count


class EntitySummary(Model):
    """A person: how many records there are, with which ids, from where, and what survives of them."""

    id: int
    records: Count
    customer_ids: list[int]
    sources: list[str]
    golden: dict[str, str]


class GoldenField(Model):
    """A value that survived, whose it is, and the rule that decided: `only` where there was no other value."""

    value: str
    record_id: int
    source: str
    rule: str


class FieldWeight(Model):
    """What one comparison adds to the match weight."""

    field: str
    level: str
    weight: float


class EntityEdge(Model):
    """Why two records are one: a rule, or the match weight field by field. `weight` also has the prior's."""

    record_a: int
    record_b: int
    rule: str | None
    weight: float | None
    probability: float | None
    fields: list[FieldWeight]


class Decision(Model):
    """What someone said of records."""

    id: int
    record_ids: list[int]
    verdict: Literal["same", "different"]
    note: str | None
    decided_by: str
    created_at: Time
    revoked_at: Time | None
    revoked_by: str | None


class Entity(Model):
    """A person with their records, the golden record, why the records belong together, and what was said of them. Of
    more than 500 records those are shown that repeat no other, and the latest; of more than 2,000 edges, those that
    join."""

    id: int
    total_records: Count
    records: list[StoredRecord]
    golden: dict[str, GoldenField]
    edges: list[EntityEdge]
    decisions: list[Decision]


class LookupRecord(KnownFields, Question):
    """One record, of which anything may be known."""

    customer_id: CustomerId | None = None
    source: Source | None = None
    name: Name | None = Field(default=None, repr=False)
    email: Annotated[str, Field(max_length=320, json_schema_extra=PLAIN), AfterValidator(without_controls)] | None = (
        Field(default=None, repr=False)
    )


class Match(Model):
    """An entity that the record may be, by its record that is most like it."""

    entity_id: int
    record_id: int
    probability: float
    weight: float
    rule: str | None
    fields: list[FieldWeight]
    golden: dict[str, str]


class Matches(Model):
    """Who the record most likely is, the best first; ten at most."""

    matches: list[Match]


MAX_DECIDED = 20
"""Records that one decision is about."""


class DecisionRequest(Question):
    """That records are one person, or that they are different ones."""

    record_ids: Annotated[
        list[Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]],
        Field(min_length=2, max_length=MAX_DECIDED),
        at_most(MAX_DECIDED),
    ]
    verdict: Literal["same", "different"]
    note: Annotated[str, Field(max_length=1000, json_schema_extra=PLAIN), AfterValidator(without_controls)] | None = (
        None
    )


class ReviewPair(Model):
    """Two records that a person should look at. `guard`: what stood against joining them, or made it doubtful."""

    record_a: StoredRecord
    record_b: StoredRecord
    weight: float | None
    probability: float | None
    guard: str | None
    fields: list[FieldWeight]
