"""What a run has learnt of how alike the records of one person are, typed: one file for every engine.

See docs/explanation/matching.md."""

import hashlib
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Self

from dedup.matching.scoring import ELSE
from dedup.matching.settings import Comparison, Settings
from pydantic import BaseModel, ConfigDict

DEFAULT_MODEL = files("jobs") / "model.json"


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LevelWeights(_Kept):
    """How often a level is seen: `m` among pairs that are one person, `u` among pairs that are not."""

    label: str
    m: float | None
    u: float | None


class Model(_Kept):
    """What was learnt, without anything of an engine or of a person: it can be kept, compared, and used again."""

    prior: float
    """How likely two random records are one."""
    comparisons: dict[str, tuple[LevelWeights, ...]]
    records: int
    """How many it was learnt from."""

    @property
    def version(self) -> str:
        """Tells one model from another: twelve hexadecimal digits of SHA-256 over its content."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @classmethod
    def load(cls, path: Traversable = DEFAULT_MODEL) -> Self:
        """The model in a file. Raises OSError or pydantic.ValidationError."""
        content: dict[str, Any] = json.loads(path.read_text())
        content.pop("version", None)
        return cls.model_validate(content)

    def text(self) -> str:
        """The file's content, its version first."""
        return json.dumps({"version": self.version, **self.model_dump(mode="json")}, indent=2) + "\n"

    def leaning_on(self, default: "Model | None", settings: Settings) -> "Model":
        """This model, its m pulled towards the default's by `weight_of_default` true pairs, its u too where nothing was
        seen, and no level impossible: an event that few records happened not to have is not one that can't be."""
        pairs = self.prior * self.records * (self.records - 1) / 2
        weight = settings.training.weight_of_default / max(pairs + settings.training.weight_of_default, 1)
        least = 0.5 / settings.training.max_pairs
        comparisons = {}
        for comparison in settings.comparisons:
            mine = self.weights(comparison)
            theirs = (default and default.weights(comparison)) or mine
            if mine is None or theirs is None:
                continue
            levels = [
                LevelWeights(label=a.label, m=_lean(a.m, b.m, weight), u=max(a.u or b.u or 0.0, least))
                for a, b in zip(mine, theirs, strict=True)
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
        """Those of a comparison's levels, the added last one too; None where the model was made for other levels."""
        found = self.comparisons.get(comparison.name, ())
        expected = [*(level.label for level in comparison.levels), ELSE]
        return found if [level.label for level in found] == expected else None


def _lean(mine: float | None, theirs: float | None, weight: float) -> float | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return (1 - weight) * mine + weight * theirs
