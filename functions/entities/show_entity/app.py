"""GET /api/v1/entities/{entity_id}: shows an entity with its records and the evidence that joins them."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, json_of, make_handler
from dedup.api.models.entities import Entity
from dedup.api.openapi import operation
from dedup.api.parameters import EntityId
from dedup.api.presenters.entities import entity_details
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/entities/<entity_id>", **operation("Show an entity", Entity, errors=[404, 409, 422], waits="before"))
def show_entity(entity_id: EntityId) -> Response[str]:
    found = open_store().entities.get(entity_id)
    if found is None:
        raise NotFoundError("Entity not found")
    return Response(200, "application/json", json_of(entity_details(*found)))


handler = make_handler(app)
