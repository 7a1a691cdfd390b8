"""GET /api/v1/deduplication/analyze: how many customers there are, and how many records are duplicates."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, pages, sets
from dedup.answers import Analysis
from dedup.store import open_store

QUESTION = "analyze"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/deduplication/analyze",
    **api.operation(
        "Count customers and duplicates",
        Analysis,
        description="A duplicate is a record of a customer beyond the first, also in the same source. "
        "The counts are of everything; the ids come in pages, ascending.",
        errors=[409, 422],
        paged=True,
    ),
)
def analyze(limit: api.Limit = 1000, cursor: api.Cursor = None, by: api.By = "customer") -> Response[str]:
    question = api.question(QUESTION, by)
    after = pages.decode_cursor(cursor, question)
    found = open_store().select(lambda regions: {"ids": set(regions)}, after, limit, by)
    customers = sets.count(found.regions)
    analysis: dict[str, int | str] = {
        "total_records": found.records,
        "unique_customers": customers,
        "duplicates_found": found.records - customers,
        "unique_customer_ids": found.pages["ids"].json,
    }
    return api.paged(app, api.json_object(analysis), found.next_positions(after), question)


handler = api.handler(app)
