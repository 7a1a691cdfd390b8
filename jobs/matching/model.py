"""A model version: everything that training decides. With it, a run is a function of the records and the decisions.

It is the same for every engine. See docs/explanation/matching.md."""

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal, Self

from dedup.matching.scoring import ELSE
from dedup.matching.settings import Comparison, Settings
from pydantic import BaseModel, ConfigDict

DEFAULT_MODEL = files("jobs.matching") / "model.json"

Waived = Literal["vetoes", "contradictions"]
"""A constraint that a model version may waive, see jobs.matching.preparation.waived_constraints."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LevelWeights(_Frozen):
    """The probability of a comparison level: `m` among matches, `u` among pairs that do not match; None if unknown."""

    label: str
    m: float | None
    u: float | None


class Model(_Frozen):
    """A model version, but for its term frequencies, of which it has the digest. It contains no personal data, and does
    not depend on an engine."""

    prior: float
    """The probability that two random records match."""
    comparisons: dict[str, tuple[LevelWeights, ...]]
    """How often each comparison level occurs among matches and among other pairs, by comparison."""
    records: int
    """Number of records of the run that trained it. The more, the more rare values count."""
    waived: tuple[Waived, ...] = ()
    """The constraints that do not apply, because the records show no households."""
    terms: str | None = None
    """A digest of the term frequencies, with which their values are hashed; None if it has none: no value is more
    common than others."""

    @property
    def version(self) -> str:
        """The first twelve hexadecimal digits of the content's SHA-256."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @classmethod
    def load(cls, path: Traversable = DEFAULT_MODEL) -> Self:
        """The model of a file. Raises OSError or pydantic.ValidationError."""
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """The model of the content of such a file. Raises pydantic.ValidationError."""
        return cls.model_validate({name: value for name, value in content.items() if name != "version"})

    @classmethod
    def default(cls) -> Self | None:
        """The default model, or None if its file does not exist: benchmarks.matching.teach makes it."""
        return cls.load() if DEFAULT_MODEL.is_file() else None

    def text(self) -> str:
        """The content of a file of this model."""
        return json.dumps({"version": self.version, **self.model_dump(mode="json")}, indent=2) + "\n"

    def shrunk_towards(self, default: "Model | None", settings: Settings) -> "Model":
        """This model, with `m` averaged with that of the default model, which counts as `weight_of_default` matches,
        and with the default's `u` for levels that never occurred. No level gets a probability of 0: few records may
        just not contain one."""
        pairs = self.prior * self.records * (self.records - 1) / 2
        weight = settings.training.weight_of_default / max(pairs + settings.training.weight_of_default, 1)
        least = 0.5 / settings.training.max_pairs
        comparisons = {}
        for comparison in settings.comparisons:
            own = self.weights(comparison)
            others = (default and default.weights(comparison)) or own
            if own is None or others is None:
                continue
            levels = [
                LevelWeights(label=a.label, m=_weighted_mean(a.m, b.m, weight), u=max(a.u or b.u or 0.0, least))
                for a, b in zip(own, others, strict=True)
            ]
            total = sum(level.m for level in levels if level.m is not None)
            comparisons[comparison.name] = (
                tuple(
                    level.model_copy(update={"m": max(round((level.m or 0.0) / total, 10), least)}) for level in levels
                )
                if total
                else tuple(levels)
            )
        return self.model_copy(update={"comparisons": comparisons})

    def weights(self, comparison: Comparison) -> tuple[LevelWeights, ...] | None:
        """The weights of a comparison's levels, `else` last; None if the model was trained for other levels."""
        found = self.comparisons.get(comparison.name, ())
        expected = [*(level.label for level in comparison.levels), ELSE]
        return found if [level.label for level in found] == expected else None


def _weighted_mean(own: float | None, other: float | None, weight: float) -> float | None:
    """The mean of two values, `other` with a weight from 0 to 1; the known one if one is None."""
    if own is None or other is None:
        return other if own is None else own
    return (1 - weight) * own + weight * other
