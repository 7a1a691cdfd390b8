"""The resolver's options and the Lambda handler that all API functions share."""

import base64
import binascii
import json
import os
import re
from functools import partial
from itertools import islice
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic_core import from_json, to_json

from dedup.api.errors import ON_ERROR, NotJson, invalid, on_invalid_request, problem
from dedup.api.freshness import APPLIED, AS_OF, UNRESOLVED
from dedup.api.pagination import TOTAL
from dedup.observability import Handler, logger, metrics
from dedup.records import MAX_RECORDS
from dedup.validation import MAX_BODY_BYTES

_RESPONSE_TOO_LARGE = f"The response would exceed {MAX_BODY_BYTES} bytes. Use a smaller limit"

MAX_CONTAINERS = 2 * MAX_RECORDS
"""Most objects and lists in a request body. An empty one is two bytes of JSON but up to 280 bytes in Python, so a body
of 6 MB could exhaust the function's memory before validation."""

_EMPTY_SEGMENT = "The path has an empty segment. Add the missing id or name, and remove a slash at the end"


def parse_json(text: str) -> Any:
    """Parses JSON. Raises NotJson, also if the text is nested too deeply or has a number with too many digits."""
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error), "", 0) from error


def json_of(body: Any) -> str:
    """Serialises a body as JSON. Fields that are not set are omitted."""
    return to_json(body).decode()


def _cors() -> CORSConfig | None:
    origins = [origin for origin in os.environ.get("ALLOWED_ORIGINS", "").split(",") if origin]
    exposed = ["Link", TOTAL, AS_OF, UNRESOLVED, APPLIED]
    return CORSConfig(origins[0], origins[1:], expose_headers=exposed) if origins else None


CORS = _cors()

RESOLVER: dict[str, Any] = {
    "enable_validation": True,
    "json_body_deserializer": parse_json,
    "serializer": json_of,
    "cors": CORS,
}
"""The options of every function's resolver. Functions must write `app = APIGatewayRestResolver(**RESOLVER)` literally:
Powertools' OpenAPI merge finds resolvers by that assignment."""


def install(app: APIGatewayRestResolver) -> None:
    """Registers the exception handlers that all functions share."""
    app.exception_handler(RequestValidationError)(partial(on_invalid_request, app))
    for error, handle in ON_ERROR.items():
        app.exception_handler(error)(handle)


def make_handler(app: APIGatewayRestResolver) -> Handler:
    """Returns the Lambda handler: it checks the request before it is parsed, calls the resolver, and checks the size of
    the response."""

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            if error := _request_error(event):
                return _as_proxy_response(event, error)
            response = app.resolve(event, context)
            if _fits(response["body"] or ""):
                return response
            return _as_proxy_response(event, invalid(("query", "limit"), _RESPONSE_TOO_LARGE))
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    return logger.inject_lambda_context(
        handle, correlation_id_path=correlation_paths.API_GATEWAY_REST, clear_state=True
    )


def _as_proxy_response(event: dict[str, Any], error: Response[str]) -> dict[str, Any]:
    """Converts an error that was not returned by the resolver to API Gateway's proxy format."""
    cors = CORS.to_dict(APIGatewayProxyEvent(event).headers.get("Origin")) if CORS else {}
    return {
        "statusCode": error.status_code,
        "headers": error.headers | cors,
        "body": error.body,
        "isBase64Encoded": False,
    }


def _fits(body: str) -> bool:
    """Whether the response is within Lambda's limit. JSON needs at most twelve bytes for a character, so most bodies
    pass without being serialised."""
    return 12 * len(body) <= MAX_BODY_BYTES or len(json.dumps(body)) <= MAX_BODY_BYTES


def _request_error(event: dict[str, Any]) -> Response[str] | None:
    """Returns the error for a path with an empty segment, or for a body that is too large, has another media type,
    cannot be decoded, or is an array; None if the request is acceptable.

    Decodes a base64 body in place."""
    path = event.get("path") or "/"
    if path != "/" and (path != path.strip() or not all(part.strip() for part in path.split("/")[1:])):
        # API Gateway and Powertools ignore a slash or line break at the end, so DELETE /customers/ with a forgotten id
        # would delete all customers.
        return problem(404, _EMPTY_SEGMENT)
    body = event.get("body")
    headers = APIGatewayProxyEvent(event).headers
    if "Content-Type" in headers:
        media_type = headers["Content-Type"].partition(";")[0].strip().lower()
        if body and media_type and media_type != "application/json":
            return problem(415, f"Expected application/json, got {media_type[:100]}")
        # Also without a body: Powertools would look for the boundary of an empty multipart body.
        event["headers"] = headers | {"Content-Type": "application/json"}
    if not body:
        return None
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return problem(400, "The body is not base64-encoded UTF-8 text")
        event |= {"body": body, "isBase64Encoded": False}
    if len(body) > MAX_BODY_BYTES or (not body.isascii() and len(body.encode("utf-8", "replace")) > MAX_BODY_BYTES):
        return problem(413, f"The body exceeds {MAX_BODY_BYTES} bytes. Upload larger data as a file")
    if _has_too_many_containers(body):
        return problem(
            413, f"The body has more than {MAX_CONTAINERS:,} objects and lists. Upload larger data as a file"
        )
    if body.lstrip().startswith("["):
        # Powertools would use the first element of the array as the body.
        return invalid(("body",), "Input should be an object", "model_type")
    return None


# Possessive quantifiers, and a closing quote that is optional: the search takes linear time for any input.
_STRING_OR_OPENING = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[{]', re.DOTALL)


def _has_too_many_containers(body: str) -> bool:
    """Whether a JSON body has more than MAX_CONTAINERS objects and lists."""
    if body.count("{") + body.count("[") <= MAX_CONTAINERS:
        return False
    openings = (found for found in _STRING_OR_OPENING.finditer(body) if found[0] in "{[")
    return next(islice(openings, MAX_CONTAINERS, None), None) is not None
