"""POST /api/v1/deduplication/jobs: starts a Spark job that counts regions directly from files."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import JobCreated, JobRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import IdempotencyKey, caller, client_key
from dedup.services import jobs, tasks
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/deduplication/jobs",
    **operation(
        "Start a Spark job",
        JobCreated,
        description="Counts regions directly from the files below a prefix of the bucket, and changes no record. Files "
        "are read by the same rules as uploads. Poll the job until its status is `done`: then it has the region "
        "counts, and URLs of Parquet files with the regions, the sources of each customer, the rejected rows, and the "
        "result of each file.",
        status=202,
        errors=[*BODY_ERRORS, 409],
    ),
)
def create_job(request: Annotated[JobRequest, Body()], idempotency_key: IdempotencyKey = None) -> Response[JobCreated]:
    jobs.require()
    key, digest = client_key(idempotency_key, request)
    store = open_store()
    created = store.jobs.create(request.prefix, key, digest, caller(app))
    task = tasks.enqueue_created("job", created, store)
    return Response(202, "application/json", JobCreated.model_validate(task))


handler = make_handler(app)
