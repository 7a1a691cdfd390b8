"""GET /api/v1/deduplication/jobs: lists Spark jobs, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import JobStatus
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters import job_status
from dedup.services.jobs import KEPT_DAYS
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
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().jobs.page(before, limit + 1, KEPT_DAYS)
    shown = [job_status(job) for job in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
