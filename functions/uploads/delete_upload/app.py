"""DELETE /api/v1/uploads/{upload_id}: deletes the records of one upload."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import Cleared, DeletionDetails
from dedup.api.openapi import operation
from dedup.api.parameters import UploadId, caller
from dedup.api.uploads import upload_of
from dedup.services import tasks
from dedup.services.resolver import wake
from dedup.settings import settings
from dedup.store import open_store
from dedup.store.task_outbox import Task

MAX_SYNCHRONOUS = 20_000
"""Most records deleted in the request, which takes seconds. Larger uploads are deleted by the ingest function."""

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.delete(
    "/api/v1/uploads/<upload_id>",
    **operation(
        "Delete the records of an upload",
        Cleared,
        description=f"Records of an upload with more than {MAX_SYNCHRONOUS:,} records are deleted asynchronously: the "
        "response is 202, and the upload's status is `deleting` until all of them are deleted. An upload that changed "
        "or removed records cannot be deleted, nor can one with records that a later snapshot or upsert states, too.",
        asynchronous=True,
        errors=[404, 409, 422],
        waits="after",
    ),
)
def delete_upload(upload_id: UploadId) -> Response[Cleared]:
    store, principal = open_store(), caller(app)
    upload = upload_of(upload_id, store)
    if upload.accepted > MAX_SYNCHRONOUS and upload.status != "deleted" and settings().files_queue:
        store.uploads.request_deletion(upload_id, principal)
        tasks.enqueue(Task("delete_upload", upload_id), store)
        return response(202, f"The records of upload {upload_id} will be deleted", 0)
    deleted = store.uploads.delete(upload_id, principal) or 0
    wake()
    return response(200, f"Successfully deleted the records of upload {upload_id}", deleted)


def response(status: int, message: str, deleted: int) -> Response[Cleared]:
    body = Cleared(message=message, details=DeletionDetails(deleted_count=deleted))
    return Response(status, "application/json", body)


handler = make_handler(app)
