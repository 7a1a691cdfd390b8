"""PUT /api/v1/sources/{source}/mappings: saves a column mapping for later files of a source."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.mappings import SavedMapping, SavedMappingRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import SourceInPath, caller
from dedup.api.presenters.mappings import saved_mapping
from dedup.api.stated_mappings import naming_the_field
from dedup.services.column_mappings import save
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.put(
    "/api/v1/sources/<source>/mappings",
    **operation(
        "Save a column mapping",
        SavedMapping,
        description="It is used for every later file of the source with the same columns, in any order and spelling, "
        "and replaces the mapping that was saved for them.",
        errors=[404, 409, *BODY_ERRORS],
    ),
)
def save_mapping(source: SourceInPath, request: Annotated[SavedMappingRequest, Body()]) -> SavedMapping:
    with naming_the_field():
        return saved_mapping(save(source, request.mapping(), open_store(), caller(app)))


handler = make_handler(app)
