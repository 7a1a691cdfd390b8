"""POST /api/v1/customers: stores one record."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import StoredRecord
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import IdempotencyKey, caller, client_key
from dedup.observability import count_accepted
from dedup.records import Record
from dedup.services.resolver import wake
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/customers",
    **operation("Store one record", StoredRecord, status=201, errors=BODY_ERRORS, waits="after"),
)
def create_customer(record: Annotated[Record, Body()], idempotency_key: IdempotencyKey = None) -> Response[str]:
    key, digest = client_key(idempotency_key, record)
    upload = open_store().records.add([record.fields()], key=key, digest=digest, principal=caller(app))
    wake()
    count_accepted(0 if upload.repeated else upload.accepted)
    stored = StoredRecord(id=upload.record_id, created_at=upload.created_at, updated_at=None, **record.fields())
    return Response(201, "application/json", stored.model_dump_json(exclude_unset=True))


handler = make_handler(app)
