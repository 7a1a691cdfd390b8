"""GET /api/v1/uploads: the uploads, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER
from dedup.api.app import install
from dedup.api.app import make_handler
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor
from dedup.api.pagination import paged
from dedup.api.parameters import Cursor
from dedup.api.parameters import SmallLimit
from dedup.api.presenters import shown_upload
from dedup.api.models.uploads import UploadAccount
from dedup.store import open_store

QUESTION = "uploads"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/uploads", **operation("List the uploads", list[UploadAccount], errors=[422], paged=True))
def list_uploads(limit: SmallLimit = 100, cursor: Cursor = None) -> Response[list[UploadAccount]]:
    before = decode_cursor(cursor, QUESTION).get("id")
    found = open_store().accounts(before, limit + 1)
    shown = [shown_upload(account) for account in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = make_handler(app)
