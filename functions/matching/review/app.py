"""GET /api/v1/matching/review: lists pairs for clerical review, the most uncertain first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup.api.app import RESOLVER, install, json_of, make_handler
from dedup.api.models.matching import ReviewPair
from dedup.api.openapi import operation
from dedup.api.parameters import SmallLimit
from dedup.api.presenters.entities import explained_pair
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get(
    "/api/v1/matching/review",
    **operation(
        "List pairs for review",
        list[ReviewPair],
        description="The most uncertain pairs of the active run come first. Pairs with a decision are not listed.",
        errors=[409, 422],
    ),
)
def review(limit: SmallLimit = 50) -> Response[str]:
    pairs, settings = open_store().review.page(limit)
    return Response(200, "application/json", json_of([explained_pair(pair, settings) for pair in pairs]))


handler = make_handler(app)
