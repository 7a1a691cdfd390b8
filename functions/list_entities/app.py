"""GET /api/v1/entities: the people that the last run of the matching found."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup import api, pages, people, sets
from dedup.answers import EntitySummary
from dedup.records import SourceList
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)

In = Annotated[SourceList, Query(alias="in", description="Sources that have the person, every one")]
NotIn = Annotated[SourceList, Query(description="Sources that do not have the person, none of them")]
MinRecords = Annotated[int, Query(ge=1, le=1000, description="Only people with so many records at least")]


@app.get(
    "/api/v1/entities",
    **api.operation("List the entities", list[EntitySummary], errors=[409, 422], paged=True),
)
def list_entities(
    within: In = "",
    not_in: NotIn = "",
    min_records: MinRecords = 1,
    limit: api.SmallLimit = 100,
    cursor: api.Cursor = None,
) -> Response[list[EntitySummary]]:
    has, lacks = frozenset(filter(None, within.split(","))), frozenset(filter(None, not_in.split(",")))
    question = f"entities of {min_records} in {sorted(has)} not in {sorted(lacks)}"
    after = pages.decode_cursor(cursor, question).get("id")
    found, more, settings = open_store().entities(
        lambda regions: sets.select(regions, has, lacks), after, limit, min_records
    )
    shown = [EntitySummary.model_validate(people.summary(entity, settings)) for entity in found if entity["records"]]
    return api.paged(app, shown, {"id": found[-1]["id"]} if more else None, question)


handler = api.handler(app)
