"""The OpenAPI documentation of a route, as arguments of its decorator."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from dedup.api.freshness import APPLIED, AS_OF, UNRESOLVED, wait_after, wait_before
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
    entities: bool = False,
    waits: Literal["before", "after"] | None = None,
) -> dict[str, Any]:
    """Returns the decorator arguments that document a route.

    `response` is the model of the body, `others` its content in other media types (in Powertools' format). `errors` are
    the statuses beside 500 and 503. `unavailable` is the model of a 503; None if the route does not use the database.
    `paged` adds the header Link, `counted` the header X-Total-Count, `asynchronous` a 202 response, and `entities` the
    headers of freshness.headers(). With `waits`, the request header `Prefer: wait=N` lets the operation wait for the
    resolver: before it reads entities, or after it wrote."""
    problem_json = "application/problem+json"
    responses: dict[int, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": {media: {"model": response}, **(others or {})}},
        **{
            error: {"description": _ERRORS[error], "content": {problem_json: {"model": Problem}}}
            for error in (*errors, 500)
        },
    }
    headers = responses[status].setdefault("headers", {})
    if paged:
        headers["Link"] = _header('Link to the next page, if any: `<…>; rel="next"`', "string")
    if counted:
        headers[TOTAL] = _header("Number of items on all pages", "integer")
    if entities:
        headers[AS_OF] = _header("Entry of the change log up to which the entities contain all changes", "integer")
        headers[UNRESOLVED] = _header("Number of changed records that the entities do not contain yet", "integer")
    if waits:
        headers[APPLIED] = _header("`wait=N` if all changes were resolved in time", "string")
    if asynchronous:
        responses[202] = {"description": HTTPStatus(202).phrase, "content": {media: {"model": response}}}
    if unavailable:
        content = {problem_json if unavailable is Problem else media: {"model": unavailable}}
        wait = _header("Seconds to wait before the next attempt", "integer")
        responses[503] = {"description": _ERRORS[503], "content": content, "headers": {"Retry-After": wait}}
    return {
        "summary": summary,
        "description": description or None,
        "responses": responses,
        "middlewares": [refuse_unknown_parameters, *([_WAITS[waits]] if waits else [])],
    }


_WAITS = {"before": wait_before, "after": wait_after}


def _header(description: str, kind: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind} | ({"minimum": 0} if kind == "integer" else {})}
