"""GET /api/v1/matching/review: the pairs that a person should look at, the most uncertain first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api import presenters
from dedup.api.app import RESOLVER, install, json_of, make_handler
from dedup.api.models.matching import ReviewPair
from dedup.api.openapi import operation
from dedup.api.parameters import SmallLimit
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/matching/review",
    **operation(
        "List the pairs that nobody is sure of",
        list[ReviewPair],
        description="Those that the last run was least sure of come first; those that were decided are gone.",
        errors=[409, 422],
    ),
)
def review(limit: SmallLimit = 50) -> Response[str]:
    pairs, settings = open_store().review.page(limit)
    return Response(200, "application/json", json_of([presenters.explained_pair(pair, settings) for pair in pairs]))


handler = make_handler(app)
