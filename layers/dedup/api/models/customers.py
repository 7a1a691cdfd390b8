"""Request and response models of the customers operations."""

from pydantic import Field

from dedup.api.models.common import Count, Model, TaskStatus, Time
from dedup.records import CustomerId, Email, KnownFields, Name


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

    status: TaskStatus = Field(
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
