"""Presenter of saved column mappings."""

from dataclasses import asdict

from dedup.api.models.mappings import SavedMapping
from dedup.store.mappings import Saved


def saved_mapping(saved: Saved) -> SavedMapping:
    """Returns a saved mapping."""
    return SavedMapping.model_validate(asdict(saved))
