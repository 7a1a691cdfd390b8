"""GET /api/v1/deduplication/analyze: counts customers and duplicate records."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import Analysis
from dedup.api.openapi import operation
from dedup.api.pagination import cursor_question, decode_id_cursor, json_object, paged
from dedup.api.parameters import By, Cursor, Limit
from dedup.sets import EVERYBODY, count
from dedup.store import open_store

QUESTION = "analyze"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/analyze",
    **operation(
        "Count customers and duplicates",
        Analysis,
        description="A duplicate is an additional record of a customer already counted, in the same source too. "
        "Counts are of the whole set; ids are paginated in ascending order.",
        errors=[409, 422],
        paged=True,
        waits="before",
    ),
)
def analyze(limit: Limit = 1000, cursor: Cursor = None, by: By = "customer") -> Response[str]:
    question = cursor_question(QUESTION, by)
    after = decode_id_cursor(cursor, question)
    found = open_store().questions.select({"ids": EVERYBODY}, after, limit, by)
    customers = count(found.regions)
    analysis: dict[str, int | str] = {
        "total_records": found.records,
        "unique_customers": customers,
        "duplicates_found": found.records - customers,
        "unique_customer_ids": found.pages["ids"].json,
    }
    return paged(app, json_object(analysis, found.resolved), found.next_positions(after), question)


handler = make_handler(app)
