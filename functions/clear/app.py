"""DELETE /api/v1/customers: deletes every record."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup import api
from dedup.answers import Cleared, DeletionDetails
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.delete("/api/v1/customers", **api.operation("Delete all records", Cleared))
def clear() -> Cleared:
    deleted = open_store().clear()
    return Cleared(message="Successfully deleted all customer records", details=DeletionDetails(deleted_count=deleted))


handler = api.handler(app)
