"""GET /api/v1/deduplication/compare-sources: which customers every source has, and which only one has."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, pages, sets
from dedup.answers import Comparison
from dedup.settings import settings
from dedup.store import open_store

QUESTION = "compare"

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/deduplication/compare-sources",
    **api.operation(
        "Compare the sources",
        Comparison,
        description="Which customers every source has, and which only one has. The counts are of everything; each list "
        "of ids is a page, ascending, and the link leads to the next page of all of them.",
        errors=[409, 422],
        paged=True,
    ),
)
def compare(limit: api.Limit = 1000, cursor: api.Cursor = None, by: api.By = "customer") -> Response[str]:
    sources = settings().sources
    question = api.question(QUESTION, by)
    after = pages.decode_cursor(cursor, question)

    def questions(regions: sets.Regions) -> dict[str, set[sets.Region]]:
        only = {f"only_in_{source}": sets.only_in(regions, source) for source in sources}
        return {"in_all_sources": sets.select(regions, within=set(sources)), **only}

    found = open_store().select(questions, after, min(limit, api.MAX_IDS // (len(sources) + 1)), by)
    counts = {f"{name}_count": sets.count(found.regions, regions) for name, regions in questions(found.regions).items()}
    by_source = sets.count_by_source(found.regions)
    distinct = {f"{source}_count": by_source.get(source, 0) for source in sources}
    said: dict[str, int | str] = {**{name: page.json for name, page in found.pages.items()}, **counts, **distinct}
    # What the model names comes first.
    comparison = api.json_object({name: said[name] for name in (*Comparison.model_fields, *said)})
    return api.paged(app, comparison, found.next_positions(after), question)


handler = api.handler(app)
