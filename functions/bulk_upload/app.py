"""POST /api/v1/customers/bulk: stores many records, all or none."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api
from dedup.answers import UploadDetails, Uploaded
from dedup.records import Batch
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post(
    "/api/v1/customers/bulk",
    **api.operation(
        "Store many records, all or none",
        Uploaded,
        description="Records that repeat one that is stored already are kept and counted as duplicates.",
        status=201,
        errors=api.BODY_ERRORS,
    ),
)
def bulk_upload(batch: Annotated[Batch, Body()], idempotency_key: api.IdempotencyKey = None) -> Response[Uploaded]:
    key, digest = api.client_key(idempotency_key, batch)
    upload = open_store().add(batch.customers, key=key, digest=digest, principal=api.caller(app))
    api.count_accepted(0 if upload.repeated else upload.accepted)
    uploaded = Uploaded(
        message=f"Successfully uploaded {upload.accepted} customer records",
        details=UploadDetails(count=upload.accepted, upload_id=upload.id),
    )
    return Response(201, "application/json", uploaded)


handler = api.handler(app)
