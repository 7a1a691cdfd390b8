"""POST /api/v1/uploads/snapshots: where to PUT a file with all of a source's records.

A route of its own: policies know the method and the path of a request, and nothing of its body."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api
from dedup.answers import ExpectedUpload, SnapshotRequest
from dedup.expected import expect
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/uploads/snapshots",
    **api.operation(
        "Upload a snapshot",
        ExpectedUpload,
        description="The file states everything that a source holds now: its records replace all others of the source, "
        "and customers that are not in it leave. Needs the policy Publisher or Admin, or the scope `dedup/publish`.",
        status=201,
        errors=api.BODY_ERRORS,
    ),
)
def create_snapshot(request: Annotated[SnapshotRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, api.caller(app), open_store()))


handler = api.handler(app)
