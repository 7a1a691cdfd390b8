"""Request and response models of the entities operations."""

from typing import Annotated

from pydantic import AfterValidator, Field

from dedup.api.models.common import Count, Model, Question
from dedup.api.models.customers import StoredRecord
from dedup.api.models.matching import Decision, FieldWeight
from dedup.records import PLAIN, CustomerId, KnownFields, Name, Source, without_controls


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


class EntityEdge(Model):
    """Why two records are one: a rule, or the match weight field by field. `weight` also has the prior's."""

    record_a: int
    record_b: int
    rule: str | None
    weight: float | None
    probability: float | None
    fields: list[FieldWeight]


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
