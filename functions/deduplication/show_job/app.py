"""GET /api/v1/deduplication/jobs/{job_id}: what became of a job."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import JobStatus
from dedup.api.openapi import operation
from dedup.api.parameters import JobId
from dedup.api.presenters import job_status
from dedup.services import jobs
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/deduplication/jobs/<job_id>", **operation("See what became of a job", JobStatus, errors=[404, 422]))
def show_job(job_id: JobId) -> JobStatus:
    store = open_store()
    job = store.jobs.get(job_id, jobs.KEPT_DAYS)
    if job is None:
        raise NotFoundError("There is no such job")
    return job_status(jobs.refresh(job, store))


handler = make_handler(app)
