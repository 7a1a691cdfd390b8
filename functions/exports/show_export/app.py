"""GET /api/v1/exports/{export_id}: shows the status of an export and the URL of its file."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.exports import ExportStatus
from dedup.api.openapi import operation
from dedup.api.parameters import ExportId
from dedup.api.presenters.exports import export_status
from dedup.aws.bucket import EXPORT_DAYS
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/exports/<export_id>", **operation("Show an export", ExportStatus, errors=[404, 422]))
def show_export(export_id: ExportId) -> ExportStatus:
    export = open_store().exports.get(export_id, EXPORT_DAYS)
    if export is None:
        raise NotFoundError("Export not found")
    return export_status(export)


handler = make_handler(app)
