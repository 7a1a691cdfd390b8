"""GET / and GET /health: shows that the API runs, and whether its database is available."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.system import Health, Service
from dedup.api.openapi import operation
from dedup.errors import Unavailable
from dedup.settings import VERSION
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/", **operation("Show the API's version", Service, unavailable=None))
def service() -> Service:
    return Service(message="Customer Deduplication API", status="running", version=VERSION, docs="/docs")


@app.get("/health", **operation("Check the database", Health, unavailable=Health))
def health() -> Response[Health]:
    try:
        open_store().ping()
    except Unavailable:
        return Response(503, "application/json", Health(status="unhealthy"), {"Retry-After": "1"})
    return Response(200, "application/json", Health(status="healthy"))


handler = make_handler(app)
