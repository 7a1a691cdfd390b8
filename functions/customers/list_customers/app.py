"""GET /api/v1/customers: lists the records in id order."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import StoredRecord
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, Limit
from dedup.store import open_store

QUESTION = "records"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/customers", **operation("List records", list[StoredRecord], errors=[422], paged=True))
def list_customers(limit: Limit = 1000, cursor: Cursor = None) -> Response[str]:
    after = decode_cursor(cursor, QUESTION).get("id")
    records, last = open_store().records.page(after, limit)
    return paged(app, records, {"id": last} if last else None, QUESTION)


handler = make_handler(app)
