"""Request and response models of matching runs, review and decisions."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from dedup.api.models.common import Count, Model, Question, TaskStatus, Time
from dedup.api.models.customers import StoredRecord
from dedup.records import PLAIN, without_controls
from dedup.validation import at_most

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
        from dedup.matching.settings import Settings

        Settings.over(settings)
        # In one order: a repeat is one whichever way its client orders them.
        ordered: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
        return ordered


class RunCreated(Model):
    """A run that waits to begin."""

    id: int
    status: TaskStatus


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
    """A run of the matching. `active`: its entities are those that are asked about."""

    id: int
    status: TaskStatus
    reason: str | None
    engine: Literal["duckdb", "spark"] | None
    progress: float = Field(ge=0, le=1)
    stage: str | None
    active: bool
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

    merged: list[ChangedEntity]
    split: list[ChangedEntity]
    merged_count: Count
    split_count: Count


class FieldWeight(Model):
    """What one comparison adds to the match weight."""

    field: str
    level: str
    weight: float


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
    dormant: bool = Field(
        description="Fewer than two of its records are there: it says nothing until others of the same source and "
        "customer come"
    )


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
    """Two records that a person should look at. `constraint_name`: what stood against joining them, or made it
    doubtful."""

    record_a: StoredRecord
    record_b: StoredRecord
    weight: float | None
    probability: float | None
    constraint_name: str | None
    fields: list[FieldWeight]
