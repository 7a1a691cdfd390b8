"""What the API shows of the entities: golden records, why records belong together, and who a record most likely is."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from dedup import matching, normalise, score
from dedup.answers import LookupRecord
from dedup.golden import golden
from dedup.matching import IDENTITY
from dedup.normalise import SAID
from dedup.score import Scorer, Step
from dedup.store import Store

MAX_MATCHES = 10
MAX_CANDIDATES = 50
"""Records that are looked at for each key that they share with the one that is asked about."""
MAX_CANDIDATES_IN_ALL = 600


def summary(entity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """An entity in a list: how many records, whose, of which sources, and the values of its golden record."""
    records = entity["records"]
    return {
        "id": entity["id"],
        "records": entity["total_records"],
        "customer_ids": sorted({record["customer_id"] for record in records}),
        "sources": sorted({record["source"] for record in records}),
        "golden": values(records, settings),
    }


def values(records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The golden record without the origins."""
    return {name: origin.value for name, origin in golden(records, matching.survivorship(settings)).items()}


def whole(entity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """One entity with everything: its records, the golden record with the origin of each field, why its records belong
    together, and what people said of them."""
    return {
        **entity,
        "golden": {
            name: origin._asdict()
            for name, origin in golden(entity["records"], matching.survivorship(settings)).items()
        },
        "edges": [explained(edge, settings) for edge in entity["edges"]],
    }


def explained(pair: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A pair with the fields of its waterfall in place of the text."""
    fields = [_shown(step) for step in score.steps_of(pair["waterfall"], settings)]
    return {**{name: value for name, value in pair.items() if name != "waterfall"}, "fields": fields}


def _shown(step: Step) -> dict[str, Any]:
    return {"field": step.field, "level": step.level, "weight": round(step.weight, 3)}


@lru_cache(maxsize=2)
def _scorer(store: Store, run: int) -> tuple[Mapping[str, Any], Scorer]:
    settings, model, records = store.scoring(run)
    return settings, Scorer(settings, model, records)


def look_up(asked_about: LookupRecord, store: Store) -> list[dict[str, Any]]:
    """Who a record most likely is: entities of the run in force, the best first, by the record of each that is most
    like it. Nothing is written. Raises NoRun."""
    run = store.run_in_force()
    settings, scorer = _scorer(store, run)
    sent = asked_about.model_dump()
    asked = {
        "customer_id": sent["customer_id"],
        "source": sent["source"],
        **normalise.record(sent, matching.conventions(settings)),
    }
    members, shares = store.candidates(
        run, asked, matching.keys(settings), matching.terms(settings), MAX_CANDIDATES, MAX_CANDIDATES_IN_ALL
    )
    joined = _joined(matching.rules(settings), asked, members, settings["guards"]["max_rule_block"])
    best: dict[int, dict[str, Any]] = {}
    for member in members:
        rule = joined.get(member["record_id"])
        found = scorer.score(asked, member, shares)
        if rule is None and (found.veto or found.weight < settings["thresholds"]["review"]):
            continue
        match = {
            "entity_id": member["entity_id"],
            "record_id": member["record_id"],
            "probability": round(found.probability, 6),
            "weight": round(found.weight, 3),
            "rule": rule,
            "fields": [_shown(step) for step in found.steps],
        }
        if _order(match) < _order(best.get(member["entity_id"], match | {"weight": -1e9, "rule": None})):
            best[member["entity_id"]] = match
    first = sorted(best.values(), key=_order)[:MAX_MATCHES]
    records = store.records_of([match["entity_id"] for match in first])
    return [{**match, "golden": values(records[match["entity_id"]], settings)} for match in _there(first, records)]


def _there(matches: Iterable[dict[str, Any]], records: Mapping[int, Any]) -> Iterable[dict[str, Any]]:
    return (match for match in matches if match["entity_id"] in records)


def _joined(
    rules: Iterable[matching.Rule], asked: Mapping[str, Any], members: Sequence[Mapping[str, Any]], most: int
) -> dict[int, str]:
    """The strongest rule for each record that one joins with the record that is asked about. What `most` people share
    already is nobody's own: of that a rule says nothing but of who says the same, here as when it is uploaded."""
    joined: dict[int, str] = {}
    for rule in rules:
        key = rule.key(asked)
        sharing = [member for member in members if rule.key(member) == key] if key else []
        others = [member for member in sharing if any(member[column] != asked[column] for column in IDENTITY)]
        if matching.people(others) >= most:
            sharing = [member for member in sharing if all(member[column] == asked[column] for column in SAID)]
        for member in sharing:
            if not rule.differs(asked, member):
                joined.setdefault(member["record_id"], rule.name)
    return joined


def _order(match: Mapping[str, Any]) -> tuple[bool, float, int]:
    return match["rule"] is None, -match["weight"], match["record_id"]
