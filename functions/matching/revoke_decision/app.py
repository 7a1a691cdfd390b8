"""DELETE /api/v1/matching/decisions/{decision_id}: revokes a decision."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.models.matching import Decision
from dedup.api.openapi import operation
from dedup.api.parameters import DecisionId, caller
from dedup.services.resolver import wake
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.delete(
    "/api/v1/matching/decisions/<decision_id>",
    **operation("Revoke a decision", Decision, errors=[404, 409, 422], waits="after"),
)
def revoke_decision(decision_id: DecisionId) -> Decision:
    decision = open_store().decisions.revoke(decision_id, caller(app))
    if decision is None:
        raise NotFoundError("Decision not found")
    wake()
    return Decision.model_validate(decision)


handler = make_handler(app)
