"""The OpenAPI documentation of a route, as arguments of its decorator."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from dedup.api.models.common import Problem
from dedup.api.pagination import TOTAL
from dedup.api.unknown_parameters import refuse_unknown_parameters

BODY_ERRORS = (400, 413, 415, 422)

_ERRORS = {
    400: "The body is not valid JSON",
    404: "Not found",
    406: "The requested format needs another `Accept` header",
    409: "Not possible in the current state; `detail` has the reason",
    413: "The body is too large",
    415: "The body is not `application/json`",
    422: "The request is not valid; `detail` lists the validation errors",
    500: "Internal error; see the log for this request id",
    503: "The database or another service is not available; wait for `Retry-After` seconds",
}


def operation(
    summary: str,
    response: Any,
    *,
    description: str = "",
    status: int = 200,
    media: str = "application/json",
    others: Mapping[str, Any] | None = None,
    errors: Sequence[int] = (),
    unavailable: Any = Problem,
    paged: bool = False,
    counted: bool = False,
    asynchronous: bool = False,
) -> dict[str, Any]:
    """Returns the decorator arguments that document a route.

    `response` is the model of the body, `others` its content in other media types (in Powertools' format). `errors` are
    the statuses beside 500 and 503. `unavailable` is the model of a 503; None if the route does not use the database.
    `paged` adds the header Link, `counted` the header X-Total-Count, and `asynchronous` a 202 response."""
    problem_json = "application/problem+json"
    responses: dict[int, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": {media: {"model": response}, **(others or {})}},
        **{
            error: {"description": _ERRORS[error], "content": {problem_json: {"model": Problem}}}
            for error in (*errors, 500)
        },
    }
    if paged:
        link = {"description": 'Link to the next page, if any: `<…>; rel="next"`', "schema": {"type": "string"}}
        responses[status]["headers"] = {"Link": link}
    if counted:
        total = {"description": "Number of items on all pages", "schema": {"type": "integer", "minimum": 0}}
        responses[status]["headers"][TOTAL] = total
    if asynchronous:
        responses[202] = {"description": HTTPStatus(202).phrase, "content": {media: {"model": response}}}
    if unavailable:
        content = {problem_json if unavailable is Problem else media: {"model": unavailable}}
        wait = {"description": "Seconds to wait before the next attempt", "schema": {"type": "integer"}}
        responses[503] = {"description": _ERRORS[503], "content": content, "headers": {"Retry-After": wait}}
    return {
        "summary": summary,
        "description": description or None,
        "responses": responses,
        "middlewares": [refuse_unknown_parameters],
    }
