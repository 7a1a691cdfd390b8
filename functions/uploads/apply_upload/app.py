"""POST /api/v1/uploads/{upload_id}/apply: continues to load an upload that is previewed."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.uploads import UploadStatus
from dedup.api.openapi import operation
from dedup.api.parameters import UploadId, caller
from dedup.api.presenters.uploads import upload_status
from dedup.api.uploads import upload_of
from dedup.services.previews import decide
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/uploads/<upload_id>/apply",
    **operation(
        "Apply a preview",
        UploadStatus,
        description="Loads the file of an upload whose status is `previewed`, if the records of its source are those "
        "that the preview was compared with. Otherwise the upload fails, and the file has to be previewed again. A "
        "repeated request has no further effect. Requires the policy Publisher or Admin, or the scope `dedup/publish`.",
        errors=[404, 409, 422],
    ),
)
def apply_upload(upload_id: UploadId) -> UploadStatus:
    store = open_store()
    upload_of(upload_id, store)
    decide(upload_id, "apply", store, caller(app))
    return upload_status(upload_of(upload_id, store), store.mappings.of_upload(upload_id))


handler = make_handler(app)
