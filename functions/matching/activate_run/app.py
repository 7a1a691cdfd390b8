"""POST /api/v1/matching/runs/{run_id}/activate: makes a matching run the active run."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import MatchRun
from dedup.api.openapi import operation
from dedup.api.parameters import RunId, caller
from dedup.services.resolver import wake
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/matching/runs/<run_id>/activate",
    **operation(
        "Activate a matching run",
        MatchRun,
        description="Brings the entities of a run that is done up to date with what was added, changed, removed and "
        "decided since, and makes it the active run. Nothing changes if it is active already.",
        errors=[404, 409, 422],
    ),
)
def activate_run(run_id: RunId) -> MatchRun:
    run = open_store().runs.activate(run_id, caller(app))
    if run is None:
        raise NotFoundError("Run not found")
    wake()
    return MatchRun.model_validate(run)


handler = make_handler(app)
