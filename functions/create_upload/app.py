"""POST /api/v1/uploads: where to PUT a file that is too large for the API."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api
from dedup.answers import ExpectedUpload, UploadRequest
from dedup.expected import expect
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/uploads",
    **api.operation(
        "Upload a file",
        ExpectedUpload,
        description="The records of the file are added to those there are. `POST /api/v1/uploads/snapshots` replaces "
        "those of a source.",
        status=201,
        errors=api.BODY_ERRORS,
    ),
)
def create_upload(request: Annotated[UploadRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, api.caller(app), open_store()))


handler = api.handler(app)
