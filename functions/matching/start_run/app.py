"""POST /api/v1/matching/runs: begins a run of the matching."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER
from dedup.api.app import install
from dedup.api.app import make_handler
from dedup.api.openapi import BODY_ERRORS
from dedup.api.openapi import operation
from dedup.api.parameters import IdempotencyKey
from dedup.api.parameters import caller
from dedup.api.parameters import client_key
from dedup.services import tasks
from dedup.api.models.matching import RunBegun
from dedup.api.models.matching import RunRequest
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/matching/runs",
    **operation(
        "Begin a run of the matching",
        RunBegun,
        description="It finds which records are one person. Until it is done, the last run that was stays in force.",
        status=202,
        errors=BODY_ERRORS,
    ),
)
def start_run(request: Annotated[RunRequest, Body()], idempotency_key: IdempotencyKey = None) -> Response[RunBegun]:
    key, digest = client_key(idempotency_key, request)
    store = open_store()
    noted = store.expect_run(request.settings, key, digest, caller(app))
    begun = tasks.begin("run", noted, store)
    return Response(202, "application/json", RunBegun.model_validate(begun))


handler = make_handler(app)
