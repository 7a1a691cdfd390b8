"""DELETE /api/v1/uploads/{upload_id}: takes one upload's records out again."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import Cleared, DeletionDetails
from dedup.api.openapi import operation
from dedup.api.parameters import UploadId, caller
from dedup.services import tasks
from dedup.settings import settings
from dedup.store import open_store
from dedup.store.tasks import Task

AT_ONCE = 20_000
"""Records that are deleted while the caller waits: seconds. What has more is left to the function that loads files."""

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.delete(
    "/api/v1/uploads/<upload_id>",
    **operation(
        "Take an upload's records out",
        Cleared,
        description=f"Of an upload with more than {AT_ONCE:,} records they are deleted later: the answer is 202, and "
        "the upload's status is `deleting` until they are gone.",
        later=True,
        errors=[404, 409, 422],
    ),
)
def delete_upload(upload_id: UploadId) -> Response[Cleared]:
    store, principal = open_store(), caller(app)
    account = store.uploads.get(upload_id)
    if account is None:
        raise NotFoundError("There is no such upload")
    if account.accepted > AT_ONCE and account.status != "deleted" and settings().files_queue:
        store.uploads.request_deletion(upload_id, principal)
        tasks.enqueue(Task("delete_upload", upload_id), store)
        return answer(202, f"The records of upload {upload_id} will be deleted", 0)
    deleted = store.uploads.delete(upload_id, principal) or 0
    return answer(200, f"Successfully deleted the records of upload {upload_id}", deleted)


def answer(status: int, message: str, deleted: int) -> Response[Cleared]:
    body = Cleared(message=message, details=DeletionDetails(deleted_count=deleted))
    return Response(status, "application/json", body)


handler = make_handler(app)
