"""Refuses query parameters that an operation does not declare, and suggests the nearest declared one."""

from itertools import islice
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from dedup.validation import MAX_ERRORS, UNKNOWN_NAME, unknown_name

API = "/api/"
"""Path prefix of the operations that are checked. The page and the documentation accept other parameters, such as those
that the sign-in adds."""

SIGNATURE = "x-amz-"
"""Prefix of the parameters of a signed request, in lower case."""


def refuse_unknown_parameters(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Middleware of a route. Raises RequestValidationError if the query has a parameter that the route does not
    declare."""
    if errors := unknown_parameters(app):
        raise RequestValidationError(errors)
    return next_middleware(app)


def unknown_parameters(app: APIGatewayRestResolver) -> list[dict[str, Any]]:
    """Returns a validation error for each query parameter that the route does not declare."""
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
