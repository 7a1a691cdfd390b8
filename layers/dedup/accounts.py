"""The account of an upload, an export or a job as the API shows it."""

from dataclasses import asdict

from dedup import bucket
from dedup.answers import ExportAccount, JobAccount, UploadAccount
from dedup.store import Account, Export, Job

MAX_OUTPUTS = 1_000
"""URLs in one answer, each of some 500 bytes on AWS and of up to 1,500 with a session's token."""

MAX_REGIONS = 100
"""Regions of a job in one answer, which may list a hundred jobs."""


def shown_upload(account: Account) -> UploadAccount:
    """The account with a URL for the rejected rows in the place of their key."""
    url: str | None = None
    if account.rejected_key:
        url = bucket.download_url(account.rejected_key, account.rejected_version)
    return UploadAccount.model_validate({**asdict(account), "rejected_url": url})


def shown_export(export: Export) -> ExportAccount:
    """The account with a URL for the file in the place of its key, while the bucket has it."""
    url = bucket.download_url(export.object_key, export.object_version) if export.object_key and export.fresh else None
    return ExportAccount.model_validate({**asdict(export), **export.question, "url": url})


def shown_job(job: Job) -> JobAccount:
    """The job with URLs for what it wrote in the place of the keys, while the bucket has it."""
    prefix, keys = f"jobs/{job.id}/", (job.objects or []) if job.fresh else []
    outputs = [{"name": key.removeprefix(prefix), "url": bucket.download_url(key, None)} for key in keys[:MAX_OUTPUTS]]
    figures = dict(job.figures or {})
    if "regions" in figures:
        figures |= {"regions": figures["regions"][:MAX_REGIONS], "region_count": len(figures["regions"])}
    return JobAccount.model_validate({**asdict(job), **figures, "outputs": outputs})
