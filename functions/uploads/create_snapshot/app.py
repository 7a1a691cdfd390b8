"""POST /api/v1/uploads/snapshots: where to PUT a file with all of a source's records.

A route of its own: policies know the method and the path of a request, and nothing of its body."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.expected_uploads import expect
from dedup.api.models.uploads import ExpectedUpload, SnapshotRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads/snapshots",
    **operation(
        "Upload a snapshot",
        ExpectedUpload,
        description="The file states everything that a source holds now: its records replace all others of the source, "
        "and customers that are not in it leave. Needs PublisherPolicy or AdminPolicy, or the scope `dedup/publish`.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def create_snapshot(request: Annotated[SnapshotRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, caller(app), open_store()))


handler = make_handler(app)
