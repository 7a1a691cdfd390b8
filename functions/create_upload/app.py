"""POST /api/v1/uploads: where to PUT a file that is too large for the API."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api, bucket
from dedup.answers import ExpectedUpload, UploadRequest
from dedup.settings import settings
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post("/api/v1/uploads", **api.operation("Upload a file", ExpectedUpload, status=201, errors=api.BODY_ERRORS))
def create_upload(request: Annotated[UploadRequest, Body()]) -> Response[ExpectedUpload]:
    if request.mode == "replace" and request.source is None:
        raise api.Invalid(("body", "source"), "A snapshot needs a source")
    if request.size and request.size > settings().max_file_bytes:
        raise api.Invalid(("body", "size"), f"At most {settings().max_file_bytes} bytes are taken: split the file")
    key = bucket.key_for(request.filename, bucket.Place(request.source, request.mode))
    upload_id = open_store().expect(key, request.source, request.mode, api.caller(app))
    url = bucket.upload_url(key.format(upload_id), request.size)
    expected = ExpectedUpload(id=upload_id, status="waiting", url=url, method="PUT", expires_in=bucket.URL_SECONDS)
    return Response(201, "application/json", expected)


handler = api.handler(app)
