"""GET /api/v1/uploads: lists uploads, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import UploadStatus
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters import upload_status
from dedup.store import open_store

QUESTION = "uploads"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/uploads", **operation("List uploads", list[UploadStatus], errors=[422], paged=True))
def list_uploads(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[UploadStatus]]:
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().uploads.page(before, limit + 1)
    shown = [upload_status(upload) for upload in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
