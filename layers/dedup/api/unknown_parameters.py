"""Finds query parameters that an operation does not declare, and the nearest declared ones."""

from itertools import islice
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from dedup.validation import MAX_ERRORS, UNKNOWN_NAME, unknown_name

API = "/api/"
"""What the paths of the operations begin with that take no parameters but their own. To others, the page's and the
documentation's, whoever leads there may add some: signing in does."""

SIGNATURE = "x-amz-"
"""What the parameters begin with that sign a request, in lower case."""


def refuse_unknown_parameters(app: APIGatewayRestResolver, go_on: NextMiddleware) -> Response[Any]:
    """For a route: goes on where the query has no other parameters than the route declares. Raises
    RequestValidationError."""
    if errors := unknown_parameters(app):
        raise RequestValidationError(errors)
    return go_on(app)


def unknown_parameters(app: APIGatewayRestResolver) -> list[dict[str, Any]]:
    """An error for each parameter of the query that the route does not declare, in the shape that validation gives."""
    route, event = app.context["_route"], app.current_event
    if not route.path.startswith(API):
        return []
    known = [parameter.alias for parameter in route.dependant.query_params]
    given = {**event.query_string_parameters, **event.multi_value_query_string_parameters}
    unknown = (name for name in given if name not in known and not name.lower().startswith(SIGNATURE))
    return [
        {"loc": ("query", name), "msg": unknown_name("query parameter", name, known), "type": UNKNOWN_NAME}
        for name in islice(unknown, MAX_ERRORS)
    ]
