"""GET /api/v1/deduplication/jobs/{job_id}: what became of a job."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import accounts, api, spark_jobs
from dedup.answers import JobAccount
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/deduplication/jobs/<job_id>", **api.operation("See what became of a job", JobAccount, errors=[404, 422])
)
def show_job(job_id: api.JobId) -> JobAccount:
    store = open_store()
    job = store.job(job_id, spark_jobs.KEPT_DAYS)
    if job is None:
        raise NotFoundError("There is no such job")
    return accounts.shown_job(spark_jobs.seen_to(job, store))


handler = api.handler(app)
