"""POST /api/v1/deduplication/jobs: has regions counted straight from files, on Spark."""

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
        "Count regions straight from files, on Spark",
        JobCreated,
        description="Reads the objects that are in the bucket now, below a prefix, as loading reads them, "
        "and changes no record. Ask for the job until its status is done: then it has the regions, and URLs of Parquet "
        "files with them, each customer's sources, the rejected rows, and what became of each file.",
        status=202,
        errors=[*BODY_ERRORS, 409],
    ),
)
def create_job(request: Annotated[JobRequest, Body()], idempotency_key: IdempotencyKey = None) -> Response[JobCreated]:
    jobs.require()
    key, digest = client_key(idempotency_key, request)
    store = open_store()
    noted = store.jobs.create(request.prefix, key, digest, caller(app))
    begun = tasks.begin("job", noted, store)
    return Response(202, "application/json", JobCreated.model_validate(begun))


handler = make_handler(app)
