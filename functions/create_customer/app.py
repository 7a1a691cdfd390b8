"""POST /api/v1/customers: stores one record."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup import api
from dedup.answers import StoredRecord
from dedup.records import Record
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.post("/api/v1/customers", **api.operation("Store one record", StoredRecord, status=201, errors=api.BODY_ERRORS))
def create_customer(record: Annotated[Record, Body()], idempotency_key: api.IdempotencyKey = None) -> Response[str]:
    key, digest = api.client_key(idempotency_key, record)
    upload = open_store().add([record], key=key, digest=digest, principal=api.caller(app))
    api.count_accepted(0 if upload.repeated else upload.accepted)
    known = record.model_dump(exclude_none=True)
    stored = StoredRecord(id=upload.record_id, created_at=upload.created_at, updated_at=None, **known)
    return Response(201, "application/json", stored.model_dump_json(exclude_unset=True))


handler = api.handler(app)
