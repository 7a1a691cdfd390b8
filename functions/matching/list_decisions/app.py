"""GET /api/v1/matching/decisions: lists decisions, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import Decision
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
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
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().decisions.page(before, limit + 1)
    shown = [Decision.model_validate(decision) for decision in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
