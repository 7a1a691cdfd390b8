"""POST /api/v1/deduplication/jobs: has regions counted straight from files, on Spark."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api, spark_jobs, tasks
from dedup.answers import JobBegun, JobRequest
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/deduplication/jobs",
    **api.operation(
        "Count regions straight from files, on Spark",
        JobBegun,
        description="Reads the objects that are in the bucket now, below a prefix, as loading reads them, "
        "and changes no record. Ask for the job until its status is done: then it has the regions, and URLs of Parquet "
        "files with them, each customer's sources, the rejected rows, and what became of each file.",
        status=202,
        errors=[*api.BODY_ERRORS, 409],
    ),
)
def create_job(
    request: Annotated[JobRequest, Body()], idempotency_key: api.IdempotencyKey = None
) -> Response[JobBegun]:
    spark_jobs.require()
    key, digest = api.client_key(idempotency_key, request)
    store = open_store()
    noted = store.expect_job(request.prefix, key, digest, api.caller(app))
    begun = tasks.begin("job", noted, store)
    return Response(202, "application/json", JobBegun.model_validate(begun))


handler = api.handler(app)
