"""Presenters: convert objects of the store to response models."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dedup.api.models.customers import Erasure, RejectedFiles
from dedup.api.models.deduplication import JobStatus
from dedup.api.models.exports import ExportStatus
from dedup.api.models.mappings import SavedMapping
from dedup.api.models.uploads import UploadStatus
from dedup.aws import bucket
from dedup.customer_ids import CustomerId, order
from dedup.files.mapping import samples_of
from dedup.matching import scoring
from dedup.matching.golden import golden
from dedup.matching.rules import survivorship_of
from dedup.services import erasure
from dedup.services.lookup import _shown, values
from dedup.store.exports import Export
from dedup.store.jobs import Job
from dedup.store.mappings import Saved, UploadMapping
from dedup.store.uploads import Upload

MAX_OUTPUTS = 1_000
"""Most URLs in one response. On AWS a URL has about 500 bytes, and up to 1,500 with a session token."""

MAX_REGIONS = 100
"""Most regions of a job in one response, which may list a hundred jobs."""


def erasure_details(customer_id: CustomerId, erased: erasure.Erasure) -> Erasure:
    """Returns what was erased of a customer, and what remains."""
    customer, remaining = erased.customer, erased.customer.remaining
    return Erasure(
        customer_id=customer_id,
        records=customer.records,
        sources=customer.sources,
        rejected_files=RejectedFiles(
            status=remaining.status, files=remaining.files, rows=remaining.rows, reason=remaining.reason
        ),
        files=customer.files,
        exports=erased.exports,
    )


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


def saved_mapping(saved: Saved) -> SavedMapping:
    """Returns a saved mapping."""
    return SavedMapping.model_validate(asdict(saved))


def export_status(export: Export) -> ExportStatus:
    """Returns the export with a presigned URL of its file, until the bucket deletes it."""
    url = bucket.download_url(export.object_key, export.object_version) if export.object_key and export.fresh else None
    return ExportStatus.model_validate({**asdict(export), **export.question, "url": url})


def job_status(job: Job) -> JobStatus:
    """Returns the job with its results and with presigned URLs of its files, until the bucket deletes them."""
    prefix, keys = f"jobs/{job.id}/", (job.objects or []) if job.fresh else []
    outputs = [{"name": key.removeprefix(prefix), "url": bucket.download_url(key, None)} for key in keys[:MAX_OUTPUTS]]
    figures = dict(job.figures or {})
    if "regions" in figures:
        figures |= {"regions": figures["regions"][:MAX_REGIONS], "region_count": len(figures["regions"])}
    return JobStatus.model_validate({**asdict(job), **figures, "outputs": outputs})


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
