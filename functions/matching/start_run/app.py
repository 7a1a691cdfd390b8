"""POST /api/v1/matching/runs: starts a matching run."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.errors import Invalid
from dedup.api.models.matching import RunCreated, RunRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import IdempotencyKey, caller, client_key
from dedup.services import tasks
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/matching/runs",
    **operation(
        "Start a matching run",
        RunCreated,
        description="A run finds which records are the same person. It trains a match model, or takes the model "
        "version of another run. The previous run stays active until it is done.",
        status=202,
        errors=BODY_ERRORS,
    ),
)
def start_run(request: Annotated[RunRequest, Body()], idempotency_key: IdempotencyKey = None) -> Response[RunCreated]:
    if request.model_of is not None and request.settings:
        raise Invalid(("body", "settings"), "A run with model_of has the settings of that run: leave settings out")
    key, digest = client_key(idempotency_key, request)
    store = open_store()
    try:
        created = store.runs.create(
            request.settings, key, digest, caller(app), model_of=request.model_of, activate=request.activate
        )
    except LookupError as error:
        raise Invalid(("body", "model_of"), str(error)) from error
    task = tasks.enqueue_created("run", created, store)
    return Response(202, "application/json", RunCreated.model_validate(task))


handler = make_handler(app)
