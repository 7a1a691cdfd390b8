"""Everything that says how records are matched, typed: one file for every engine. See docs/matching.md."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dedup.normalise import COLUMNS, Conventions, MailProvider
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DEFAULT = Path(__file__).with_name("settings.json")
DEFAULT_MODEL = Path(__file__).with_name("model.json")

IDENTITY = ("customer_id", "source")
"""Columns of a record, beside the normalised ones, that rules and blocks may name."""


def _known(column: str) -> str:
    if column not in (*COLUMNS, *IDENTITY):
        raise ValueError(f"column {column!r}: expected one of {', '.join((*COLUMNS, *IDENTITY))}")
    return column


def _key(part: str) -> str:
    column, colon, length = part.partition(":")
    if colon and not length.isdigit():
        raise ValueError(f"{part!r}: expected a column, or column:N for its first N letters")
    _known(column)
    return part


Column = Annotated[str, AfterValidator(_known)]
Key = Annotated[str, AfterValidator(_key)]
"""A column, or `column:N`: its first N letters."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Provider(_Model):
    """A mail provider's rule; see dedup.normalise.MailProvider."""

    domain: str | None = None
    dots: bool = True
    tag: str | None = None


class Normalising(_Model):
    """What normalising is told; see dedup.normalise.Conventions."""

    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    providers: dict[str, Provider]
    placeholder_dates: frozenset[str]

    @model_validator(mode="after")
    def _one_rule_per_provider(self) -> Self:
        for domain, rule in self.providers.items():
            if rule.domain and self.providers.get(rule.domain, rule).model_copy(update={"domain": rule.domain}) != rule:
                raise ValueError(f"providers: {domain} and {rule.domain} are one provider and need one rule")
        return self

    def conventions(self) -> Conventions:
        """The same, as the layer takes it."""
        providers = {domain: MailProvider(**rule.model_dump()) for domain, rule in self.providers.items()}
        return Conventions(self.region, providers, self.placeholder_dates)


class Rule(_Model):
    """Two records that agree in all of `equal`, and don't contradict each other in `unless_different`, are one."""

    name: Name
    equal: Annotated[tuple[Key, ...], Field(min_length=1)]
    unless_different: tuple[Column, ...] = ()


class Level(_Model):
    """How alike two values may be: all of its conditions hold. The first level that holds counts."""

    label: Annotated[str, Field(min_length=1)]
    equal: tuple[Key, ...] = ()
    swapped: tuple[Column, Column] | None = None
    """Each is like the other record's other, by Jaro-Winkler 0.88 at least."""
    initial: Column | None = None
    """One record has the other's first letter and no more."""
    jaro_winkler: dict[Column, Annotated[float, Field(gt=0, le=1)]] = {}
    """At least this similar; 1 is equal."""
    levenshtein: dict[Column, Annotated[int, Field(gt=0)]] = {}
    """At most this many letters changed."""
    term_frequency: Column | None = None
    """The column whose rare values say more than its common ones, here where it is equal."""


class Comparison(_Model):
    """One thing that two records are compared in. Says nothing where one of them has none of `columns`."""

    name: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    """The most alike first; a last one, for all else, is added."""


class Block(_Model):
    """Pairs that agree in all of `equal` are scored, unless more than `at_most` records have the same."""

    equal: Annotated[tuple[Key, ...], Field(min_length=1)]
    at_most: Annotated[int, Field(ge=2)] = 60


class Veto(_Model):
    """A scored pair is no match, whatever its weight, where all comparisons of `differ` are at their `else` and none of
    `unless` is at one of the levels named there. It goes to review instead."""

    name: Name
    differ: Annotated[tuple[Name, ...], Field(min_length=1)]
    unless: dict[Name, tuple[str, ...]]


class Training(_Model):
    """How the model learns from the records themselves."""

    from_records: Annotated[int, Field(ge=0)]
    """Fewer records than this teach nothing dependable: the given model is used as it is."""
    passes: Annotated[tuple[tuple[Column, ...], ...], Field(min_length=1)]
    """Each pass of EM looks at pairs that agree in these columns, and learns all comparisons but those."""
    pass_needs_pairs: Annotated[int, Field(ge=1)]
    max_pairs: Annotated[int, Field(ge=1000)]
    """Pairs of random records, and pairs per pass, at most."""
    weight_of_default: Annotated[float, Field(ge=0)]
    """The default model counts as much as so many true pairs: it speaks where the records have few for a level."""
    recall_of_rules: Annotated[float, Field(gt=0, le=1)]
    """Which part of all true pairs the rules are taken to find: it says how likely two random records are one."""
    seed: int


