"""POST /api/v1/uploads: where to PUT a file that is too large for the API."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.expected_uploads import expect
from dedup.api.models.uploads import ExpectedUpload, UploadRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads",
    **operation(
        "Upload a file",
        ExpectedUpload,
        description="The records of the file are added to those there are. `POST /api/v1/uploads/snapshots` replaces "
        "those of a source.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def create_upload(request: Annotated[UploadRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, caller(app), open_store()))


handler = make_handler(app)
