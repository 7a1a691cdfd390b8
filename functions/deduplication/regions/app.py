"""GET /api/v1/deduplication/regions: counts the customers of each region."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import RegionCount
from dedup.api.openapi import operation
from dedup.api.pagination import cursor_question, decode_cursor, paged
from dedup.api.parameters import By, Cursor, Limit
from dedup.store import open_store

QUESTION = "regions"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/regions",
    **operation(
        "Count the customers of each region",
        list[RegionCount],
        description="A region is the customers that are in exactly these sources and in no other. Regions without "
        "customers are omitted. The largest region comes first; regions of the same size are ordered by their sources. "
        "Each page is read at a different time: a region whose count changes between two pages may be in both or in "
        "neither.",
        errors=[409, 422],
        paged=True,
        counted=True,
        entities=True,
        waits="before",
    ),
)
def regions(limit: Limit = 1000, cursor: Cursor = None, by: By = "customer") -> Response[list[RegionCount]]:
    question = cursor_question(QUESTION, by)
    after = decode_cursor(cursor, question)
    position = (after.get("count", 0), after.get("sources", 0)) if after else None
    found = open_store().questions.region_page(position, limit, by)
    counts = [RegionCount(sources=sources, count=count) for sources, count in found.regions]
    last = dict(zip(("count", "sources"), found.last, strict=True)) if found.last else None
    return paged(app, counts, last, question, found.total, found.resolved)


handler = make_handler(app)
