"""DELETE /api/v1/customers/{customer_id}: erases one customer and reports what was erased."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import Erased
from dedup.api.openapi import operation
from dedup.api.parameters import CustomerInPath, caller
from dedup.api.presenters.customers import erasure_details
from dedup.services.erasure import erase
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.delete(
    "/api/v1/customers/<customer_id>",
    **operation(
        "Erase one customer",
        Erased,
        description="Deletes the customer's records, and removes the customer from all counts, matching runs and "
        "decisions. Afterwards, rejected rows with the customer's id or email addresses are removed from files in the "
        "bucket: repeat the request to see what is left, until the response is 404. If a source still has the "
        "customer, the next upload of that source adds the customer again.",
        errors=[404, 422],
        waits="after",
    ),
)
def erase_customer(customer_id: CustomerInPath) -> Erased:
    erasure = erase(customer_id, open_store(), caller(app))
    if erasure is None:
        raise NotFoundError("Customer not found")
    return Erased(message=f"Successfully erased customer {customer_id}", details=erasure_details(customer_id, erasure))


handler = make_handler(app)
