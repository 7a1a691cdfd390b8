"""GET /api/v1/exports: lists exports, the newest first."""

from functools import partial

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.exports import ExportStatus
from dedup.api.openapi import operation
from dedup.api.pagination import newest_first
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters.exports import export_status
from dedup.aws.bucket import EXPORT_DAYS
from dedup.store import open_store

QUESTION = "exports"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/exports", **operation("List exports", list[ExportStatus], errors=[422], paged=True))
def list_exports(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[ExportStatus]]:
    return newest_first(
        app, QUESTION, cursor, limit, partial(open_store().exports.page, kept_days=EXPORT_DAYS), export_status
    )


handler = make_handler(app)
