"""GET /api/v1/exports: the exports, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import accounts, api, pages
from dedup.answers import ExportAccount
from dedup.exports import KEPT_DAYS
from dedup.store import open_store

QUESTION = "exports"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get("/api/v1/exports", **api.operation("List the exports", list[ExportAccount], errors=[422], paged=True))
def list_exports(limit: api.SmallLimit = 100, cursor: api.Cursor = None) -> Response[list[ExportAccount]]:
    before = pages.decode_cursor(cursor, QUESTION).get("id")
    found = open_store().exports(before, limit + 1, KEPT_DAYS)
    shown = [accounts.shown_export(export) for export in found[:limit]]
    return api.paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = api.handler(app)
