"""POST /api/v1/entities/lookup: finds entities that match the given details. Nothing is written."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api import freshness
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.entities import LookupRecord, Matches
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.services import lookup
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/entities/lookup",
    **operation(
        "Find entities that match the given details",
        Matches,
        description="Uses the rules and the model of the active matching run. Nothing is written.",
        errors=[409, *BODY_ERRORS],
        waits="before",
    ),
)
def look_up_entity(record: Annotated[LookupRecord, Body()]) -> Matches:
    store = open_store()
    # First: what is resolved meanwhile may be missing in the matches.
    resolved = freshness.fields(store.freshness.as_of())
    return Matches.model_validate({"matches": lookup.look_up(record.model_dump(), store), **resolved})


handler = make_handler(app)
