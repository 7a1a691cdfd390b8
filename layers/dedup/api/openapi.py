"""What a route's decorator adds to the OpenAPI document."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from dedup.api.models.common import Problem
from dedup.api.pagination import TOTAL
from dedup.api.unknown_parameters import refuse_unknown_parameters

BODY_ERRORS = (400, 413, 415, 422)

_FAULTS = {
    400: "The body is not JSON",
    404: "No such thing",
    406: "Not in a form that the header Accept lets be given",
    409: "Not possible now: `detail` says why",
    413: "The body has more bytes than are allowed",
    415: "The body is not application/json",
    422: "Not valid: `detail` lists what is wrong and where",
    500: "A failure of ours; the log has it",
    503: "The database, or another service that this takes, is not available now",
}


def operation(
    summary: str,
    answer: Any,
    *,
    description: str = "",
    status: int = 200,
    media: str = "application/json",
    others: Mapping[str, Any] | None = None,
    errors: Sequence[int] = (),
    unavailable: Any = Problem,
    paged: bool = False,
    counted: bool = False,
    later: bool = False,
) -> dict[str, Any]:
    """What a route's decorator says of it in the OpenAPI document: its summary, its answer, its errors. `others`:
    the content that it may have of other media, as Powertools takes it. `unavailable` is what it answers while the
    database is down; None where it does not ask the database. `counted`: a page says how many items all pages have.
    `later`: it may leave the work to a queue, and then answers 202."""
    fault = "application/problem+json"
    responses: dict[int, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": {media: {"model": answer}, **(others or {})}},
        **{error: {"description": _FAULTS[error], "content": {fault: {"model": Problem}}} for error in (*errors, 500)},
    }
    if paged:
        link = {"description": 'The next page, where there is one: `<…>; rel="next"`', "schema": {"type": "string"}}
        responses[status]["headers"] = {"Link": link}
    if counted:
        total = {"description": "Items on all pages", "schema": {"type": "integer", "minimum": 0}}
        responses[status]["headers"][TOTAL] = total
    if later:
        responses[202] = {"description": HTTPStatus(202).phrase, "content": {media: {"model": answer}}}
    if unavailable:
        content = {fault if unavailable is Problem else media: {"model": unavailable}}
        wait = {"description": "Seconds to wait before the next try", "schema": {"type": "integer"}}
        responses[503] = {"description": _FAULTS[503], "content": content, "headers": {"Retry-After": wait}}
    return {
        "summary": summary,
        "description": description or None,
        "responses": responses,
        "middlewares": [refuse_unknown_parameters],
    }
