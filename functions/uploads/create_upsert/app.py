"""POST /api/v1/uploads/upserts: creates an upload whose rows replace the records of the same source and id.

It has a route of its own because IAM policies see the method and the path of a request, but not its body."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import ExpectedUpload, UpsertRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.api.uploads import expect
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads/upserts",
    **operation(
        "Upload an upsert",
        ExpectedUpload,
        description="The file contains what changed in the source. Each row replaces the record of the same source and "
        "id, or is added; a row that is marked as deleted removes it. All other records stay. Send the file with PUT "
        "to the returned URL. Requires the policy Publisher or Admin, or the scope `dedup/publish`.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def create_upsert(request: Annotated[UpsertRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, caller(app), open_store()))


handler = make_handler(app)
