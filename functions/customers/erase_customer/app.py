"""DELETE /api/v1/customers/{customer_id}: erases one customer, and says what it erased."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import Erased
from dedup.api.openapi import operation
from dedup.api.parameters import CustomerInPath, caller
from dedup.api.presenters import erasure_details
from dedup.services.erasure import erase
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.delete(
    "/api/v1/customers/<customer_id>",
    **operation(
        "Erase one customer",
        Erased,
        description="Deletes their records, their place in every count, and what matching runs and decisions hold of "
        "them. Rejected rows with their id or one of their addresses are cut out of files in the bucket afterwards: "
        "repeat the request to see what is left, until the answer is 404. A source that still has the customer "
        "brings them again with its next export.",
        errors=[404, 422],
    ),
)
def erase_customer(customer_id: CustomerInPath) -> Erased:
    erasure = erase(customer_id, open_store(), caller(app))
    if erasure is None:
        raise NotFoundError("There is no such customer")
    details = erasure_details(customer_id, erasure)
    return Erased(message=f"Successfully erased customer {customer_id}", details=details)


handler = make_handler(app)
