"""POST /api/v1/uploads: creates an upload and returns the URL to PUT its file to."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import ExpectedUpload, UploadRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.api.uploads import expect
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads",
    **operation(
        "Upload a file",
        ExpectedUpload,
        description="Returns a presigned URL: send the file to it with PUT. Its records are added to the stored "
        "records. To replace all records of a source, use `POST /api/v1/uploads/snapshots`, and for a file of what "
        "changed, `POST /api/v1/uploads/upserts`.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def create_upload(request: Annotated[UploadRequest, Body()]) -> Response[ExpectedUpload]:
    return Response(201, "application/json", expect(request, caller(app), open_store()))


handler = make_handler(app)
