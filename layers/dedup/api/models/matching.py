"""Request and response models of matching runs, review and decisions."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from dedup.api.models.common import AsOf, Count, Model, RequestModel, TaskStatus, Time, Unresolved
from dedup.api.models.customers import StoredRecord
from dedup.records import PLAIN, without_controls
from dedup.validation import at_most

MAX_SETTINGS = 10_000
"""Most values in the settings of a run, including those in lists and objects. Each may produce a validation error."""


def _limit_size(settings: Any) -> Any:
    count, inside = 0, [settings]
    while inside:
        value = inside.pop()
        count += 1
        if count > MAX_SETTINGS:
            raise PydanticCustomError(
                "too_long", f"Settings can have at most {MAX_SETTINGS:,} values, including those in lists and objects"
            )
        if isinstance(value, dict | list):
            inside += value.values() if isinstance(value, dict) else value
    return settings


class RunRequest(RequestModel):
    """How a matching run is to be done."""

    settings: Annotated[dict[str, Any], BeforeValidator(_limit_size)] = Field(
        default={},
        description="Settings that differ from the defaults. Objects are merged with the default objects; other values "
        "replace the defaults",
    )
    model_of: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)] | None = Field(
        default=None,
        description="The id of a run whose settings and model version are used unchanged, instead of training a model. "
        "Not together with `settings`",
    )
    activate: Annotated[bool, Field(strict=True)] = Field(
        default=True,
        description="Whether the run becomes the active run when it is done. Otherwise it is kept for comparison and "
        "can be activated later",
    )

    @field_validator("settings")
    @classmethod
    def _validate_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        from dedup.matching.settings import Settings

        Settings.over(settings)
        # Sorted, so that the digest for Idempotency-Key does not depend on the order of the keys.
        ordered: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
        return ordered


class RunCreated(Model):
    """A matching run that was created."""

    id: int
    status: TaskStatus


class ModelInfo(Model):
    """The match model of a run."""

    model_config = ConfigDict(extra="allow")

    version: str


class WeightBar(Model):
    """A bar of the histogram: the number of scored pairs with a match weight from `weight` to `weight` + 1."""

    weight: int
    pairs: Count


class NearPair(Model):
    """A pair of records with a match weight near the threshold."""

    record_a: int
    record_b: int
    weight: float
    probability: float


class MatchRun(Model):
    """A matching run. The entities of the active run are the ones that all operations use."""

    id: int
    status: TaskStatus
    reason: str | None
    engine: Literal["duckdb", "spark"] | None
    progress: float = Field(ge=0, le=1)
    stage: str | None
    active: bool
    kept: bool = Field(description="Whether its entities are kept, so that it can be compared and activated")
    automatic: bool = Field(description="Whether the resolver started it, and may replace it by another")
    model_of: int | None = Field(description="The run whose settings and model version were used")
    records: Count | None
    pairs: Count | None = Field(description="Number of scored pairs")
    entities: Count | None
    model: ModelInfo | None
    histogram: list[WeightBar]
    near_threshold: list[NearPair]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class ChangedEntity(Model):
    """An entity whose records belonged to several entities in the other run."""

    entity_id: int
    record_ids: list[int]


class RunChanges(Model):
    """Entities that were merged or split between two runs: the first hundred of each, and how many there are."""

    merged: list[ChangedEntity]
    split: list[ChangedEntity]
    merged_count: Count
    split_count: Count


class FieldWeight(Model):
    """The match weight of one comparison."""

    field: str
    level: str
    weight: float


class Decision(Model):
    """The decision that records are the same person, or different people."""

    id: int
    record_ids: list[int]
    verdict: Literal["same", "different"]
    note: str | None
    decided_by: str
    created_at: Time
    revoked_at: Time | None
    revoked_by: str | None
    dormant: bool = Field(
        description="Fewer than two of its records exist. It has no effect until other records of the same source and "
        "customer are added"
    )
    applied: bool | None = Field(
        description="Whether the entities of the active run respect it. False until the resolver has applied it, and "
        "if it contradicts other decisions: records that are different people are never joined. Null if it has no "
        "effect, or no run is active"
    )


MAX_DECIDED = 20
"""Most records in one decision."""


class DecisionRequest(RequestModel):
    """A decision about two or more records."""

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
    """A pair of records for clerical review."""

    record_a: StoredRecord
    record_b: StoredRecord
    weight: float | None
    probability: float | None
    constraint_name: str | None = Field(
        description="The constraint that kept the records apart, or the review flag of the pair; null if only its "
        "weight is uncertain"
    )
    fields: list[FieldWeight]


class MatchingStatus(Model):
    """How far the entities of the active run are up to date."""

    run: int
    model_version: str | None = Field(description="The version of the run's match model")
    as_of: AsOf
    unresolved_records: Unresolved
    oldest_seconds: float = Field(ge=0, description="Age of the first change that is not resolved; 0 if there is none")
    rate: float | None = Field(ge=0, description="Records per second of the latest batch; null before the first")
