"""GET /api/v1/matching/decisions: what people said of records, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, pages
from dedup.answers import Decision
from dedup.store import open_store

QUESTION = "decisions"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/matching/decisions",
    **api.operation("List the decisions", list[Decision], errors=[422], paged=True),
)
def list_decisions(limit: api.SmallLimit = 100, cursor: api.Cursor = None) -> Response[list[Decision]]:
    before = pages.decode_cursor(cursor, QUESTION).get("id")
    found = open_store().decisions(before, limit + 1)
    shown = [Decision.model_validate(decision) for decision in found[:limit]]
    return api.paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = api.handler(app)
