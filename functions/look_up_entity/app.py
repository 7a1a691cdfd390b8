"""POST /api/v1/entities/lookup: who a record most likely is. Nothing is written."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api, people
from dedup.answers import LookupRecord, Matches
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/entities/lookup",
    **api.operation(
        "Find who a record most likely is",
        Matches,
        description="By the rules and the model of the last run. Nothing is written.",
        errors=[409, *api.BODY_ERRORS],
    ),
)
def look_up_entity(record: Annotated[LookupRecord, Body()]) -> Matches:
    return Matches.model_validate({"matches": people.look_up(record, open_store())})


handler = api.handler(app)
