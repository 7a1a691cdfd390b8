"""Presenters of entities and of pairs of records."""

from collections.abc import Mapping
from typing import Any

from dedup.customer_ids import order
from dedup.matching import scoring
from dedup.matching.golden import golden
from dedup.matching.rules import survivorship_of
from dedup.services.lookup import _shown, values


def entity_summary(entity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an entity for a list, as the fields of EntitySummary."""
    records = entity["records"]
    return {
        "id": entity["id"],
        "records": entity["total_records"],
        "customer_ids": sorted({record["customer_id"] for record in records}, key=order),
        "sources": sorted({record["source"] for record in records}),
        "golden": values(records, settings),
    }


def entity_details(entity: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an entity with its golden record and the evidence of its edges, as the fields of Entity."""
    return {
        **entity,
        "golden": {
            name: origin._asdict() for name, origin in golden(entity["records"], survivorship_of(settings)).items()
        },
        "edges": [explained_pair(edge, settings) for edge in entity["edges"]],
    }


def explained_pair(pair: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a pair with its waterfall parsed into `fields`."""
    fields = [_shown(step) for step in scoring.steps_of(pair["waterfall"], settings)]
    return {**{name: value for name, value in pair.items() if name != "waterfall"}, "fields": fields}
