"""Everything that says how records are matched, typed: one file for every engine. See docs/reference/settings.md."""

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dedup.matching.golden import TOGETHER
from dedup.matching.golden import Rule as Survives
from dedup.matching.golden import Survivorship as Plain
from dedup.matching.normalise import COLUMNS, FIELDS
from dedup.matching.rules import IDENTITY
from dedup.validation import Request

DEFAULT = files("dedup.matching") / "settings.json"

MOST = 1_000_000_000
"""No number of records or pairs that is larger means anything."""

MAX_WEIGHT = 1000
"""The largest match weight, either way, that a threshold may be: its odds are still a number that a double can hold."""


def _one_of(columns: tuple[str, ...], *, beginnings: bool = False) -> AfterValidator:
    def check(said: str) -> str:
        column, colon, letters = said.partition(":") if beginnings else (said, "", "")
        if column not in columns:
            raise ValueError(f"{column!r}: expected one of {', '.join(columns)}")
        if colon and not re.fullmatch("[1-9][0-9]?", letters):
            raise ValueError(f"{said!r}: expected a column, or column:N for its first N letters, 99 at most")
        return said

    return AfterValidator(check)


Column = Annotated[str, _one_of((*COLUMNS, *IDENTITY))]
Columns = Annotated[tuple[Column, ...], Field(min_length=1, max_length=10)]
Compared = Annotated[str, _one_of(COLUMNS)]
"""A column of the comparable form."""
Order = Annotated[tuple[Survives, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


def _storable(said: str) -> str:
    if "\0" in said:
        raise ValueError("expected a text without NUL, which PostgreSQL can't hold")
    return said


Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]


class _Model(Request, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Provider(_Model):
    """A mail provider's rule; see dedup.matching.normalise.MailProvider."""

    domain: Text | None = None
    dots: bool = True
    tag: Text | None = None


class Normalising(_Model):
    """What normalising is told; see dedup.matching.normalise.Conventions."""

    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    providers: dict[Text, Provider]
    placeholder_dates: frozenset[Text]

    @model_validator(mode="after")
    def _one_rule_per_provider(self) -> Self:
        for domain, rule in self.providers.items():
            if rule.domain and self.providers.get(rule.domain, rule).model_copy(update={"domain": rule.domain}) != rule:
                raise ValueError(f"providers: {domain} and {rule.domain} are one provider and need one rule")
        return self


class Rule(_Model):
    """Two records that agree in all of `equal`, and don't contradict each other in `unless_different`, are one."""

    name: Name
    equal: Columns
    unless_different: tuple[Column, ...] = ()


class Level(_Model):
    """How alike two values may be: all of its conditions hold. The first level that holds counts."""

    label: Annotated[Text, Field(max_length=100)]
    equal: tuple[Annotated[str, _one_of(COLUMNS, beginnings=True)], ...] = ()
    swapped: tuple[Compared, Compared] | None = None
    """Each is like the other record's other, by Jaro-Winkler 0.88 at least."""
    initial: Compared | None = None
    """One record has the other's first letter and no more."""
    jaro_winkler: dict[Compared, Annotated[float, Field(gt=0, le=1)]] = {}
    """At least this similar; 1 is equal."""
    levenshtein: dict[Compared, Annotated[int, Field(gt=0, le=100)]] = {}
    """At most this many letters changed."""
    unless_different: tuple[Compared, ...] = ()
    """Not where both have one of these, and differ in it."""
    term_frequency: Compared | None = None
    """The column whose rare values say more than its common ones, here where it is equal."""

    @property
    def compared(self) -> set[str]:
        """The columns that it is about."""
        parts = (part.partition(":")[0] for part in self.equal)
        initial = (self.initial,) if self.initial else ()
        return {*parts, *(self.swapped or ()), *initial, *self.jaro_winkler, *self.levenshtein, *self.unless_different}

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.equal or self.swapped or self.initial or self.jaro_winkler or self.levenshtein):
            raise ValueError("expected equal, swapped, initial, jaro_winkler or levenshtein")
        return self


class Comparison(_Model):
    """One thing that two records are compared in. Says nothing where one of them has none of `columns`."""

    name: Name
    columns: Annotated[tuple[Compared, ...], Field(min_length=1)]
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=50)]
    """The most alike first; a last one, for all else, is added."""

    @property
    def compared(self) -> set[str]:
        """All columns that its levels are about."""
        return {*self.columns}.union(*(level.compared for level in self.levels))


