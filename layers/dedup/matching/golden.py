"""The golden record: one value for each field of an entity, with its provenance. Pure functions."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dedup.matching.normalise import FIELDS

Rule = Literal["most_recent", "most_complete", "most_trusted", "most_common"]
"""A survivorship rule chooses the value

most_recent     of the record that its source changed last; of the one that was uploaded last, where this is unknown
most_complete   with the most letters and digits: `Margaret A. Hill` before `M. Hill`
most_trusted    of the source that comes first in `trusted`; sources that are not listed come last
most_common     that most records have, ignoring case, spaces and punctuation"""

ATTRIBUTE = "attributes."
"""Begins the name of an attribute in a golden record and in survivorship rules: `attributes.Lifecycle Stage`."""

MAX_ATTRIBUTES = 50
"""Most attributes of a golden record, those that most records have."""

TOGETHER = (("address", "city", "postcode", "country"),)
"""Groups of fields that are taken from the same record, so that a golden record does not mix two addresses."""


@dataclass(frozen=True)
class Survivorship:
    """The survivorship rules of each field. If a rule leaves several values, the next rule decides. `attributes` are
    the rules of all attributes that have no rules of their own."""

    trusted: tuple[str, ...] = ()
    default: tuple[Rule, ...] = ("most_trusted", "most_recent", "most_complete")
    fields: Mapping[str, tuple[Rule, ...]] = field(
        default_factory=lambda: {
            "name": ("most_common", "most_complete", "most_recent"),
            "date_of_birth": ("most_common", "most_trusted", "most_recent"),
            "phone": ("most_recent", "most_trusted"),
            "address": ("most_recent", "most_complete", "most_trusted"),
        }
    )


class Origin(NamedTuple):
    """A value of the golden record with its provenance: the record and source that it comes from, and the rule that
    chose it. The rule is `only` if there was no other value, and `oldest` if all rules left several: then the value is
    that of the record with the smallest id."""

    value: Any
    record_id: int
    source: str
    rule: str


@dataclass(frozen=True)
class _Candidate:
    record: Mapping[str, Any]
    values: tuple[Any, ...]
    key: str


def golden(records: Sequence[Mapping[str, Any]], rules: Survivorship | None = None) -> dict[str, Origin]:
    """Returns the golden record of an entity's records: a value with its provenance for each field that any of them
    has, and for the MAX_ATTRIBUTES attributes that most of them have.

    A record is a mapping with `id`, `source`, the fields that it has, `attributes`, and, for most_recent,
    `modified_at`, `updated_at` or `created_at` (of one comparable type; a record without them is the oldest). The
    result does not depend on the order of the records. Raises ValueError if there are no records."""
    if not records:
        raise ValueError("an entity has at least one record")
    rules = rules or Survivorship()
    alone = [(name,) for name in FIELDS if not any(name in group for group in TOGETHER)]
    in_order = sorted(records, key=lambda record: record["id"])
    found: dict[str, Origin] = {}
    for group in (*alone, *TOGETHER):
        candidates = [
            _Candidate(record, values, _comparable(values))
            for record in in_order
            if any(values := tuple(record.get(name) or None for name in group))
        ]
        if not candidates:
            continue
        # Within a group, the first field that any record has must be present: a country alone is not an address.
        leading = min(index for candidate in candidates for index, value in enumerate(candidate.values) if value)
        candidates = [candidate for candidate in candidates if candidate.values[leading]]
        chosen, rule = _choose(candidates, rules.fields.get(group[0], rules.default), rules.trusted)
        for name, value in zip(group, chosen.values, strict=True):
            if value is not None:
                found[name] = Origin(value, chosen.record["id"], chosen.record["source"], rule)
    return {name: found[name] for name in FIELDS if name in found} | _golden_attributes(in_order, rules)


def _golden_attributes(records: Sequence[Mapping[str, Any]], rules: Survivorship) -> dict[str, Origin]:
    having = Counter(name for record in records for name in record.get("attributes") or ())
    found: dict[str, Origin] = {}
    for name, _ in sorted(having.items(), key=lambda item: (-item[1], item[0]))[:MAX_ATTRIBUTES]:
        candidates = [
            _Candidate(record, (value,), _comparable((value,)))
            for record in records
            if (value := (record.get("attributes") or {}).get(name))
        ]
        field_rules = rules.fields.get(ATTRIBUTE + name) or rules.fields.get("attributes") or rules.default
        if candidates:
            chosen, rule = _choose(candidates, field_rules, rules.trusted)
            [value] = chosen.values
            found[ATTRIBUTE + name] = Origin(value, chosen.record["id"], chosen.record["source"], rule)
    return found


def _choose(left: list[_Candidate], rules: Sequence[Rule], trusted: Sequence[str]) -> tuple[_Candidate, str]:
    if len(left) == 1:
        return left[0], "only"
    for rule in rules:
        worth = _WORTH[rule](left, trusted)
        best = max(worth)
        left = [candidate for candidate, value in zip(left, worth, strict=True) if value == best]
        if len({candidate.values for candidate in left}) == 1:
            return left[0], rule
    return left[0], "oldest"


def _comparable(values: Sequence[Any]) -> str:
    """Returns the values in lower case without spaces and punctuation, joined to one text."""
    return "\0".join("".join(filter(str.isalnum, str(value or "").casefold())) for value in values)


def _changed(candidate: _Candidate) -> tuple[bool, Any]:
    record = candidate.record
    at = record.get("modified_at") or record.get("updated_at") or record.get("created_at")
    return (at is not None, at or 0)


_WORTH: dict[Rule, Callable[[list[_Candidate], Sequence[str]], list[Any]]] = {
    "most_recent": lambda left, trusted: [_changed(candidate) for candidate in left],
    "most_complete": lambda left, trusted: [(sum(map(bool, c.values)), len(c.key)) for c in left],
    "most_trusted": lambda left, trusted: [
        -trusted.index(c.record["source"]) if c.record["source"] in trusted else -len(trusted) for c in left
    ],
    "most_common": lambda left, trusted: [sum(other.key == c.key for other in left) for c in left],
}
