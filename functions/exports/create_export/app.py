"""POST /api/v1/exports: has the records of the customers of a set question written to a file."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.exports import ExportCreated, ExportRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import IdempotencyKey, caller, client_key
from dedup.services import tasks
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/exports",
    **operation(
        "Write customers and their records to a file",
        ExportCreated,
        description="A line for each record, by customer: customer_id, sources (all that have the customer), source, "
        "record_id, name, email, what more is known, created_at. By entity, a line for each record of each person, by "
        "entity_id, which comes first. All of it is of one moment. Ask for the export until its status is done: then "
        "its url leads to the file.",
        status=202,
        errors=[*BODY_ERRORS, 409],
    ),
)
def create_export(
    request: Annotated[ExportRequest, Body()], idempotency_key: IdempotencyKey = None
) -> Response[ExportCreated]:
    question = request.model_dump_json(by_alias=True, exclude={"format"})
    key, digest = client_key(idempotency_key, request)
    store = open_store()
    noted = store.exports.create(question, request.format, key, digest, caller(app), request.by)
    begun = tasks.begin("export", noted, store)
    return Response(202, "application/json", ExportCreated.model_validate(begun))


handler = make_handler(app)
