"""GET /api/v1/deduplication/regions: how many customers are in exactly which sources."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from dedup import api, sets
from dedup.answers import RegionCount
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get(
    "/api/v1/deduplication/regions",
    **api.operation(
        "Count the customers of every Venn region",
        list[RegionCount],
        description="A region is the customers that are in exactly these sources and in no other. Regions without a "
        "customer are left out; the largest comes first.",
        errors=[409, 422],
    ),
)
def regions(by: api.By = "customer") -> list[RegionCount]:
    largest_first = sets.largest_first(open_store().regions(by))
    return [RegionCount(sources=sources, count=count) for sources, count in largest_first]


handler = api.handler(app)
