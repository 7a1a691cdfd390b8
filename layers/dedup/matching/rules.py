"""What the settings of a matching run say to whoever has no engine: how to normalise, which rules join records, and by
what to find records that may be someone. The settings are dedup.matching.settings', as a run keeps them: what was
valid when it was made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.matching.golden import Survivorship
from dedup.matching.normalise import SAID, Conventions, MailProvider

IDENTITY = ("source", "customer_id")
"""The columns that say whose record it is."""

LOOKUP: tuple[tuple[str, ...], ...] = (
    ("email",),
    ("phone",),
    ("mailbox",),
    ("family", "root"),
    ("date_of_birth", "initials"),
    ("address",),
    ("postcode", "initials"),
)
"""Columns by which a record is looked for beside those of the rules: all of one line, where it has them."""


@dataclass(frozen=True)
class Rule:
    """Records that have all columns of `equal` in common are one, unless they differ in one of `unless_different`."""

    name: str
    equal: tuple[str, ...]
    unless_different: tuple[str, ...]

    def key(self, form: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """What records that the rule joins have in common; None where the record lacks some of it."""
        values = tuple(form[column] for column in self.equal)
        return None if None in values else values

    def differs(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether the records differ in what the rule minds."""
        return any(differ(one[column], other[column]) for column in self.unless_different)


def differ(one: Any, other: Any) -> bool:
    """Whether both values are known, and not the same."""
    return one is not None and other is not None and bool(one != other)


def rules_of(settings: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules, the strongest first; none where the model alone decides."""
    if "rules" not in settings.get("methods", ("rules",)):
        return ()
    return tuple(
        Rule(rule["name"], tuple(rule["equal"]), tuple(rule.get("unless_different", ()))) for rule in settings["rules"]
    )


def identity_rule(rules: Sequence[Rule]) -> Rule | None:
    """The first of the rules that joins the records of one customer of one source, whatever else they say; None where
    none does."""
    return next((rule for rule in rules if "customer_id" in rule.equal and {*rule.equal} <= {*IDENTITY}), None)


def content_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that join records of any two customers, by what these say alone: those that hold of a record are all
    that is needed to join it with one that says the same."""
    return tuple(rule for rule in rules if not {*rule.equal} & {*IDENTITY})


def count_people(members: Sequence[Mapping[str, Any]]) -> int:
    """How many people some records may be at most: as many as there are customers of a source, or as say different
    things, whichever are fewer."""
    return min(len({tuple(one[column] for column in columns) for one in members}) for columns in (IDENTITY, SAID))


def conventions_of(settings: Mapping[str, Any]) -> Conventions:
    """How values are normalised."""
    told = settings["normalising"]
    providers = {domain: MailProvider(**rule) for domain, rule in told["providers"].items()}
    return Conventions(told["region"], providers, frozenset(told["placeholder_dates"]))


def survivorship_of(settings: Mapping[str, Any]) -> Survivorship:
    """The rules of the golden record."""
    told = settings.get("survivorship") or {}
    plain = Survivorship()
    return Survivorship(
        tuple(told.get("trusted", plain.trusted)),
        tuple(told.get("default", plain.default)),
        {**plain.fields, **{name: tuple(order) for name, order in told.get("fields", {}).items()}},
    )


def term_columns(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns whose rare values say more than common ones."""
    levels = (level for comparison in settings["comparisons"] for level in comparison["levels"])
    return tuple(sorted({level["term_frequency"] for level in levels if level.get("term_frequency")}))


def lookup_keys(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Columns that members must share with a record to be looked at: those of each rule, then LOOKUP, each once."""
    return tuple(dict.fromkeys([*(rule.equal for rule in rules_of(settings)), *LOOKUP]))


def index_columns(settings: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The columns of each index that finds records by `lookup_keys` or by a value of `term_columns`; one that another
    begins with is left out."""
    wanted = tuple(dict.fromkeys([*lookup_keys(settings), *((term,) for term in term_columns(settings))]))
    for columns in wanted:
        if not any(len(other) > len(columns) and other[: len(columns)] == columns for other in wanted):
            yield columns