class Block(_Model):
    """Pairs that agree in all of `equal`, columns or `column:N` for the first N letters of one, are scored, unless more
    than `at_most` records have the same."""

    equal: Annotated[tuple[Annotated[str, _one_of((*COLUMNS, *IDENTITY), beginnings=True)], ...], Field(min_length=1)]
    at_most: Annotated[int, Field(ge=2, le=MOST)] = 60


class Veto(_Model):
    """A scored pair is no match, whatever its weight, where all comparisons of `differ` are at their `else`, both
    records have all of `other` and differ in them, and none of `unless` is at one of the levels named there. It goes to
    review instead."""

    name: Name
    differ: Annotated[tuple[Name, ...], Field(min_length=1)]
    other: tuple[Compared, ...] = ()
    """Columns that a level of `differ` is about."""
    unless: dict[Name, tuple[str, ...]]


class Training(_Model):
    """How the model learns from the records themselves."""

    from_records: Annotated[int, Field(ge=0, le=MOST)]
    """Fewer records than this teach nothing dependable: the given model is used as it is."""
    passes: Annotated[tuple[Columns, ...], Field(min_length=1, max_length=50)]
    """Each pass of EM looks at pairs that agree in these columns, and learns all comparisons but those."""
    pass_needs_pairs: Annotated[int, Field(ge=1, le=MOST)]
    max_pairs: Annotated[int, Field(ge=1000, le=MOST)]
    """Pairs of random records, and pairs per pass, at most."""
    weight_of_default: Annotated[float, Field(ge=0, le=MOST)]
    """The default model counts as much as so many true pairs: it speaks where the records have few for a level."""
    recall_of_rules: Annotated[float, Field(gt=0, le=1)]
    """Which part of all true pairs the rules are taken to find: it says how likely two random records are one."""
    seed: Annotated[int, Field(ge=1, le=MOST)]


MatchWeight = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class Thresholds(_Model):
    """Match weights: log2 of the odds that two records are one. 0 is even, 10 about a thousand to one."""

    keep: MatchWeight
    """Scored pairs below it are not kept, and not in the histogram."""
    review: MatchWeight
    """From here to `confident`, people are asked."""
    match: MatchWeight
    """From here, two records are one."""
    confident: MatchWeight

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if not self.keep <= self.review <= self.match <= self.confident:
            raise ValueError("thresholds: expected keep <= review <= match <= confident")
        return self


class Households(_Model):
    """Whether different people of one family name live at one address in these records. Of the pairs that share both,
    and know both their given names and their birth dates, the part in which both differ says so."""

    from_pairs: Annotated[int, Field(ge=0, le=MOST)]
    """Fewer such pairs say nothing: households are taken to be there."""
    at_least: Annotated[float, Field(ge=0, le=1)]
    """Where both differ in a smaller part, there are none: two names at one address are one person's."""


class Constraints(_Model):
    """What keeps one shared value from making a thousand people one."""

    max_entity: Annotated[int, Field(ge=2, le=MOST)]
    """Records of one entity at most."""
    max_rule_block: Annotated[int, Field(ge=2, le=MOST)]
    """A value that more records share than this is nobody's own: no rule uses it."""
    personal: tuple[Compared, ...] = ()
    """Columns whose values are one person's own, or a household's."""
    max_names: Annotated[int, Field(ge=1, le=MOST)] = 4
    """A value of a personal column that people of more given names have is a company's: it is not compared at all."""
    contradictions: tuple[Literal["date_of_birth", "given"], ...]
    """What keeps two records apart that only others join: see dedup.matching.clustering.Facts."""
    vetoes: tuple[Veto, ...] = ()
    review_flags: tuple[Veto, ...] = ()
    """As vetoes, but the pair is a match all the same: people are asked about it afterwards."""
    households: Households
    """Where these records have none, vetoes and contradictions do not apply."""


def _decides(field: str) -> str:
    leader = next((group[0] for group in TOGETHER if field in group[1:]), None)
    if leader:
        raise ValueError(f"{field!r} survives with {leader!r}: expected a rule for that")
    return field


class Survivorship(_Model):
    """What the golden record takes from whom; see dedup.matching.golden. What is not said here is as that has it."""

    trusted: tuple[Text, ...] = ()
    """Sources, the most trusted first."""
    default: Order = Plain().default
    fields: dict[Annotated[str, _one_of(FIELDS), AfterValidator(_decides)], Order] = {}


class Settings(_Model):
    """All of it."""

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
                raise ValueError(
                    f"veto {veto.name!r}: no level of {', '.join(veto.differ)} is about {', '.join(unknown)}"
                )
        return self

    @classmethod
    def load(cls, path: Traversable = DEFAULT) -> Self:
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
