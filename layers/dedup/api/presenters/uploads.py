"""Presenter of uploads."""

from dataclasses import asdict
from typing import Any

from dedup.api.models.uploads import UploadStatus
from dedup.aws import bucket
from dedup.files.samples import samples_of
from dedup.store.mappings import UploadMapping
from dedup.store.uploads import Upload


def upload_status(upload: Upload, mapping: UploadMapping | None = None) -> UploadStatus:
    """Returns the upload with a presigned URL of its rejected rows, and its column mapping if that is given."""
    url: str | None = None
    if upload.rejected_key:
        url = bucket.download_url(upload.rejected_key, upload.rejected_version)
    explained = _explained(mapping) if mapping else None
    return UploadStatus.model_validate({**asdict(upload), "rejected_url": url, "mapping": explained})


def _explained(found: UploadMapping) -> dict[str, Any]:
    rows = [cells for _, cells in found.sample]
    columns = [{**column, "samples": samples_of(rows, at)} for at, column in enumerate(found.columns)]
    stated = found.mapping or found.proposal or {}
    return {
        "columns": columns,
        "id": stated.get("id"),
        "date_order": stated.get("date_order"),
        "keep": stated.get("keep", []),
    }
