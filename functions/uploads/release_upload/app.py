"""POST /api/v1/uploads/{upload_id}/release: continues to load an upload that is held."""

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
    "/api/v1/uploads/<upload_id>/release",
    **operation(
        "Release a held snapshot",
        UploadStatus,
        description="Loads a snapshot whose status is `held`. It is held again if, by then, it would remove more "
        "customers than was shown, or if another field would lose more than half of its values. A repeated request has "
        "no further effect. `DELETE /api/v1/uploads/{upload_id}` discards it. Requires the policy Publisher or "
        "Admin, or the scope `dedup/publish`.",
        errors=[404, 409, 422],
    ),
)
def release_upload(upload_id: UploadId) -> UploadStatus:
    store = open_store()
    upload_of(upload_id, store)
    decide(upload_id, "release", store, caller(app))
    return upload_status(upload_of(upload_id, store), store.mappings.of_upload(upload_id))


handler = make_handler(app)
