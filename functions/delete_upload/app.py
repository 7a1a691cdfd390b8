"""DELETE /api/v1/uploads/{upload_id}: takes one upload's records out again."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api
from dedup.answers import Cleared, DeletionDetails
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.delete(
    "/api/v1/uploads/<upload_id>", **api.operation("Take an upload's records out", Cleared, errors=[404, 409, 422])
)
def delete_upload(upload_id: api.UploadId) -> Cleared:
    deleted = open_store().delete_upload(upload_id, api.caller(app))
    if deleted is None:
        raise NotFoundError("There is no such upload")
    return Cleared(
        message=f"Successfully deleted the records of upload {upload_id}",
        details=DeletionDetails(deleted_count=deleted),
    )


handler = api.handler(app)
