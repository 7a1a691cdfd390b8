"""GET /api/v1/matching/decisions: lists decisions, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import Decision
from dedup.api.openapi import operation
from dedup.api.pagination import newest_first
from dedup.api.parameters import Cursor, SmallLimit
from dedup.store import open_store

QUESTION = "decisions"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/matching/decisions",
    **operation("List decisions", list[Decision], errors=[422], paged=True),
)
def list_decisions(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[Decision]]:
    return newest_first(app, QUESTION, cursor, limit, open_store().decisions.page, Decision.model_validate)


handler = make_handler(app)
