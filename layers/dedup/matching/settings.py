"""Typed settings of matching, the same for every engine. See docs/reference/settings.md."""

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from dedup.matching.golden import ATTRIBUTE, TOGETHER
from dedup.matching.golden import Rule as Survives
from dedup.matching.golden import Survivorship as Plain
from dedup.matching.normalise import COLUMNS, FIELDS
from dedup.matching.rules import IDENTITY
from dedup.validation import Request

DEFAULT = files("dedup.matching") / "settings.json"

MOST = 1_000_000_000
"""Upper limit of all numbers of records or pairs."""

MAX_WEIGHT = 1000
"""Largest absolute match weight of a threshold, so that its odds do not overflow a double."""


def _one_of(columns: tuple[str, ...], *, prefixes: bool = False) -> AfterValidator:
    def check(value: str) -> str:
        column, colon, letters = value.partition(":") if prefixes else (value, "", "")
        if column not in columns:
            raise ValueError(f"{column!r}: expected one of {', '.join(columns)}")
        if colon and not re.fullmatch("[1-9][0-9]?", letters):
            raise ValueError(f"{value!r}: expected a column, or column:N for its first N letters, with N at most 99")
        return value

    return AfterValidator(check)


Column = Annotated[str, _one_of((*COLUMNS, *IDENTITY))]
Columns = Annotated[tuple[Column, ...], Field(min_length=1, max_length=10)]
Compared = Annotated[str, _one_of(COLUMNS)]
"""A column of the normalised values."""
Order = Annotated[tuple[Survives, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("expected a text without NUL characters, which PostgreSQL cannot store")
    return value


Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]


class _Model(Request, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Provider(_Model):
    """How addresses of a mail provider are normalised; see dedup.matching.normalise.MailProvider."""

    domain: Text | None = None
    dots: bool = True
    tag: Text | None = None


class Normalising(_Model):
    """Conventions for normalising values; see dedup.matching.normalise.Conventions."""

    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    providers: dict[Text, Provider]
    # Sorted, so that the same settings are stored as the same text.
    placeholder_dates: Annotated[frozenset[Text], PlainSerializer(sorted, return_type=list[str])]

    @model_validator(mode="after")
    def _one_rule_per_provider(self) -> Self:
        for domain, rule in self.providers.items():
            if rule.domain and self.providers.get(rule.domain, rule).model_copy(update={"domain": rule.domain}) != rule:
                raise ValueError(f"providers: {domain} and {rule.domain} are the same provider and need the same rule")
        return self


class Rule(_Model):
    """A match rule: two records that agree in all columns of `equal` are joined, unless they differ in a column of
    `unless_different`."""

    name: Name
    equal: Columns
    unless_different: tuple[Column, ...] = ()


class Level(_Model):
    """A comparison level. It applies if all of its conditions hold; the first level of a comparison that applies
    counts."""

    label: Annotated[Text, Field(max_length=100)]
    equal: tuple[Annotated[str, _one_of(COLUMNS, prefixes=True)], ...] = ()
    swapped: tuple[Compared, Compared] | None = None
    """Each column is similar to the other record's other column: Jaro-Winkler of at least 0.88."""
    initial: Compared | None = None
    """The value of one record is the first letter of the other's."""
    jaro_winkler: dict[Compared, Annotated[float, Field(gt=0, le=1)]] = {}
    """Minimum similarity of each column; 1 is equal."""
    levenshtein: dict[Compared, Annotated[int, Field(gt=0, le=100)]] = {}
    """Maximum distance of each column."""
    unless_different: tuple[Compared, ...] = ()
    """The level does not apply if both records have a value in one of these columns, and the values differ."""
    term_frequency: Compared | None = None
    """The column with term frequency adjustments: equal rare values weigh more than equal common ones."""

    @property
    def compared(self) -> set[str]:
        """The columns that the level uses."""
        parts = (part.partition(":")[0] for part in self.equal)
        initial = (self.initial,) if self.initial else ()
        return {*parts, *(self.swapped or ()), *initial, *self.jaro_winkler, *self.levenshtein, *self.unless_different}

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.equal or self.swapped or self.initial or self.jaro_winkler or self.levenshtein):
            raise ValueError("expected equal, swapped, initial, jaro_winkler or levenshtein")
        return self


class Comparison(_Model):
    """A comparison of two records. It has no weight if one of them has no value in `columns`."""

    name: Name
    columns: Annotated[tuple[Compared, ...], Field(min_length=1)]
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=50)]
    """The most similar level first. A last level, `else`, is added."""

    @property
    def compared(self) -> set[str]:
        """All columns that the comparison uses."""
        return {*self.columns}.union(*(level.compared for level in self.levels))