class Thresholds(_Model):
    """Match weights: log2 of the odds that two records are one. 0 is even, 10 about a thousand to one."""

    keep: float
    """Scored pairs below it are not kept, and not in the histogram."""
    review: float
    """From here to `confident`, people are asked."""
    match: float
    """From here, two records are one."""
    confident: float

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.keep <= self.review <= self.match <= self.confident:
            raise ValueError("thresholds: expected keep <= review <= match <= confident")
        return self


class Households(_Model):
    """Whether different people of one family name live at one address in these records. Of the pairs that share both,
    and know both their given names and their birth dates, the part in which both differ says so."""

    from_pairs: Annotated[int, Field(ge=0)]
    """Fewer such pairs say nothing: households are taken to be there."""
    at_least: Annotated[float, Field(ge=0, le=1)]
    """Where both differ in a smaller part, there are none: two names at one address are one person's."""


class Guards(_Model):
    """What keeps one shared value from making a thousand people one."""

    max_entity: Annotated[int, Field(ge=2)]
    """Records of one entity at most."""
    max_rule_block: Annotated[int, Field(ge=2)]
    """A value that more records share than this is nobody's own: no rule uses it."""
    personal: tuple[Column, ...] = ()
    """Columns whose values are one person's own, or a household's."""
    max_names: Annotated[int, Field(ge=1)] = 4
    """A value of a personal column that people of more given names have is a company's: it is not compared at all."""
    contradictions: tuple[Literal["date_of_birth", "given"], ...]
    """What keeps two records apart that only others join: see dedup.clusters.Facts."""
    vetoes: tuple[Veto, ...] = ()
    doubts: tuple[Veto, ...] = ()
    """As vetoes, but the pair is a match all the same: people are asked about it afterwards."""
    households: Households
    """Where these records have none, vetoes and contradictions do not apply."""


Survives = Literal["most_recent", "most_complete", "most_trusted", "most_common"]


class Survivorship(_Model):
    """What the golden record takes from whom; see dedup.golden. What is not said here is as that has it."""

    trusted: tuple[str, ...] = ()
    """Sources, the most trusted first."""
    default: Annotated[tuple[Survives, ...], Field(min_length=1)] = ("most_trusted", "most_recent", "most_complete")
    fields: dict[str, Annotated[tuple[Survives, ...], Field(min_length=1)]] = {}


class Settings(_Model):
    """All of it."""

    normalising: Normalising
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    blocking: Annotated[tuple[Block, ...], Field(min_length=1)]
    comparisons: Annotated[tuple[Comparison, ...], Field(min_length=1)]
    training: Training
    thresholds: Thresholds
    guards: Guards
    tiers: Annotated[tuple[str, ...], Field(min_length=1)] = ("rules", "model")
    survivorship: Survivorship = Survivorship()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("rule", (rule.name for rule in self.rules))
        _unique("comparison", (comparison.name for comparison in self.comparisons))
        for comparison in self.comparisons:
            _unique(f"level of {comparison.name}", (level.label for level in comparison.levels))
        levels = {c.name: {level.label for level in c.levels} for c in self.comparisons}
        for veto in (*self.guards.vetoes, *self.guards.doubts):
            wrong = {*veto.differ, *veto.unless} - levels.keys()
            wrong |= {label for name, labels in veto.unless.items() for label in set(labels) - levels.get(name, set())}
            if wrong:
                raise ValueError(f"veto {veto.name!r}: no comparison or level named {', '.join(sorted(wrong))}")
        if not set(self.tiers) <= {"rules", "model"}:
            raise ValueError("tiers: expected 'rules', 'model' or both")
        return self

    @classmethod
    def load(cls, path: Path = DEFAULT) -> Self:
        """The settings in a file. Raises OSError, or pydantic.ValidationError, which names the field and the reason."""
        return cls.model_validate_json(path.read_text())

    @classmethod
    def over(cls, asked: Mapping[str, Any]) -> Self:
        """The default settings with others in place of some: objects are laid over one another, all else is replaced.
        Raises pydantic.ValidationError."""
        return cls.model_validate(_laid_over(json.loads(DEFAULT.read_text()), asked))


def _laid_over(under: Any, over: Any) -> Any:
    if not isinstance(under, dict) or not isinstance(over, Mapping):
        return over
    return under | {name: _laid_over(under.get(name), value) for name, value in over.items()}


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} is there twice")
        seen.add(name)


class LevelWeights(_Model):
    """How often a level is seen: `m` among pairs that are one person, `u` among pairs that are not."""

    label: str
    m: float | None
    u: float | None


class Model(_Model):
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
    def load(cls, path: Path = DEFAULT_MODEL) -> Self:
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


ELSE = "else"
"""The label of the level that is added to every comparison."""
