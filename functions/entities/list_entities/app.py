"""GET /api/v1/entities: lists the entities of the active matching run."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.entities import EntitySummary
from dedup.api.openapi import operation
from dedup.api.pagination import decode_cursor, paged
from dedup.api.parameters import Cursor, SmallLimit
from dedup.api.presenters.entities import entity_summary
from dedup.records import SourceList
from dedup.sets import SetQuery
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)

In = Annotated[
    SourceList, Query(alias="in", description="Include entities present in all of these sources; separated by commas")
]
NotIn = Annotated[
    SourceList, Query(description="Exclude entities present in any of these sources; separated by commas")
]
MinRecords = Annotated[int, Query(ge=1, le=1000, description="Include entities with at least this number of records")]


@app.get(
    "/api/v1/entities",
    **operation("List entities", list[EntitySummary], errors=[409, 422], paged=True, entities=True, waits="before"),
)
def list_entities(
    within: In = "",
    not_in: NotIn = "",
    min_records: MinRecords = 1,
    limit: SmallLimit = 100,
    cursor: Cursor = None,
) -> Response[list[EntitySummary]]:
    query = SetQuery(*(frozenset(filter(None, names.split(","))) for names in (within, not_in)))
    question = f"entities of {min_records} in {sorted(query.within)} not in {sorted(query.without)}"
    after = decode_cursor(cursor, question).get("id")
    page = open_store().entities.page(query, after, limit, min_records)
    shown = [
        EntitySummary.model_validate(entity_summary(entity, page.settings))
        for entity in page.entities
        if entity["records"]
    ]
    last = {"id": page.entities[-1]["id"]} if page.more else None
    return paged(app, shown, last, question, resolved=page.resolved)


handler = make_handler(app)
