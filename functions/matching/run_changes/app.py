"""GET /api/v1/matching/runs/{run_id}/changes: who came together and who came apart between two runs."""

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

Since = Annotated[int, Query(ge=1, le=2**63 - 1, description="The other run")]


@app.get(
    "/api/v1/matching/runs/<run_id>/changes",
    **operation(
        "Compare two runs of the matching",
        RunChanges,
        description="Of the records that both know. The tables of the last five runs are kept.",
        errors=[404, 422],
    ),
)
def run_changes(run_id: RunId, since: Since) -> RunChanges:
    changes = open_store().runs.changes(run_id, since)
    if changes is None:
        raise NotFoundError("One of the runs is not there, was not finished, or is too long ago")
    return RunChanges.model_validate(changes)


handler = make_handler(app)
