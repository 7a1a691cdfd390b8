"""GET /api/v1/matching/status: shows how far the entities of the active run are up to date."""

from dataclasses import asdict

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import MatchingStatus
from dedup.api.openapi import operation
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/matching/status",
    **operation("Show how far entities are up to date", MatchingStatus, errors=[409, 422]),
)
def matching_status() -> MatchingStatus:
    return MatchingStatus.model_validate(asdict(open_store().freshness.status()))


handler = make_handler(app)
