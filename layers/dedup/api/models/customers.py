"""Request and response models of the customers operations."""

from pydantic import Field

from dedup.api.models.common import Count, Model, TaskStatus, Time
from dedup.records import CustomerId, FurtherFields, KnownFields, Name


class StoredFields(Model):
    """The fields that every stored record has."""

    id: int
    customer_id: CustomerId
    name: Name | None = Field(description="Null if it is unknown")
    email: str | None = Field(description="Null if it is unknown. An address from a file may not be valid")
    source: str
    created_at: Time
    updated_at: Time | None


class StoredRecord(FurtherFields, KnownFields, StoredFields):
    """A stored record. Optional fields without a value are omitted."""

    emails: list[str] | None = Field(
        default=None, description="All emails, if there is more than one. Those from a file may not be valid"
    )
    phones: list[str] | None = Field(default=None, description="All phones, if there is more than one")


class Customer(Model):
    """A customer: the sources that have the customer, and one page of its records in id order."""

    customer_id: CustomerId
    sources: list[str]
    entity_ids: list[int] = Field(description="Entities of the customer's records; empty before the first matching run")
    records: list[StoredRecord]


class RejectedFiles(Model):
    """Rejected rows of an erased customer that are still in files in the bucket. They are removed asynchronously."""

    status: TaskStatus = Field(
        description="`done`: no rows are left. `failed`: three attempts failed; repeat the request to try again"
    )
    files: Count = Field(description="Number of files that still contain rows of the customer")
    rows: Count = Field(description="Number of rows of the customer in these files")
    reason: str | None


class Erasure(Model):
    """What was erased of a customer, and where the customer's data may still be stored."""

    customer_id: CustomerId
    records: Count
    sources: list[str]
    rejected_files: RejectedFiles
    files: list[str] = Field(
        description="Keys of uploaded files that contain the customer, at most 1,000. They stay in the bucket until "
        "they expire"
    )
    exports: list[int] = Field(
        description="Ids of exports that may contain the customer, at most 1,000. Their files stay in the bucket until "
        "they expire or are deleted"
    )


class Erased(Model):
    """The result of erasing a customer."""

    message: str
    details: Erasure


class UploadDetails(Model):
    """The number of stored records, and the id of their upload."""

    count: Count
    upload_id: int


class Uploaded(Model):
    """The result of a bulk upload."""

    message: str
    details: UploadDetails


class DeletionDetails(Model):
    """The number of deleted records."""

    deleted_count: Count


class Cleared(Model):
    """The result of a deletion."""

    message: str
    details: DeletionDetails
