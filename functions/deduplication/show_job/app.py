"""GET /api/v1/deduplication/jobs/{job_id}: shows the status and results of a Spark job."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import JobStatus
from dedup.api.openapi import operation
from dedup.api.parameters import JobId
from dedup.api.presenters.jobs import job_status
from dedup.aws.bucket import JOB_DAYS
from dedup.services import jobs
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/deduplication/jobs/<job_id>", **operation("Show a Spark job", JobStatus, errors=[404, 422]))
def show_job(job_id: JobId) -> JobStatus:
    store = open_store()
    job = store.jobs.get(job_id, JOB_DAYS)
    if job is None:
        raise NotFoundError("Job not found")
    return job_status(jobs.refresh(job, store))


handler = make_handler(app)
