"""GET /api/v1/uploads/{upload_id}: what became of an upload."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import accounts, api
from dedup.answers import UploadAccount
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/uploads/<upload_id>", **api.operation("See what became of an upload", UploadAccount, errors=[404, 422])
)
def show_upload(upload_id: api.UploadId) -> UploadAccount:
    account = open_store().account(upload_id)
    if account is None:
        raise NotFoundError("There is no such upload")
    return accounts.shown_upload(account)


handler = api.handler(app)