class Block(_Model):
    """A blocking rule: pairs that agree in all of `equal` are scored, unless more than `at_most` records agree. An item
    of `equal` is a column, or `column:N` for its first N letters."""

    equal: Annotated[tuple[Annotated[str, _one_of((*COLUMNS, *IDENTITY), prefixes=True)], ...], Field(min_length=1)]
    at_most: Annotated[int, Field(ge=2, le=MOST)] = 60


class Veto(_Model):
    """A constraint that sends a scored pair to review instead of joining it, whatever its weight. It applies if all
    comparisons of `differ` are at their level `else`, both records have different values in all columns of `other`, and
    no comparison of `unless` is at one of the levels listed there."""

    name: Name
    differ: Annotated[tuple[Name, ...], Field(min_length=1)]
    other: tuple[Compared, ...] = ()
    """Columns that the comparisons of `differ` use."""
    unless: dict[Name, tuple[str, ...]]


class Training(_Model):
    """How the match model is trained on the records."""

    from_records: Annotated[int, Field(ge=0, le=MOST)]
    """Minimum number of records for training. With fewer records, the default model is used unchanged."""
    passes: Annotated[tuple[Columns, ...], Field(min_length=1, max_length=50)]
    """Each pass of expectation maximisation uses pairs that agree in these columns, and trains the other
    comparisons."""
    pass_needs_pairs: Annotated[int, Field(ge=1, le=MOST)]
    """Minimum number of pairs of a pass. A pass with fewer pairs is skipped."""
    max_pairs: Annotated[int, Field(ge=1000, le=MOST)]
    """Maximum number of random pairs, and of pairs in each pass."""
    weight_of_default: Annotated[float, Field(ge=0, le=MOST)]
    """The default model has the weight of this number of matching pairs. It dominates levels with few pairs."""
    recall_of_rules: Annotated[float, Field(gt=0, le=1)]
    """Assumed share of all matching pairs that the match rules find, from which the prior is estimated."""
    seed: Annotated[int, Field(ge=1, le=MOST)]


MatchWeight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class Thresholds(_Model):
    """Thresholds as match weights, log2 of the odds that two records match: 0 is even odds, 10 about a thousand to
    one."""

    keep: MatchWeight
    """Scored pairs below this weight are not stored, and not in the histogram."""
    review: MatchWeight
    """Pairs from this weight to `confident` are listed for review."""
    match: MatchWeight
    """Pairs from this weight on are joined."""
    confident: MatchWeight
    """Pairs from this weight on are not listed for review."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.keep <= self.review <= self.match <= self.confident:
            raise ValueError("thresholds: expected keep <= review <= match <= confident")
        return self


class Households(_Model):
    """Detects whether the records contain households: people with the same family name at the same address.

    Among the pairs that share both, and whose given names and birth dates are present, it is measured in which share
    both given name and birth date differ."""

    from_pairs: Annotated[int, Field(ge=0, le=MOST)]
    """Minimum number of such pairs. With fewer pairs, households are assumed."""
    at_least: Annotated[float, Field(ge=0, le=1)]
    """Minimum share for households. Below it, two given names at one address are taken to be the same person's."""


