"""GET /api/v1/deduplication/jobs/{job_id}: what became of a job."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER
from dedup.api.app import install
from dedup.api.app import make_handler
from dedup.api.openapi import operation
from dedup.api.parameters import JobId
from dedup.api.presenters import shown_job
from dedup.aws import spark
from dedup.api.models.deduplication import JobAccount
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/jobs/<job_id>", **operation("See what became of a job", JobAccount, errors=[404, 422])
)
def show_job(job_id: JobId) -> JobAccount:
    store = open_store()
    job = store.job(job_id, spark.KEPT_DAYS)
    if job is None:
        raise NotFoundError("There is no such job")
    return shown_job(spark.seen_to(job, store))


handler = make_handler(app)
