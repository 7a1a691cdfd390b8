"""Match rules, and what else is read from the settings stored with a run: conventions for normalising, and the columns
by which candidates are found. The format is that of dedup.matching.settings. Stored settings are not validated again:
they were valid when the run was created. The default rules are in settings.json."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dedup.matching.golden import Survivorship
from dedup.matching.normalise import CONTENT, Conventions, MailProvider

IDENTITY = ("source", "customer_id")
"""The columns that identify the customer of a record."""

LOOKUP: tuple[tuple[str, ...], ...] = (
    ("email",),
    ("phone",),
    ("mailbox",),
    ("family", "root"),
    ("date_of_birth", "initials"),
    ("address",),
    ("postcode", "initials"),
)
"""Lookup keys in addition to those of the match rules. A candidate must agree in all columns of a key."""


@dataclass(frozen=True)
class Rule:
    """A match rule: records that agree in all columns of `equal` are joined, unless they differ in a column of
    `unless_different`."""

    name: str
    equal: tuple[str, ...]
    unless_different: tuple[str, ...]

    def key(self, normalised: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Returns the values of `equal`, in which joined records agree; None if one of them is missing."""
        values = tuple(normalised[column] for column in self.equal)
        return None if None in values else values

    def differs(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether the records differ in a column of `unless_different`."""
        return any(differ(one[column], other[column]) for column in self.unless_different)


def differ(one: Any, other: Any) -> bool:
    """Whether both values are present and different."""
    return one is not None and other is not None and bool(one != other)


def rules_of(settings: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Returns the match rules, the strongest first; empty if the settings use the model only."""
    if "rules" not in settings.get("methods", ("rules",)):
        return ()
    return tuple(
        Rule(rule["name"], tuple(rule["equal"]), tuple(rule.get("unless_different", ()))) for rule in settings["rules"]
    )


def identity_rule(rules: Sequence[Rule]) -> Rule | None:
    """Returns the first rule that joins the records of a customer by IDENTITY alone; None if there is no such rule."""
    return next((rule for rule in rules if "customer_id" in rule.equal and {*rule.equal} <= {*IDENTITY}), None)


def content_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Returns the rules that do not use IDENTITY. A record for which such a rule has a key is joined with all of its
    exact duplicates, whatever their customers."""
    return tuple(rule for rule in rules if not {*rule.equal} & {*IDENTITY})


def count_people(members: Sequence[Mapping[str, Any]]) -> int:
    """Returns an upper bound of the number of people that records may belong to: the number of customers (source and
    customer id) or of distinct normalised values, whichever is smaller."""
    return min(len({tuple(one[column] for column in columns) for one in members}) for columns in (IDENTITY, CONTENT))


def without_waived(settings: Mapping[str, Any], waived: Iterable[str]) -> dict[str, Any]:
    """Returns the settings without the constraints that a model version waives, by their names."""
    return {**settings, "constraints": {**settings["constraints"], **{name: [] for name in waived}}}


def conventions_of(settings: Mapping[str, Any]) -> Conventions:
    """Returns the conventions for normalising values."""
    given = settings["normalising"]
    providers = {domain: MailProvider(**rule) for domain, rule in given["providers"].items()}
    return Conventions(given["region"], providers, frozenset(given["placeholder_dates"]))


def survivorship_of(settings: Mapping[str, Any]) -> Survivorship:
    """Returns the survivorship rules."""
    given = settings.get("survivorship") or {}
    defaults = Survivorship()
    return Survivorship(
        tuple(given.get("trusted", defaults.trusted)),
        tuple(given.get("default", defaults.default)),
        {**defaults.fields, **{name: tuple(order) for name, order in given.get("fields", {}).items()}},
    )


def term_columns(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the columns with term frequency adjustments."""
    levels = (level for comparison in settings["comparisons"] for level in comparison["levels"])
    return tuple(sorted({level["term_frequency"] for level in levels if level.get("term_frequency")}))


def lookup_keys(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Returns the keys by which candidates of a record are found: those of the match rules, then those of LOOKUP."""
    return tuple(dict.fromkeys([*(rule.equal for rule in rules_of(settings)), *LOOKUP]))


def index_columns(settings: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yields the columns of each index that is needed to find records by `lookup_keys` and `term_columns`, without
    prefixes of other indexes."""
    wanted = tuple(dict.fromkeys([*lookup_keys(settings), *((term,) for term in term_columns(settings))]))
    for columns in wanted:
        if not any(len(other) > len(columns) and other[: len(columns)] == columns for other in wanted):
            yield columns
