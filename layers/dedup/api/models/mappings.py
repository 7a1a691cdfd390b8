"""Request and response models of column mappings."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from dedup.api.models.common import Count, Model, RequestModel, Time
from dedup.files.mapping import FIELDS, MAX_MAPPED, MAX_NAME, ColumnMapping
from dedup.moments import DateOrder
from dedup.records import MAX_ATTRIBUTES, PLAIN, Source, one_of, without_controls


def _known_field(value: str) -> str:
    if value not in FIELDS:
        raise PydanticCustomError("enum", "Input should be {expected}", {"expected": one_of(FIELDS)})
    return value


MappedField = Annotated[str, AfterValidator(_known_field), Field(json_schema_extra={"enum": [*FIELDS]})]
"""What a column may be mapped to."""

ColumnName = Annotated[
    str, Field(min_length=1, max_length=MAX_NAME, json_schema_extra=PLAIN), AfterValidator(without_controls)
]


class IdColumn(RequestModel):
    """The ids are the values of a column, beside the field that it feeds. An email address is used in lower case."""

    column: ColumnName


class GeneratedIds(RequestModel):
    """The ids are made from the content of each row: the same row has the same id in every file of the source."""

    generate: Literal[True]


class StatedMapping(RequestModel):
    """Which column feeds which field."""

    columns: dict[ColumnName, MappedField] = Field(
        max_length=MAX_MAPPED,
        # The names have a pattern, which JSON Schema says as patternProperties.
        json_schema_extra={"additionalProperties": False},
        description="The field of each column, or `ignore`. Columns that are not named are ignored",
    )
    id: IdColumn | GeneratedIds | None = Field(
        default=None, description="Where the ids come from, if no column is mapped to customer_id"
    )
    date_order: DateOrder | None = Field(
        default=None, description="Order of day, month and year. Without it, the values of the column decide"
    )
    keep: list[ColumnName] = Field(
        default=[], max_length=MAX_ATTRIBUTES, description="Columns that are kept as attributes of the records"
    )

    def mapping(self) -> ColumnMapping:
        """The mapping that the request states."""
        stated = self.model_dump(include={"columns", "id", "date_order", "keep"})
        return ColumnMapping.from_json({**stated, "keep": list(dict.fromkeys(self.keep))})


class SavedMappingRequest(StatedMapping):
    """A mapping for later files of a source. `columns` names every column of these files, with `ignore` for those that
    feed no field."""


class MappingRequest(StatedMapping):
    """The mapping of an upload's file."""

    source: Source | None = Field(default=None, description="Source of all rows, if the upload has none")
    save: bool = Field(default=False, description="Use the mapping for later files of the source with the same columns")


class PreviewedRow(Model):
    """A row that would be rejected."""

    line: int
    field: str
    reason: str


class MappingPreview(Model):
    """The first records as they would be stored."""

    records: list[dict[str, Any]]
    rejected: list[PreviewedRow]


class MappingDetails(Model):
    """Which column feeds which field."""

    columns: dict[str, str]
    id: dict[str, Any] | None
    date_order: DateOrder | None
    keep: list[str]


class SavedMapping(Model):
    """A mapping that is used for files of a source with these columns."""

    id: int
    source: str
    header: list[str] = Field(description="Column names of the files, which may be in any order and spelling")
    mapping: MappingDetails
    saved_by: str
    saved_at: Time


class DeletedMappings(Model):
    """How many saved mappings were deleted."""

    deleted_count: Count
