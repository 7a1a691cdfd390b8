"""GET /api/v1/customers: the stored records, in id order."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, pages
from dedup.answers import StoredRecord
from dedup.store import open_store

QUESTION = "records"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get("/api/v1/customers", **api.operation("List the records", list[StoredRecord], errors=[422], paged=True))
def list_customers(limit: api.Limit = 1000, cursor: api.Cursor = None) -> Response[str]:
    after = pages.decode_cursor(cursor, QUESTION).get("id")
    records, last = open_store().records_page(after, limit)
    return api.paged(app, records, {"id": last} if last else None, QUESTION)


handler = api.handler(app)
