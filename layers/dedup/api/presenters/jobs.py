"""Presenter of Spark jobs."""

from dataclasses import asdict

from dedup.api.models.deduplication import JobStatus
from dedup.aws import bucket
from dedup.store.jobs import Job

MAX_OUTPUTS = 1_000
"""Most URLs in one response. On AWS a URL has about 500 bytes, and up to 1,500 with a session token."""

MAX_REGIONS = 100
"""Most regions of a job in one response, which may list a hundred jobs."""


def job_status(job: Job) -> JobStatus:
    """Returns the job with its results and with presigned URLs of its files, until the bucket deletes them."""
    prefix, keys = f"jobs/{job.id}/", (job.objects or []) if job.fresh else []
    outputs = [{"name": key.removeprefix(prefix), "url": bucket.download_url(key, None)} for key in keys[:MAX_OUTPUTS]]
    figures = dict(job.figures or {})
    if "regions" in figures:
        figures |= {"regions": figures["regions"][:MAX_REGIONS], "region_count": len(figures["regions"])}
    return JobStatus.model_validate({**asdict(job), **figures, "outputs": outputs})
