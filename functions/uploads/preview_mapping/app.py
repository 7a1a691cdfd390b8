"""POST /api/v1/uploads/{upload_id}/mapping/preview: shows the first records as a column mapping would store them."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.mappings import MappingPreview, MappingRequest, PreviewedRow
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import UploadId
from dedup.api.stated_mappings import naming_the_field
from dedup.api.uploads import upload_of
from dedup.services.column_mappings import Answer
from dedup.services.mapping_previews import preview
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads/<upload_id>/mapping/preview",
    **operation(
        "Preview a column mapping",
        MappingPreview,
        description="Reads the first ten rows of an upload whose status is `needs_mapping`. Nothing is stored.",
        errors=[404, 409, *BODY_ERRORS],
    ),
)
def preview_mapping(upload_id: UploadId, request: Annotated[MappingRequest, Body()]) -> MappingPreview:
    store = open_store()
    upload = upload_of(upload_id, store)
    with naming_the_field():
        records, rejected = preview(upload, Answer(request.mapping(), request.source), store)
    rows = [PreviewedRow(line=row.line, field=row.field, reason=row.reason) for row in rejected]
    return MappingPreview(records=records, rejected=rows)


handler = make_handler(app)
