"""Request and response models of the uploads operations."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from dedup.api.models.common import Count, Model, RequestModel, Time
from dedup.api.models.customers import StoredRecord
from dedup.moments import DateOrder
from dedup.records import PLAIN, CustomerId, FurtherFields, KnownFields, Source, without_controls

Mode = Literal["add", "replace", "upsert"]

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


class FileRequest(RequestModel):
    """A file to upload."""

    filename: Filename
    size: Annotated[int, Field(strict=True, gt=0, le=5 * 1024**3)] | None = Field(
        default=None, description="Size in bytes. If given, the URL accepts a file of exactly this size only"
    )
    sheet: (
        Annotated[str, Field(min_length=1, max_length=255, json_schema_extra=PLAIN), AfterValidator(without_controls)]
        | None
    ) = Field(default=None, description="Name of the sheet to read of a workbook. By default, the first with a table")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        default=None,
        description="SHA-256 of the file in hexadecimal digits. If given, the response says whether the same content "
        "was loaded before",
    )
    strict: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Reject rows whose email is not a valid address. By default, they are accepted with a warning",
    )
    review_mapping: bool = Field(
        default=False,
        description="Wait for `PUT /api/v1/uploads/{upload_id}/mapping` before the file is loaded, even if its columns "
        "are certain",
    )
    dry_run: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Only compare the file with the stored records. `POST /api/v1/uploads/{upload_id}/apply` loads it",
    )


class UploadRequest(FileRequest):
    """A file whose records are added."""

    source: Source | None = Field(
        default=None,
        description="Source of all rows. Required if the file has no source column, unless its column names tell that "
        "one of the sources wrote it",
    )
    mode: Literal["add"] = "add"

    @field_validator("mode", mode="before")
    @classmethod
    def _refuse_other_modes(cls, mode: object) -> object:
        if mode == "replace":
            reason = "Replacing records needs a snapshot. Use POST /api/v1/uploads/snapshots"
            raise PydanticCustomError("snapshot", reason)
        if mode == "upsert":
            reason = "Changing records needs a right of its own. Use POST /api/v1/uploads/upserts"
            raise PydanticCustomError("upsert", reason)
        return mode


class SnapshotRequest(FileRequest):
    """A snapshot: a file with all records of a source, which replace its other records."""

    source: Source = Field(description="Source of all rows")
    mode: Literal["replace"] = "replace"


class UpsertRequest(FileRequest):
    """An upsert: a file whose rows replace the record of the same source and id, or are added. Rows that are marked as
    deleted remove it."""

    source: Source = Field(description="Source of all rows")
    mode: Literal["upsert"] = "upsert"


class SameContent(Model):
    """The same content was loaded before for the same source, and its records are still in place. The upload is loaded
    all the same."""

    code: Literal["same_content"]
    upload_id: int = Field(description="The latest upload with the same content")


class ExpectedUpload(Model):
    """An upload that waits for its file."""

    id: int
    status: str
    url: str = Field(description="Presigned URL to send the file to")
    method: str
    expires_in: int = Field(description="Seconds until the URL expires")
    warnings: list[SameContent] = Field(description="Empty unless `sha256` was given and is known")


class CustomerChanges(Model):
    """What an upload did, or would do, to the customers of its sources. Only snapshots and upserts remove customers."""

    added: Count = Field(description="New to their source")
    removed: Count
    unchanged: Count
    new: Count = Field(description="New to all sources: those of `added` that no source had before")


class RecordChanges(Model):
    """What an upload did, or would do, to the records of its sources. Only snapshots and upserts change or remove
    records."""

    added: Count
    changed: Count = Field(description="Records that a snapshot or an upsert changed. They keep their id")
    removed: Count
    unchanged: Count


class RejectionReason(Model):
    """Why rows were rejected. A row may have several reasons."""

    field: str = Field(description="Empty if the row as a whole is not valid")
    reason: str
    rows: Count
    example_line: int = Field(description="Line of the first of these rows; in a JSON array its index, from 1")


class UploadWarning(Model):
    """What was noticed about rows that were not rejected."""

    code: Literal[
        "invalid_email",
        "unreadable_time",
        "ambiguous_time",
        "ambiguous_dates",
        "unreadable_attributes",
        "too_many_emails",
        "too_many_phones",
        "too_many_attributes",
        "long_attribute",
        "deleted_row",
        "unreadable_mark",
    ]
    field: str
    reason: str
    rows: Count
    example_line: int = Field(description="Line of the first of these rows; in a JSON array its index, from 1")


class ExampleRow(FurtherFields, KnownFields, Model):
    """A row that would be added as a record. Optional fields without a value are omitted."""

    customer_id: CustomerId
    name: str | None
    email: str | None
    source: str
    emails: list[str] | None = None
    phones: list[str] | None = None


class FieldChange(Model):
    """The values of a field, null if unknown."""

    from_: Any = Field(alias="from")
    to: Any


class ChangedRecord(Model):
    """A record that would be changed: the fields that differ, by name."""

    id: int
    customer_id: CustomerId
    source: str
    changes: dict[str, FieldChange]


class UploadExamples(Model):
    """Examples of what an upload would do, at most 100 of each kind. Fewer if they are long, and without customers who
    were erased."""

    added: list[ExampleRow]
    changed: list[ChangedRecord]
    removed: list[StoredRecord]


class ExplainedColumn(Model):
    """What a column was taken for."""

    name: str
    field: str | None = Field(description="null: the column is ignored")
    confidence: float = Field(ge=0, le=1)
    reason: str
    samples: list[str] = Field(description="Up to three values, while the upload needs a mapping")


class UploadMapping(Model):
    """The mapping of an upload's file: while the upload needs a mapping, the proposed one."""

    columns: list[ExplainedColumn]
    id: dict[str, Any] | None
    date_order: DateOrder | None
    keep: list[str]


class UploadStatus(Model):
    """The status and results of an upload."""

    id: int
    status: Literal[
        "waiting", "loading", "needs_mapping", "previewed", "held", "done", "failed", "deleting", "deleted"
    ] = Field(
        description="`previewed` and `held`: the file was compared with the stored records and nothing was loaded. "
        "`customers` and `records` say what loading it would do"
    )
    origin: Literal["api", "s3"]
    mode: Mode
    source: str | None
    source_guessed: bool = Field(description="Whether the source was guessed from the column names of the file")
    strict: bool = Field(description="Whether rows whose email is not a valid address are rejected")
    dry_run: bool = Field(description="Whether a preview was requested")
    object_key: str | None
    rows: Count = Field(description="Number of rows read, also while the upload is loading")
    accepted: Count
    rejected: Count
    customers: CustomerChanges | None
    records: RecordChanges | None = Field(description="Null while unknown, and for uploads by the API")
    reason: str | None = Field(
        description="Why the upload failed, needs a mapping or is held; or which rows were left out"
    )
    reasons: list[RejectionReason] = Field(
        description="Why rows of a file were rejected, the most frequent first. Empty until the upload has ended"
    )
    warnings: list[Annotated[UploadWarning | SameContent, Field(discriminator="code")]] = Field(
        description="Warnings about accepted rows of a file, and about a file whose content was loaded before"
    )
    mapping: UploadMapping | None = Field(
        description="What the columns of the file were taken for. If the status is `needs_mapping`, it is proposed, "
        "and `PUT /api/v1/uploads/{upload_id}/mapping` continues the upload. Always null in lists"
    )
    rejected_url: str | None = Field(
        description="Presigned URL of a CSV file with the rejected rows, their line, field and reason; valid for 15 "
        "minutes"
    )
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
