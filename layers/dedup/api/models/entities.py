"""Request and response models of the entities operations."""

from typing import Annotated

from pydantic import AfterValidator, Field

from dedup.api.models.common import AsOf, Count, Model, RequestModel, Unresolved
from dedup.api.models.customers import StoredRecord
from dedup.api.models.matching import Decision, FieldWeight
from dedup.records import PLAIN, CustomerId, KnownFields, Name, Source, without_controls


class EntitySummary(Model):
    """An entity in a list: the number of its records, their customer ids and sources, and its golden record without
    attributes."""

    id: int
    records: Count
    customer_ids: list[CustomerId]
    sources: list[str]
    golden: dict[str, str]


class GoldenField(Model):
    """A field of the golden record: the chosen value, the record and source that it comes from, and the survivorship
    rule that chose it (`only` if there was no other value)."""

    value: str
    record_id: int
    source: str
    rule: str


class EntityEdge(Model):
    """The evidence that joins two records: a match rule, or the match weight of each comparison. `weight` is their sum
    and includes the prior."""

    record_a: int
    record_b: int
    rule: str | None
    weight: float | None
    probability: float | None
    fields: list[FieldWeight]


class Entity(Model):
    """An entity with its records, its golden record, the edges that join its records, and the decisions about them. Of
    more than 500 records, or 2 MB, the representatives and the latest are shown; of more than 2,000 edges, those that
    join records. `golden` also has `attributes.NAME` of the attributes that most records have, at most 50."""

    id: int
    total_records: Count
    records: list[StoredRecord]
    golden: dict[str, GoldenField]
    edges: list[EntityEdge]
    decisions: list[Decision]
    as_of: AsOf
    unresolved_records: Unresolved


class LookupRecord(KnownFields, RequestModel):
    """The details to look up. All fields are optional."""

    customer_id: CustomerId | None = None
    source: Source | None = None
    name: Name | None = Field(default=None, repr=False)
    email: Annotated[str, Field(max_length=320, json_schema_extra=PLAIN), AfterValidator(without_controls)] | None = (
        Field(default=None, repr=False)
    )


class Match(Model):
    """An entity that matches, with the score of its most similar record."""

    entity_id: int
    record_id: int
    probability: float
    weight: float
    rule: str | None
    fields: list[FieldWeight]
    golden: dict[str, str]


class Matches(Model):
    """The entities that match best, at most ten, the best first."""

    matches: list[Match]
    as_of: AsOf
    unresolved_records: Unresolved
