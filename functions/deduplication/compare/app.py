"""GET /api/v1/deduplication/compare-sources: lists customers in every source, and in only one."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import Comparison
from dedup.api.openapi import operation
from dedup.api.pagination import cursor_question, decode_id_cursor, json_object, paged
from dedup.api.parameters import MAX_IDS, By, Cursor, Limit
from dedup.sets import SetQuery, count_by_source
from dedup.settings import settings
from dedup.store import open_store

QUESTION = "compare"

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/deduplication/compare-sources",
    **operation(
        "Compare sources",
        Comparison,
        description="Customers in every source, and in only one. Counts are of the whole set. Each list of ids is one "
        "page in ascending order; the `Link` header leads to the next page of all lists.",
        errors=[409, 422],
        paged=True,
        waits="before",
    ),
)
def compare(limit: Limit = 1000, cursor: Cursor = None, by: By = "customer") -> Response[str]:
    sources = settings().sources
    question = cursor_question(QUESTION, by)
    after = decode_id_cursor(cursor, question)
    only = {f"only_in_{source}": SetQuery(exactly=frozenset({source})) for source in sources}
    queries = {"in_all_sources": SetQuery(within=frozenset(sources)), **only}
    found = open_store().questions.select(queries, after, min(limit, MAX_IDS // len(queries)), by)
    counts = {f"{name}_count": query.count(found.regions) for name, query in queries.items()}
    by_source = count_by_source(found.regions)
    distinct = {f"{source}_count": by_source.get(source, 0) for source in sources}
    fields: dict[str, int | str] = {**{name: page.json for name, page in found.pages.items()}, **counts, **distinct}
    # The fields that every deployment has come first.
    everywhere = {name: fields[name] for name in ("in_all_sources", "in_all_sources_count")}
    comparison = json_object(everywhere | fields, found.resolved)
    return paged(app, comparison, found.next_positions(after), question)


handler = make_handler(app)
