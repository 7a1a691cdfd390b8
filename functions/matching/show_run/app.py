"""GET /api/v1/matching/runs/{run_id}: shows the progress and results of a matching run."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import MatchRun
from dedup.api.openapi import operation
from dedup.api.parameters import RunId
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.get("/api/v1/matching/runs/<run_id>", **operation("Show a matching run", MatchRun, errors=[404, 422]))
def show_run(run_id: RunId) -> MatchRun:
    run = open_store().runs.get(run_id)
    if run is None:
        raise NotFoundError("Run not found")
    return MatchRun.model_validate(run)


handler = make_handler(app)
