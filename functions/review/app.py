"""GET /api/v1/matching/review: the pairs that a person should look at, the most uncertain first."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from dedup import api, people
from dedup.answers import ReviewPair
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/matching/review",
    **api.operation(
        "List the pairs that nobody is sure of",
        list[ReviewPair],
        description="Those that the last run was least sure of come first; those that were decided are gone.",
        errors=[409, 422],
    ),
)
def review(limit: api.SmallLimit = 50) -> Response[str]:
    pairs, settings = open_store().review(limit)
    return Response(200, "application/json", api.json_of([people.explained(pair, settings) for pair in pairs]))


handler = api.handler(app)
