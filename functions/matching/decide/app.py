"""POST /api/v1/matching/decisions: someone says that records are one person, or different ones."""

from typing import Annotated

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.openapi.params import Body
from dedup.api.app import RESOLVER, install, make_handler
from dedup.api.errors import Invalid
from dedup.api.models.matching import Decision, DecisionRequest
from dedup.api.openapi import BODY_ERRORS, operation
from dedup.api.parameters import caller
from dedup.store import open_store

app = APIGatewayRestResolver(**RESOLVER)
install(app)


@app.post(
    "/api/v1/matching/decisions",
    **operation(
        "Decide that records are one person, or different ones",
        Decision,
        description="It binds every later run until it is taken back, and the entities of the last one at once. Of two "
        "decisions about the same pair the later one holds.",
        status=201,
        errors=BODY_ERRORS,
    ),
)
def decide(request: Annotated[DecisionRequest, Body()]) -> Response[Decision]:
    if len(set(request.record_ids)) < 2:
        raise Invalid(("body", "record_ids"), "Two different records at least are needed")
    try:
        made = open_store().decisions.decide(request.record_ids, request.verdict, request.note, caller(app))
    except LookupError as error:
        raise Invalid(("body", "record_ids"), str(error)) from error
    return Response(201, "application/json", Decision.model_validate(made))


handler = make_handler(app)
