"""DELETE /api/v1/customers/{customer_id}: erases one customer, and says what it erased."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api
from dedup.answers import Erased
from dedup.erasure import erase
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.delete(
    "/api/v1/customers/<customer_id>",
    **api.operation(
        "Erase one customer",
        Erased,
        description="Their records, their place in every count, what runs of the matching and decisions hold of them, "
        "and the rejected rows that carry their id or one of their addresses. A source that still has them brings them "
        "again with its next export.",
        errors=[404, 422],
    ),
)
def erase_customer(customer_id: api.CustomerInPath) -> Erased:
    remaining = app.lambda_context.get_remaining_time_in_millis
    erasure = erase(customer_id, open_store(), api.caller(app), lambda: remaining() / 1000)
    if erasure is None:
        raise NotFoundError("There is no such customer")
    return Erased(message=f"Successfully erased customer {customer_id}", details=erasure)


handler = api.handler(app)
