"""POST /api/v1/uploads/snapshots: creates an upload that replaces all records of a source.

It has a route of its own because IAM policies see the method and the path of a request, but not its body."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import ExpectedUpload, SnapshotRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.api.uploads import expect
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads/snapshots",
    **operation(
        "Upload a snapshot",
        ExpectedUpload,
        description="The file contains all records that the source holds now. They replace all other records of the "
        "source: customers that are not in the file are removed. Send the file with PUT to the returned URL. Requires "
        "the policy Publisher or Admin, or the scope `dedup/publish`.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def create_snapshot(request: Annotated[SnapshotRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, caller(app), open_store()))


handler = make_handler(app)
