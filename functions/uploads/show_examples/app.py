"""GET /api/v1/uploads/{upload_id}/examples: shows examples of what an upload would do."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, json_of, make_handler
from dedup.api.models.uploads import UploadExamples
from dedup.api.openapi import operation
from dedup.api.parameters import UploadId
from dedup.api.uploads import upload_of
from dedup.errors import Conflict
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/uploads/<upload_id>/examples",
    **operation(
        "Show examples of what an upload would do",
        UploadExamples,
        description="Of an upload whose status is `previewed` or `held`: rows that would be added, records that would "
        "be changed, with the values before and after, and records that would be removed. They are deleted when the "
        "upload is loaded or deleted.",
        errors=[404, 409, 422],
    ),
)
def show_examples(upload_id: UploadId) -> Response[str]:
    store = open_store()
    upload = upload_of(upload_id, store)
    examples = store.previews.examples(upload_id)
    if examples is None:
        raise Conflict(f"The upload is neither previewed nor held: its status is {upload.status}")
    return Response(200, "application/json", json_of(examples))


handler = make_handler(app)
