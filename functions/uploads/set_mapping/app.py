"""PUT /api/v1/uploads/{upload_id}/mapping: states the column mapping of an upload, and continues to load it."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.mappings import MappingRequest
from dedup.api.models.uploads import UploadStatus
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import UploadId, caller
from dedup.api.presenters.uploads import upload_status
from dedup.api.stated_mappings import naming_the_field
from dedup.api.uploads import upload_of
from dedup.services.column_mappings import Answer, state
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.put(
    "/api/v1/uploads/<upload_id>/mapping",
    **operation(
        "State the column mapping of an upload",
        UploadStatus,
        description="Continues an upload whose status is `needs_mapping`. With `save`, later files of the source with "
        "the same columns are loaded without a question.",
        errors=[404, 409, *BODY_ERRORS],
    ),
)
def set_mapping(upload_id: UploadId, request: Annotated[MappingRequest, Body()]) -> UploadStatus:
    store = open_store()
    upload = upload_of(upload_id, store)
    with naming_the_field():
        state(upload, Answer(request.mapping(), request.source, request.save), store, caller(app))
    return upload_status(upload_of(upload_id, store), store.mappings.of_upload(upload_id))


handler = make_handler(app)
