"""GET /api/v1/customers/source/{source}: the stored records of one source, in id order."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from dedup import api, pages
from dedup.answers import StoredRecord
from dedup.records import Source
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/customers/source/<source>",
    **api.operation("List the records of one source", list[StoredRecord], errors=[404, 422], paged=True),
)
def by_source(source: Annotated[Source, Path()], limit: api.Limit = 1000, cursor: api.Cursor = None) -> Response[str]:
    question = f"records of {source}"
    after = pages.decode_cursor(cursor, question).get("id")
    records, last = open_store().records_page(after, limit, source)
    return api.paged(app, records, {"id": last} if last else None, question)


handler = api.handler(app)
