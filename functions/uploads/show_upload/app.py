"""GET /api/v1/uploads/{upload_id}: shows the status and results of an upload."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import UploadStatus
from dedup.api.openapi import operation
from dedup.api.parameters import UploadId
from dedup.api.presenters.uploads import upload_status
from dedup.api.uploads import upload_of
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/uploads/<upload_id>", **operation("Show an upload", UploadStatus, errors=[404, 422]))
def show_upload(upload_id: UploadId) -> UploadStatus:
    store = open_store()
    return upload_status(upload_of(upload_id, store), store.mappings.of_upload(upload_id))


handler = make_handler(app)
