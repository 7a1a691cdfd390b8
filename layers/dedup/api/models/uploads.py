"""Request and response models of the uploads operations."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from dedup.api.models.common import Count, Model, Question, Time
from dedup.records import Source, without_controls

Mode = Literal["add", "replace"]

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


class CustomerChanges(Model):
    """Customers of an upload's sources: new with it, gone with it (of a snapshot), and there before."""

    added: Count
    removed: Count
    unchanged: Count


class UploadStatus(Model):
    """The status of an upload, and what it did to the customers of its sources."""

    id: int
    status: Literal["waiting", "loading", "done", "failed", "deleting", "deleted"]
    origin: Literal["api", "s3"]
    mode: Mode
    source: str | None
    object_key: str | None
    rows: Count = Field(description="So far, while it loads")
    accepted: Count
    rejected: Count
    customers: CustomerChanges | None
    reason: str | None
    rejected_url: str | None = Field(
        description="The rejected rows with line, field and reason, as CSV; for 15 minutes"
    )
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
