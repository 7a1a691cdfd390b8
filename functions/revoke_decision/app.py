"""DELETE /api/v1/matching/decisions/{decision_id}: takes a decision back."""

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from dedup import api
from dedup.answers import Decision
from dedup.store import open_store

app = APIGatewayRestResolver(**api.RESOLVER)
api.install(app)


@app.delete(
    "/api/v1/matching/decisions/<decision_id>",
    **api.operation("Take a decision back", Decision, errors=[404, 409, 422]),
)
def revoke_decision(decision_id: api.DecisionId) -> Decision:
    decision = open_store().revoke(decision_id, api.caller(app))
    if decision is None:
        raise NotFoundError("There is no such decision")
    return Decision.model_validate(decision)


handler = api.handler(app)
