"""GET /api/v1/customers/source/{source}: lists the records of one source in id order."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Path
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.customers import StoredRecord
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, Limit
from dedup.records import Source
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/customers/source/<source>",
    **operation("List the records of one source", list[StoredRecord], errors=[404, 422], paged=True),
)
def by_source(source: Annotated[Source, Path()], limit: Limit = 1000, cursor: Cursor = None) -> Response[str]:
    question = f"records of {source}"
    after = decode_cursor(cursor, question).get("id")
    records, last = open_store().records.page(after, limit, source)
    return paged(app, records, {"id": last} if last else None, question)


handler = make_handler(app)