class Constraints(_Model):
    """Constraints that prevent a shared value from joining many people."""

    max_entity: Annotated[int, Field(ge=2, le=MOST)]
    """Maximum size of an entity, in customers or distinct records, whichever is smaller."""
    max_rule_block: Annotated[int, Field(ge=2, le=MOST)]
    """Match rules ignore a value that more people than this share."""
    personal: tuple[Compared, ...] = ()
    """Columns whose values normally belong to one person or household."""
    max_names: Annotated[int, Field(ge=1, le=MOST)] = 4
    """A value of a personal column that occurs with more given names than this is not compared: it may be a
    company's."""
    contradictions: tuple[Literal["date_of_birth", "given"], ...]
    """Values that forbid joining two records by way of other records; see dedup.matching.clustering.CONTRADICTIONS."""
    vetoes: tuple[Veto, ...] = ()
    review_flags: tuple[Veto, ...] = ()
    """Like vetoes, but the pair is joined, and listed for review."""
    households: Households
    """If the records contain no households, vetoes and contradictions do not apply."""


def _decides(field: str) -> str:
    if field == "attributes" or (field.startswith(ATTRIBUTE) and field != ATTRIBUTE):
        return field
    if field not in FIELDS:
        raise ValueError(f"{field!r}: expected one of {', '.join(FIELDS)}, attributes or {ATTRIBUTE}NAME")
    leader = next((group[0] for group in TOGETHER if field in group[1:]), None)
    if leader:
        raise ValueError(f"{field!r} is taken from the same record as {leader!r}: expected a rule for {leader!r}")
    return field


class Survivorship(_Model):
    """Survivorship rules of the golden record; see dedup.matching.golden, which also has the default of each field."""

    trusted: tuple[Text, ...] = ()
    """Sources, the most trusted first."""
    default: Order = Plain().default
    fields: dict[Annotated[Text, AfterValidator(_decides)], Order] = {}


class Settings(_Model):
    """All settings of a matching run."""

    normalising: Normalising
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=50)]
    blocking: Annotated[tuple[Block, ...], Field(min_length=1, max_length=100)]
    comparisons: Annotated[tuple[Comparison, ...], Field(min_length=1, max_length=50)]
    training: Training
    thresholds: Thresholds
    constraints: Constraints
    methods: Annotated[tuple[Literal["rules", "model"], ...], Field(min_length=1)] = ("rules", "model")
    survivorship: Survivorship = Survivorship()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _unique("rule", (rule.name for rule in self.rules))
        _unique("comparison", (comparison.name for comparison in self.comparisons))
        for comparison in self.comparisons:
            _unique(f"level of {comparison.name}", (level.label for level in comparison.levels))
        levels = {c.name: {level.label for level in c.levels} for c in self.comparisons}
        for veto in (*self.constraints.vetoes, *self.constraints.review_flags):
            wrong = {*veto.differ, *veto.unless} - levels.keys()
            wrong |= {label for name, labels in veto.unless.items() for label in set(labels) - levels.get(name, set())}
            if wrong:
                raise ValueError(f"veto {veto.name!r}: no comparison or level named {', '.join(sorted(wrong))}")
            compared = {column for c in self.comparisons if c.name in veto.differ for column in c.compared}
            if unknown := {*veto.other} - compared:
                raise ValueError(f"veto {veto.name!r}: no level of {', '.join(veto.differ)} uses {', '.join(unknown)}")
        return self

    @classmethod
    def load(cls, path: Traversable = DEFAULT) -> Self:
        """Reads settings from a file. Raises OSError, or pydantic.ValidationError, which names the field and the
        reason."""
        return cls.model_validate_json(path.read_text())

    @classmethod
    def over(cls, changes: Mapping[str, Any]) -> Self:
        """Returns the default settings with `changes`: objects are merged, other values are replaced. Raises
        pydantic.ValidationError."""
        return cls.model_validate(_merged(json.loads(DEFAULT.read_text()), changes))


def _merged(defaults: Any, changes: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(changes, Mapping):
        return changes
    return defaults | {name: _merged(defaults.get(name), value) for name, value in changes.items()}


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} is repeated")
        seen.add(name)
