"""GET /api/v1/uploads: the uploads, the newest first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import accounts, api, pages
from dedup.answers import UploadAccount
from dedup.store import open_store

QUESTION = "uploads"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get("/api/v1/uploads", **api.operation("List the uploads", list[UploadAccount], errors=[422], paged=True))
def list_uploads(limit: api.SmallLimit = 100, cursor: api.Cursor = None) -> Response[list[UploadAccount]]:
    before = pages.decode_cursor(cursor, QUESTION).get("id")
    found = open_store().accounts(before, limit + 1)
    shown = [accounts.shown_upload(account) for account in found[:limit]]
    return api.paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, QUESTION)


handler = api.handler(app)
