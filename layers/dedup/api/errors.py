"""Converts every exception that reaches a handler to application/problem+json (RFC 9457)."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
    ResponseValidationError,
)

from dedup.api.unknown_parameters import unknown_parameters
from dedup.errors import Conflict, KeyReused, NoRun, Unavailable
from dedup.observability import log_failure, logger
from dedup.records import describe
from dedup.validation import MAX_ERRORS


class Invalid(Exception):
    """A request that is not valid for a reason that the type of a field cannot express. `loc` is the path of the
    field."""

    def __init__(self, loc: Sequence[str | int], msg: str) -> None:
        super().__init__(msg)
        self.loc = loc


class BadCursor(ValueError):
    """A cursor that encode_cursor() did not return, or returned for another question."""


class NotJson(json.JSONDecodeError):
    """The body is not valid JSON."""


def problem(
    status: int, detail: str | Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Returns an error as application/problem+json (RFC 9457). A list of validation errors is truncated to MAX_ERRORS,
    with the full number in `total`."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if isinstance(detail, str):
        body["detail"] = detail
    else:
        body |= {"detail": list(detail[:MAX_ERRORS]), "total": len(detail)}
    # Powertools serialises application/json only.
    return Response(status, "application/problem+json", json.dumps(body), dict(headers or {}))


def invalid(loc: Sequence[str | int], msg: str, kind: str = "value_error") -> Response[str]:
    """Returns a 422 with one validation error."""
    return problem(422, [{"loc": list(loc), "msg": msg, "type": kind}])


def on_invalid_request(app: APIGatewayRestResolver, error: RequestValidationError) -> Response[str]:
    """Returns a 400 if the body is not JSON, otherwise a 422 that lists the errors and all unknown parameters."""
    errors = [describe(found) for found in error.errors()]
    if any(found["type"] == "json_invalid" for found in errors):
        return problem(400, "The body is not valid JSON")
    # Unknown parameters are listed beside other errors: a missing parameter may be a misspelt one.
    unknown = [describe(found) for found in unknown_parameters(app)]
    return problem(422, [*(found for found in errors if found not in unknown), *unknown])


def _on_failure(error: Exception) -> Response[str]:
    log_failure(error)
    return problem(500, "Internal error; see the log for this request id")


def _on_unavailable(error: Unavailable) -> Response[str]:
    logger.warning("Unavailable", extra={"reason": str(error), "cause": type(error.__cause__).__name__})
    return problem(503, str(error), {"Retry-After": "1"})


ON_ERROR: dict[type[Exception], Callable[[Any], Response[str]]] = {
    ResponseValidationError: _on_failure,
    RequestUnsupportedContentType: lambda error: problem(415, "Expected application/json"),
    ServiceError: lambda error: problem(error.status_code, error.msg),
    Unavailable: _on_unavailable,
    BadCursor: lambda error: invalid(("query", "cursor"), "The cursor does not belong to this request"),
    Invalid: lambda error: invalid(error.loc, str(error)),
    Conflict: lambda error: problem(409, str(error)),
    NoRun: lambda error: problem(409, str(error)),
    KeyReused: lambda error: invalid(("header", "Idempotency-Key"), "This key was already used with another body"),
    # Powertools prefers this handler to its own, so the exceptions that it handles itself must be listed above.
    Exception: _on_failure,
}
