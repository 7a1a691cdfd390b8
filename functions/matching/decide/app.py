"""POST /api/v1/matching/decisions: stores the decision that records are the same person, or different people."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.errors import Invalid
from dedup.api.models.matching import Decision, DecisionRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.services.resolver import wake
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/matching/decisions",
    **operation(
        "Decide whether records are the same person",
        Decision,
        description="A decision applies to the entities of the active run immediately, and to every later run until it "
        "is revoked. Of two decisions about the same pair, the later one applies.",
        status=201,
        errors=BODY_ERRORS,
        waits="after",
    ),
)
def decide(request: Annotated[DecisionRequest, Body()]) -> Response[Decision]:
    if len(set(request.record_ids)) < 2:
        raise Invalid(("body", "record_ids"), "At least two different records are needed")
    try:
        made = open_store().decisions.decide(request.record_ids, request.verdict, request.note, caller(app))
    except LookupError as error:
        raise Invalid(("body", "record_ids"), str(error)) from error
    wake()
    return Response(201, "application/json", Decision.model_validate(made))


handler = make_handler(app)
