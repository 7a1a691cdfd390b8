"""GET /api/v1/exports: the exports, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER
from dedup.api.app import install
from dedup.api.app import make_handler
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor
from dedup.api.pagination import paged
from dedup.api.parameters import Cursor
from dedup.api.parameters import SmallLimit
from dedup.api.presenters import shown_export
from dedup.api.models.exports import ExportAccount
from dedup.services.exports import KEPT_DAYS
from dedup.store import open_store

QUESTION = "exports"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/exports", **operation("List the exports", list[ExportAccount], errors=[422], paged=True))
def list_exports(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[ExportAccount]]:
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().exports(before, limit + 1, KEPT_DAYS)
    shown = [shown_export(export) for export in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
