"""The resolver's options and the handler that every API function shares."""

import base64
import binascii
import json
import os
import re
from collections.abc import Callable
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
from dedup.api.pagination import TOTAL
from dedup.observability import logger, metrics
from dedup.records import MAX_RECORDS
from dedup.validation import MAX_BODY_BYTES

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]
_TOO_MUCH = f"The answer would have more than {MAX_BODY_BYTES} bytes: ask for fewer"

MAX_CONTAINERS = 2 * MAX_RECORDS
"""Objects and lists in a body. Python takes up to 280 bytes for one that JSON writes with two: 6 MB of them would take
all of a function's memory before anything could be counted."""

_EMPTY_PART = "A part of the path is empty: write the id or name that is missing, and no slash at the end"


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for. Raises NotJson, also where the text is nested or its numbers are long
    beyond reason."""
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise NotJson(str(error), "", 0) from error


def json_of(body: Any) -> str:
    """The body as JSON text: what is absent stays absent."""
    return to_json(body).decode()


def _cors() -> CORSConfig | None:
    origins = [origin for origin in os.environ.get("ALLOWED_ORIGINS", "").split(",") if origin]
    return CORSConfig(origins[0], origins[1:], expose_headers=["Link", TOTAL]) if origins else None


CORS = _cors()

RESOLVER: dict[str, Any] = {
    "enable_validation": True,
    "json_body_deserializer": parse_json,
    "serializer": json_of,
    "cors": CORS,
}
"""The options of every function's resolver. Written `app = APIGatewayRestResolver(**RESOLVER)`: Powertools' OpenAPI
merge finds a resolver by that assignment."""


def install(app: APIGatewayRestResolver) -> None:
    """Gives the resolver the answer to every error."""
    app.exception_handler(RequestValidationError)(partial(on_invalid_request, app))
    for error, answer in ON_ERROR.items():
        app.exception_handler(error)(answer)


def make_handler(app: APIGatewayRestResolver) -> Handler:
    """The function that Lambda calls: the resolver, behind what has to be refused before it parses anything."""

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            if refusal := _refusal(event):
                return _refused(event, refusal)
            answer = app.resolve(event, context)
            return answer if _fits(answer["body"] or "") else _refused(event, invalid(("query", "limit"), _TOO_MUCH))
        finally:
            if metrics.metric_set:
                metrics.flush_metrics()

    return logger.inject_lambda_context(
        handle, correlation_id_path=correlation_paths.API_GATEWAY_REST, clear_state=True
    )


def _refused(event: dict[str, Any], refusal: Response[str]) -> dict[str, Any]:
    """An answer that no resolver gave, for the gateway."""
    cors = CORS.to_dict(APIGatewayProxyEvent(event).headers.get("Origin")) if CORS else {}
    return {
        "statusCode": refusal.status_code,
        "headers": refusal.headers | cors,
        "body": refusal.body,
        "isBase64Encoded": False,
    }


def _fits(body: str) -> bool:
    """Whether Lambda answers with it. In JSON a character is twelve bytes at most, so that few have to be counted."""
    return 12 * len(body) <= MAX_BODY_BYTES or len(json.dumps(body)) <= MAX_BODY_BYTES


def _refusal(event: dict[str, Any]) -> Response[str] | None:
    """The answer to a path with an empty part, and to a body that is too large, of another type, undecodable or an
    array; None where the resolver may go on.

    A body that came as base64 is decoded in place."""
    path = event.get("path") or "/"
    if path != "/" and (path != path.strip() or not all(part.strip() for part in path.split("/")[1:])):
        # Powertools ignores slashes at the end, as API Gateway does, and a line break: DELETE /customers/, where an id
        # was forgotten, would be DELETE /customers.
        return problem(404, _EMPTY_PART)
    body = event.get("body")
    if not body:
        return None
    headers = APIGatewayProxyEvent(event).headers
    if "Content-Type" in headers:
        media_type = headers["Content-Type"].partition(";")[0].strip().lower()
        if media_type and media_type != "application/json":
            return problem(415, f"Expected application/json, got {media_type[:100]}")
        event["headers"] = headers | {"Content-Type": "application/json"}
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return problem(400, "The body is not UTF-8 text in base64")
        event |= {"body": body, "isBase64Encoded": False}
    if len(body) > MAX_BODY_BYTES or (not body.isascii() and len(body.encode("utf-8", "replace")) > MAX_BODY_BYTES):
        return problem(413, f"A body may have {MAX_BODY_BYTES} bytes; upload larger files to the bucket")
    if _holds_too_much(body):
        return problem(413, f"A body may have {MAX_CONTAINERS:,} objects and lists; upload larger files to the bucket")
    if body.lstrip().startswith("["):
        # Powertools would take its first element for the body.
        return invalid(("body",), "Input should be an object", "model_type")
    return None


# Of a string, also of one that does not end: nothing is read twice.
_STRING_OR_OPENING = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[{]', re.DOTALL)


def _holds_too_much(body: str) -> bool:
    """Whether a body of JSON has more than MAX_CONTAINERS objects and lists."""
    if body.count("{") + body.count("[") <= MAX_CONTAINERS:
        return False
    openings = (found for found in _STRING_OR_OPENING.finditer(body) if found[0] in "{[")
    return next(islice(openings, MAX_CONTAINERS, None), None) is not None
