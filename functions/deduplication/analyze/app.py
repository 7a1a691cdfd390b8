"""GET /api/v1/deduplication/analyze: how many customers there are, and how many records are duplicates."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import Analysis
from dedup.api.openapi import operation
from dedup.api.pagination import cursor_question, decode_cursor, json_object, paged
from dedup.api.parameters import By, Cursor, Limit
from dedup.sets import EVERYBODY
from dedup.store import open_store

QUESTION = "analyze"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/analyze",
    **operation(
        "Count customers and duplicates",
        Analysis,
        description="A duplicate is a record of a customer beyond the first, also in the same source. "
        "The counts are of everything; the ids come in pages, ascending.",
        errors=[409, 422],
        paged=True,
    ),
)
def analyze(limit: Limit = 1000, cursor: Cursor = None, by: By = "customer") -> Response[str]:
    question = cursor_question(QUESTION, by)
    after = decode_cursor(cursor, question)
    found = open_store().questions.select({"ids": EVERYBODY}, after, limit, by)
    customers = EVERYBODY.count(found.regions)
    analysis: dict[str, int | str] = {
        "total_records": found.records,
        "unique_customers": customers,
        "duplicates_found": found.records - customers,
        "unique_customer_ids": found.pages["ids"].json,
    }
    return paged(app, json_object(analysis), found.next_positions(after), question)


handler = make_handler(app)
