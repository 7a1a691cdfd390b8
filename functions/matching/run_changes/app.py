"""GET /api/v1/matching/runs/{run_id}/changes: lists the entities that were merged or split between two runs."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.params import Query
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import RunChanges
from dedup.api.openapi import operation
from dedup.api.parameters import RunId
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)

Since = Annotated[int, Query(ge=1, le=2**63 - 1, description="The id of the run to compare with")]


@app.get(
    "/api/v1/matching/runs/<run_id>/changes",
    **operation(
        "Compare two matching runs",
        RunChanges,
        description="Compares the entities of the records that are in both runs. Tables are kept for the last five "
        "runs only.",
        errors=[404, 422],
    ),
)
def run_changes(run_id: RunId, since: Since) -> RunChanges:
    changes = open_store().runs.changes(run_id, since)
    if changes is None:
        raise NotFoundError("Not found: one of the runs does not exist, has not finished, or its tables were deleted")
    return RunChanges.model_validate(changes)


handler = make_handler(app)
