"""GET /api/v1/customers/{customer_id}: one customer's records in all sources."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api, pages
from dedup.answers import Customer
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/customers/<customer_id>",
    **api.operation("See one customer in all sources", Customer, errors=[404, 422], paged=True),
)
def show_customer(customer_id: api.CustomerInPath, limit: api.Limit = 1000, cursor: api.Cursor = None) -> Response[str]:
    question = f"customer {customer_id}"
    after = pages.decode_cursor(cursor, question).get("id")
    customer = open_store().customer(customer_id, after, limit)
    if customer is None:
        raise NotFoundError("There is no such customer")
    # The records are JSON already: made in SQL, and not read again.
    about = {"sources": api.json_of(customer.sources), "entity_ids": api.json_of(customer.entities)}
    body = api.json_object({"customer_id": customer_id, **about, "records": customer.records})
    return api.paged(app, body, {"id": customer.last} if customer.last else None, question)


handler = api.handler(app)
