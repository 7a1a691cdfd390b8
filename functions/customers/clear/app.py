"""DELETE /api/v1/customers: deletes all records."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.errors import Invalid
from dedup.api.models.customers import Cleared, DeletionDetails
from dedup.api.openapi import operation
from dedup.api.parameters import caller
from dedup.services.resolver import wake
from dedup.settings import settings
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


Confirm = Annotated[
    str | None, Query(max_length=100, description="Must be `everything` if the deployment requires a confirmation")
]


@app.delete("/api/v1/customers", **operation("Delete all records", Cleared, errors=[422], waits="after"))
def clear(confirm: Confirm = None) -> Cleared:
    if settings().clear_confirm and confirm != "everything":
        raise Invalid(("query", "confirm"), "This deletes all records. To confirm, add confirm=everything to the query")
    deleted = open_store().records.clear(caller(app))
    wake()
    return Cleared(message="Successfully deleted all customer records", details=DeletionDetails(deleted_count=deleted))


handler = make_handler(app)
