"""DELETE /api/v1/sources/{source}/mappings: deletes a saved column mapping of a source, or all of them."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.mappings import DeletedMappings
from dedup.api.openapi import operation
from dedup.api.parameters import SourceInPath
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)

MappingId = Annotated[
    int | None, Query(alias="id", ge=1, le=2**63 - 1, description="Only this mapping; by default, all of the source")
]


@app.delete(
    "/api/v1/sources/<source>/mappings",
    **operation("Delete saved column mappings", DeletedMappings, errors=[404, 422]),
)
def delete_mappings(source: SourceInPath, mapping_id: MappingId = None) -> DeletedMappings:
    deleted = open_store().mappings.delete(source, mapping_id)
    if mapping_id is not None and not deleted:
        raise NotFoundError("Mapping not found")
    return DeletedMappings(deleted_count=deleted)


handler = make_handler(app)
