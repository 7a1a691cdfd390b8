"""POST /api/v1/matching/runs: begins a run of the matching."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api, tasks
from dedup.answers import RunBegun, RunRequest
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/matching/runs",
    **api.operation(
        "Begin a run of the matching",
        RunBegun,
        description="It finds which records are one person. Until it is done, the last run that was stays in force.",
        status=202,
        errors=api.BODY_ERRORS,
    ),
)
def start_run(request: Annotated[RunRequest, Body()], idempotency_key: api.IdempotencyKey = None) -> Response[RunBegun]:
    key, digest = api.client_key(idempotency_key, request)
    store = open_store()
    noted = store.expect_run(request.settings, key, digest, api.caller(app))
    begun = tasks.begin("run", noted, store)
    return Response(202, "application/json", RunBegun.model_validate(begun))


handler = api.handler(app)
