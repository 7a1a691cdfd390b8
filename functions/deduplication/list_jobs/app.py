"""GET /api/v1/deduplication/jobs: lists Spark jobs, the newest first."""

from functools import partial

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import JobStatus
from dedup.api.openapi import operation
from dedup.api.pagination import newest_first
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters.jobs import job_status
from dedup.aws.bucket import JOB_DAYS
from dedup.store import open_store

QUESTION = "jobs"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/jobs",
    **operation(
        "List Spark jobs",
        list[JobStatus],
        description="The status of a job is as of its latest request by id, because only that request polls EMR "
        "Serverless.",
        errors=[422],
        paged=True,
    ),
)
def list_jobs(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[JobStatus]]:
    return newest_first(app, QUESTION, cursor, limit, partial(open_store().jobs.page, kept_days=JOB_DAYS), job_status)


handler = make_handler(app)
