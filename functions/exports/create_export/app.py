"""POST /api/v1/exports: starts an export, a file with the records of the customers of a set question."""

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
        "Start an export",
        ExportCreated,
        description="The file has one line for each record, ordered by customer: customer_id, sources (all sources of "
        "the customer), source, record_id, name, email, the optional fields, created_at. With `by=entity` the first "
        "column is entity_id, and lines are ordered by it. The data is one consistent snapshot. Poll the export until "
        "its status is `done`: then `url` leads to the file.",
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
    created = store.exports.create(question, request.format, key, digest, caller(app), request.by)
    task = tasks.enqueue_created("export", created, store)
    return Response(202, "application/json", ExportCreated.model_validate(task))


handler = make_handler(app)
