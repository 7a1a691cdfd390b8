"""GET /api/v1/matching/runs/{run_id}: how far a run of the matching is, and what it came to."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api
from dedup.answers import MatchRun
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.get("/api/v1/matching/runs/<run_id>", **api.operation("See a run of the matching", MatchRun, errors=[404, 422]))
def show_run(run_id: api.RunId) -> MatchRun:
    run = open_store().run(run_id)
    if run is None:
        raise NotFoundError("There is no such run")
    return MatchRun.model_validate(run)


handler = api.handler(app)
