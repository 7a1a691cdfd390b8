"""POST /api/v1/customers/bulk: stores many records in one transaction."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import UploadDetails, Uploaded
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import IdempotencyKey, caller, client_key
from dedup.observability import count_accepted
from dedup.records import Batch
from dedup.services.resolver import wake
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/customers/bulk",
    **operation(
        "Store many records",
        Uploaded,
        description="All records are stored, or none if any of them is not valid. Records that repeat a stored record "
        "are kept and counted as duplicates.",
        status=201,
        errors=BODY_ERRORS,
        waits="after",
    ),
)
def bulk_upload(batch: Annotated[Batch, Body()], idempotency_key: IdempotencyKey = None) -> Response[Uploaded]:
    key, digest = client_key(idempotency_key, batch)
    upload = open_store().records.add(batch.customers, key=key, digest=digest, principal=caller(app))
    wake()
    count_accepted(0 if upload.repeated else upload.accepted)
    uploaded = Uploaded(
        message=f"Successfully uploaded {upload.accepted} customer records",
        details=UploadDetails(count=upload.accepted, upload_id=upload.id),
    )
    return Response(201, "application/json", uploaded)


handler = make_handler(app)
