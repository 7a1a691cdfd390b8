"""GET /api/v1/customers/{customer_id}: shows one customer's records in all sources."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, json_of, make_handler
from dedup.api.models.customers import Customer
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, json_object, paged
from dedup.api.parameters import Cursor, CustomerInPath, Limit
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/customers/<customer_id>",
    **operation("Show one customer in all sources", Customer, errors=[404, 422], paged=True),
)
def show_customer(customer_id: CustomerInPath, limit: Limit = 1000, cursor: Cursor = None) -> Response[str]:
    question = f"customer {customer_id}"
    after = decode_cursor(cursor, question).get("id")
    customer = open_store().customers.get(customer_id, after, limit)
    if customer is None:
        raise NotFoundError("Customer not found")
    # The records are JSON text from SQL: parsing them here would only cost time.
    about = {"sources": json_of(customer.sources), "entity_ids": json_of(customer.entities)}
    body = json_object({"customer_id": json_of(customer_id), **about, "records": customer.records})
    return paged(app, body, {"id": customer.last} if customer.last else None, question)


handler = make_handler(app)
