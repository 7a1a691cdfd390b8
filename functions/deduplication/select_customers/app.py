"""GET /api/v1/deduplication/customers: lists the customers of a set question."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.deduplication import CustomerSelection
from dedup.api.openapi import operation
from dedup.api.pagination import cursor_question, decode_id_cursor, json_object, paged
from dedup.api.parameters import By, Cursor, Limit
from dedup.records import SourceList
from dedup.sets import SetQuery
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)

In = Annotated[
    SourceList, Query(alias="in", description="Include customers present in all of these sources; separated by commas")
]
NotIn = Annotated[
    SourceList, Query(description="Exclude customers present in any of these sources; separated by commas")
]
Region = Annotated[
    SourceList,
    Query(description="Include customers present in exactly these sources and in no other; separated by commas"),
]


@app.get(
    "/api/v1/deduplication/customers",
    **operation(
        "List the customers of a set question",
        CustomerSelection,
        description="Customers that are in all sources of `in` and in no source of `not_in`; with `region`, in exactly "
        "these sources. Without any of the three parameters, all customers.",
        errors=[409, 422],
        paged=True,
        waits="before",
    ),
)
def select_customers(
    within: In = "",
    not_in: NotIn = "",
    region: Region = "",
    limit: Limit = 1000,
    cursor: Cursor = None,
    by: By = "customer",
) -> Response[str]:
    named = [frozenset(filter(None, names.split(","))) for names in (within, not_in, region)]
    question = cursor_question("customers in {} not in {} region {}".format(*map(sorted, named)), by)
    after = decode_id_cursor(cursor, question)
    query = SetQuery(*named)
    found = open_store().questions.select({"ids": query}, after, limit, by)
    answer = json_object({"count": query.count(found.regions), "customer_ids": found.pages["ids"].json}, found.resolved)
    return paged(app, answer, found.next_positions(after), question)


handler = make_handler(app)
