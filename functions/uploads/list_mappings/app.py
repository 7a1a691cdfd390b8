"""GET /api/v1/sources/{source}/mappings: lists the saved column mappings of a source."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.mappings import SavedMapping
from dedup.api.openapi import operation
from dedup.api.parameters import SourceInPath
from dedup.api.presenters.mappings import saved_mapping
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/sources/<source>/mappings",
    **operation(
        "List saved column mappings",
        list[SavedMapping],
        description="The latest first. A source has at most 200.",
        errors=[404, 422],
    ),
)
def list_mappings(source: SourceInPath) -> list[SavedMapping]:
    return [saved_mapping(saved) for saved in open_store().mappings.saved(source)]


handler = make_handler(app)
