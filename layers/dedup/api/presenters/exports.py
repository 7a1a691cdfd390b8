"""Presenter of exports."""

from dataclasses import asdict

from dedup.api.models.exports import ExportStatus
from dedup.aws import bucket
from dedup.store.exports import Export


def export_status(export: Export) -> ExportStatus:
    """Returns the export with a presigned URL of its file, until the bucket deletes it."""
    url = bucket.download_url(export.object_key, export.object_version) if export.object_key and export.fresh else None
    return ExportStatus.model_validate({**asdict(export), **export.question, "url": url})
