"""Finds entities that match the given details."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dedup.matching import normalise
from dedup.matching.golden import golden
from dedup.matching.normalise import CONTENT
from dedup.matching.rules import (
    IDENTITY,
    Rule,
    conventions_of,
    count_people,
    lookup_keys,
    rules_of,
    survivorship_of,
    term_columns,
)
from dedup.matching.scoring import Scorer, Step, term_value
from dedup.store import Store

MAX_MATCHES = 10


MAX_CANDIDATES = 50
"""Most candidates for each lookup key."""


MAX_CANDIDATES_IN_ALL = 600


def values(records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the golden record without their provenance."""
    return {name: origin.value for name, origin in golden(records, survivorship_of(settings)).items()}


def _shown(step: Step) -> dict[str, Any]:
    return {"field": step.field, "level": step.level, "weight": round(step.weight, 3)}


@lru_cache(maxsize=2)
def _scorer(store: Store, run: int) -> tuple[Mapping[str, Any], str | None, Scorer]:
    settings, model = store.runs.model(run)
    return settings, model.get("terms"), Scorer(settings, model)


def look_up(sent: Mapping[str, Any], store: Store) -> list[dict[str, Any]]:
    """Returns the entities of the active run that match, the best first, each scored by its most similar record.
    `sent` has the details by field, with None for unknown ones. Nothing is written. Raises NoRun."""
    run = store.runs.require_active()
    settings, digest, scorer = _scorer(store, run)
    # People type or paste the address: white space in it is removed, which an address in a record must not have.
    email = "".join((sent["email"] or "").split())
    asked = {
        "customer_id": None if sent["customer_id"] is None else str(sent["customer_id"]),
        "source": sent["source"],
        **normalise.record({**sent, "email": email}, conventions_of(settings)),
    }
    terms = {column: asked[column] and term_value(digest, asked[column]) for column in term_columns(settings)}
    found = store.entities.candidates(run, asked, lookup_keys(settings), terms, MAX_CANDIDATES, MAX_CANDIDATES_IN_ALL)
    joined = _joined(rules_of(settings), asked, found.members, settings["constraints"]["max_rule_block"])
    best: dict[int, dict[str, Any]] = {}
    for member in found.members:
        rule = joined.get(member["record_id"])
        score = scorer.score(asked, member, found.frequencies)
        if rule is None and (score.veto or score.weight < settings["thresholds"]["review"]):
            continue
        match = {
            "entity_id": member["entity_id"],
            "record_id": member["record_id"],
            "probability": round(score.probability, 6),
            "weight": round(score.weight, 3),
            "rule": rule,
            "fields": [_shown(step) for step in score.steps],
        }
        if _order(match) < _order(best.get(member["entity_id"], match | {"weight": -1e9, "rule": None})):
            best[member["entity_id"]] = match
    first = sorted(best.values(), key=_order)[:MAX_MATCHES]
    records = store.entities.records([match["entity_id"] for match in first])
    # An entity may have been deleted since its candidates were read.
    existing = [match for match in first if match["entity_id"] in records]
    return [{**match, "golden": values(records[match["entity_id"]], settings)} for match in existing]


def _joined(
    rules: Iterable[Rule], asked: Mapping[str, Any], members: Sequence[Mapping[str, Any]], most: int
) -> dict[int, str]:
    """Returns the strongest match rule for each candidate (by record id) that a rule joins with the given details.

    Values that `most` people share identify nobody: by these, a rule joins exact duplicates only, as a run
    does."""
    joined: dict[int, str] = {}
    for rule in rules:
        key = rule.key(asked)
        sharing = [member for member in members if rule.key(member) == key] if key else []
        others = [member for member in sharing if any(member[column] != asked[column] for column in IDENTITY)]
        if count_people(others) >= most:
            sharing = [member for member in sharing if all(member[column] == asked[column] for column in CONTENT)]
        for member in sharing:
            if not rule.differs(asked, member):
                joined.setdefault(member["record_id"], rule.name)
    return joined


def _order(match: Mapping[str, Any]) -> tuple[bool, float, int]:
    return match["rule"] is None, -match["weight"], match["record_id"]
