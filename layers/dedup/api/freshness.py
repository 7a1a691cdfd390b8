"""Freshness: how responses by entity say how far entities are resolved, and requests that wait for the resolver.

An object says it in two fields, a list in two headers. Requests wait by the preference `wait` (RFC 7240), which is
middleware of a route."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware

from dedup.errors import Unavailable
from dedup.observability import logger

if TYPE_CHECKING:
    from dedup.store.matching.freshness import AsOf

AS_OF = "X-As-Of"
UNRESOLVED = "X-Unresolved-Records"
PREFER = "Prefer"
APPLIED = "Preference-Applied"

MAX_WAIT = 20
"""Most seconds that a request waits. API Gateway allows 29 seconds in all."""

RESERVED = 5
"""Seconds of the function's time that are left for the answer, and so not waited."""

# Possessive quantifiers: the search takes linear time for any input.
_PREFERENCE = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.?)*+"?)++', re.DOTALL)
_SECONDS = re.compile(r'("?)0*([0-9]+)\1')


def fields(resolved: "AsOf | None") -> dict[str, int]:
    """Returns the fields of an object; none for an answer by customer."""
    return {"as_of": resolved.as_of, "unresolved_records": resolved.unresolved_records} if resolved else {}


def headers(resolved: "AsOf | None") -> dict[str, str]:
    """Returns the headers of a list; none for an answer by customer."""
    return {AS_OF: str(resolved.as_of), UNRESOLVED: str(resolved.unresolved_records)} if resolved else {}


def seconds_to_wait(values: Iterable[str]) -> int:
    """Returns the seconds of the preference `wait` in the values of the header Prefer, at most MAX_WAIT; 0 without it.

    Only the first of several counts, and one that is malformed is ignored (RFC 7240, section 2)."""
    for preference in _PREFERENCE.findall(",".join(values)):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            found = _SECONDS.fullmatch(value.strip())
            # int() refuses thousands of digits.
            return min(int(found[2][:3]), MAX_WAIT) if found else 0
    return 0


def wait_before(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Middleware of a route that reads entities: first waits until they contain all changes that are committed now. A
    question by customer does not wait."""
    seconds = _wanted(app)
    # A route without the parameter reads entities only.
    if not seconds or app.context["_route_args"].get("by", "entity") != "entity":
        return next_middleware(app)
    reached = _wait(app, seconds)
    response = next_middleware(app)
    if reached:
        response.headers[APPLIED] = f"wait={seconds}"
    return response


def wait_after(app: APIGatewayRestResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Middleware of a route that writes: then waits until the entities contain what was written."""
    response = next_middleware(app)
    seconds = _wanted(app)
    if seconds and response.status_code < 300:
        try:
            if _wait(app, seconds):
                response.headers[APPLIED] = f"wait={seconds}"
        except Unavailable as error:
            # The changes are committed, and the response must say so.
            logger.warning("Could not wait for the resolver", extra={"reason": str(error)})
    return response


def _wanted(app: APIGatewayRestResolver) -> int:
    values = app.current_event.resolved_headers_field.get(PREFER) or []
    return seconds_to_wait([values] if isinstance(values, str) else values)


def _wait(app: APIGatewayRestResolver, seconds: int) -> bool:
    """Whether the entities contain all changes that are committed now, after at most so many seconds."""
    from dedup.store import open_store

    freshness = open_store().freshness
    left = app.lambda_context.get_remaining_time_in_millis() / 1000 - RESERVED
    return freshness.wait(freshness.head(), min(seconds, left))
