"""GET /api/v1/deduplication/jobs: the jobs, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import accounts, api, pages, spark_jobs
from dedup.answers import JobAccount
from dedup.store import open_store

QUESTION = "jobs"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/deduplication/jobs",
    **api.operation(
        "List the jobs",
        list[JobAccount],
        description="As they were when last asked for one by one: only then EMR Serverless is asked.",
        errors=[422],
        paged=True,
    ),
)
def list_jobs(limit: api.SmallLimit = 100, cursor: api.Cursor = None) -> Response[list[JobAccount]]:
    before = pages.decode_cursor(cursor, QUESTION).get("id")
    found = open_store().jobs(before, limit + 1, spark_jobs.KEPT_DAYS)
    shown = [accounts.shown_job(job) for job in found[:limit]]
    return api.paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = api.handler(app)
