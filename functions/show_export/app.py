"""GET /api/v1/exports/{export_id}: what became of an export."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import accounts, api
from dedup.answers import ExportAccount
from dedup.exports import KEPT_DAYS
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/exports/<export_id>", **api.operation("See what became of an export", ExportAccount, errors=[404, 422])
)
def show_export(export_id: api.ExportId) -> ExportAccount:
    export = open_store().export(export_id, KEPT_DAYS)
    if export is None:
        raise NotFoundError("There is no such export")
    return accounts.shown_export(export)


handler = api.handler(app)
