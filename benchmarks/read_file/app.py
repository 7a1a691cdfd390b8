"""Reads and validates the objects of an event as functions/uploads/ingest does, and stores nothing."""

from typing import Any

from dedup.aws import bucket, object_keys
from dedup.files.mapping import Mapper
from dedup.files.reading import read_whole
from dedup.services.ingest import objects_in


def handler(event: dict[str, Any], context: object) -> int:
    """The number of accepted rows."""
    accepted = 0
    for version in objects_in(event):
        opened = bucket.open_object(version)
        source = object_keys.folder_of(version.key, opened.metadata).source
        batches = read_whole(opened.body, source, opened.size, mapper=Mapper())
        accepted += sum(len(batch.rows) for batch in batches)
    return accepted
