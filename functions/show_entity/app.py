"""GET /api/v1/entities/{entity_id}: one person, with all records and why they belong together."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api, people
from dedup.answers import Entity
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get("/api/v1/entities/<entity_id>", **api.operation("See an entity", Entity, errors=[404, 409, 422]))
def show_entity(entity_id: api.EntityId) -> Response[str]:
    found = open_store().entity(entity_id)
    if found is None:
        raise NotFoundError("There is no such entity")
    return Response(200, "application/json", api.json_of(people.whole(*found)))


handler = api.handler(app)
