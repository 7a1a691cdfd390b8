"""GET /api/v1/uploads: lists uploads, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import UploadStatus
from dedup.api.openapi import operation
from dedup.api.pagination import newest_first
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters.uploads import upload_status
from dedup.store import open_store

QUESTION = "uploads"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/uploads", **operation("List uploads", list[UploadStatus], errors=[422], paged=True))
def list_uploads(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[UploadStatus]]:
    return newest_first(app, QUESTION, cursor, limit, open_store().uploads.page, upload_status)


handler = make_handler(app)
