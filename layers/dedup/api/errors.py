"""The error model: every exception that reaches a handler, as application/problem+json (RFC 9457)."""

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

from dedup.api.pagination import BadCursor
from dedup.api.unknown_parameters import unknown_parameters
from dedup.errors import Conflict, KeyReused, NoRun, Unavailable
from dedup.observability import log_failure, logger
from dedup.records import describe
from dedup.validation import MAX_ERRORS


class Invalid(Exception):
    """A request that is refused for a reason that no single field's type can say: where, and why."""

    def __init__(self, loc: Sequence[str | int], msg: str) -> None:
        super().__init__(msg)
        self.loc = loc


class NotJson(json.JSONDecodeError):
    """A body that does not parse."""


def problem(
    status: int, detail: str | Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None
) -> Response[str]:
    """An error as application/problem+json (RFC 9457). A list of faults is cut at MAX_ERRORS and counted."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if isinstance(detail, str):
        body["detail"] = detail
    else:
        body |= {"detail": list(detail[:MAX_ERRORS]), "total": len(detail)}
    # Powertools serialises only application/json by itself.
    return Response(status, "application/problem+json", json.dumps(body), dict(headers or {}))


def invalid(loc: Sequence[str | int], msg: str, kind: str = "value_error") -> Response[str]:
    """A 422 with one fault, in the shape that validation gives."""
    return problem(422, [{"loc": list(loc), "msg": msg, "type": kind}])


def on_invalid_request(app: APIGatewayRestResolver, error: RequestValidationError) -> Response[str]:
    """A 400 where the body is not JSON, else a 422 that lists the errors, those in unknown parameters too."""
    faults = [describe(fault) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem(400, "The body is not valid JSON")
    # Also where validation found something: a parameter that is missing may have been misspelt.
    unknown = [describe(fault) for fault in unknown_parameters(app)]
    return problem(422, [*(fault for fault in faults if fault not in unknown), *unknown])


def _on_failure(error: Exception) -> Response[str]:
    log_failure(error)
    return problem(500, "Something went wrong here; the log has it under this request's id")


def _on_unavailable(error: Unavailable) -> Response[str]:
    logger.warning("Unavailable", extra={"reason": str(error), "cause": type(error.__cause__).__name__})
    return problem(503, str(error), {"Retry-After": "1"})


ON_ERROR: dict[type[Exception], Callable[[Any], Response[str]]] = {
    ResponseValidationError: _on_failure,
    RequestUnsupportedContentType: lambda error: problem(415, "Expected application/json"),
    ServiceError: lambda error: problem(error.status_code, error.msg),
    Unavailable: _on_unavailable,
    BadCursor: lambda error: invalid(("query", "cursor"), "Not a cursor of this question"),
    Invalid: lambda error: invalid(error.loc, str(error)),
    Conflict: lambda error: problem(409, str(error)),
    NoRun: lambda error: problem(409, str(error)),
    KeyReused: lambda error: invalid(("header", "Idempotency-Key"), "This key came before with another body"),
    # Found by class before Powertools' own, so all of those are named above.
    Exception: _on_failure,
}
