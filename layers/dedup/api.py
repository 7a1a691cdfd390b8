"""What every API function shares: the resolver's options, the error model, logger, metrics, and shapes of requests."""

import base64
import binascii
import hashlib
import json
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
    ResponseValidationError,
)
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from dedup.answers import Problem
from dedup.connection import Unavailable, sqlstate
from dedup.pages import BadCursor, encode_cursor, next_link
from dedup.records import MAX_RECORDS, describe
from dedup.settings import SERVICE
from dedup.store import UNKNOWN, Conflict, KeyReused, NoRun
from dedup.validation import MAX_BODY_BYTES, MAX_ERRORS, UNKNOWN_NAME, unknown_name

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]

STACK_FRAMES = 5
MAX_LIMIT = 10_000
MAX_IDS = 250_000
"""Ids in one answer, over all of its lists: 21 bytes each, and Lambda answers 6 MB."""

_TOO_MUCH = f"The answer would have more than {MAX_BODY_BYTES} bytes: ask for fewer"

API = "/api/"
"""What the paths of the operations begin with that take no parameters but their own. To others, the page's and the
documentation's, whoever leads there may add some: signing in does."""

SIGNATURE = "x-amz-"
"""What the parameters begin with that sign a request, in lower case."""

MAX_CONTAINERS = 2 * MAX_RECORDS
"""Objects and lists in a body. Python takes up to 280 bytes for one that JSON writes with two: 6 MB of them would take
all of a function's memory before anything could be counted."""

_EMPTY_PART = "A part of the path is empty: write the id or name that is missing, and no slash at the end"

TOTAL = "X-Total-Count"
"""The header that says how many items all pages of a list have together."""

BODY_ERRORS = (400, 413, 415, 422)

logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Dedup", service=SERVICE)

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many items a page has at most")]
CustomerInPath = Annotated[int, Path(alias="customer_id", ge=-(2**63), le=2**63 - 1)]
JobId = Annotated[int, Path(ge=1, le=2**63 - 1)]
ExportId = Annotated[int, Path(ge=1, le=2**63 - 1)]
By = Annotated[
    Literal["customer", "entity"],
    Query(description="entity: counts people, as the last run of the matching found them, and lists entities' ids"),
]
SmallLimit = Annotated[int, Query(alias="limit", ge=1, le=1000, description="How many items a page has at most")]
RunId = Annotated[int, Path(ge=1, le=2**63 - 1)]
EntityId = Annotated[int, Path(ge=1, le=2**63 - 1)]
DecisionId = Annotated[int, Path(ge=1, le=2**63 - 1)]
UploadId = Annotated[int, Path(ge=1, le=2**63 - 1)]
Cursor = Annotated[
    str | None, Query(max_length=8192, description="Where the page starts: from the Link of the one before")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The same key and body get the first answer again, and nothing is written",
    ),
]


class Invalid(Exception):
    """A request that is refused for a reason that no single field's type can say: where, and why."""

    def __init__(self, loc: Sequence[str | int], msg: str) -> None:
        super().__init__(msg)
        self.loc = loc


class NotJson(json.JSONDecodeError):
    """A body that does not parse."""


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
        "middlewares": [_refuse_unknown_parameters],
    }


def _refuse_unknown_parameters(app: APIGatewayRestResolver, go_on: NextMiddleware) -> Response[Any]:
    """For a route: goes on where the query has no other parameters than the route declares. Raises
    RequestValidationError."""
    if errors := _unknown_parameters(app):
        raise RequestValidationError(errors)
    return go_on(app)


def _unknown_parameters(app: APIGatewayRestResolver) -> list[dict[str, Any]]:
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


def paged(
    app: APIGatewayRestResolver,
    body: Any,
    positions: Mapping[str, int] | None,
    question: str,
    total: int | None = None,
) -> Response[Any]:
    """A 200 with `body` (a model, or JSON text), and the link to the next page where `positions` says there is one.
    `total`: items on all pages, where the answer says so."""
    headers = {} if total is None else {TOTAL: str(total)}
    if positions is not None:
        headers["Link"] = next_link(app.current_event, encode_cursor(positions, question))
    return Response(200, "application/json", body, headers)


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


def count_accepted(records: int) -> None:
    """Counts records that were stored for the first time, in the metrics."""
    metrics.add_metric("RecordsAccepted", MetricUnit.Count, records)


def client_key(idempotency_key: str | None, request: BaseModel) -> tuple[str | None, str]:
    """The key for a client's Idempotency-Key, apart from those of files, and 64 hexadecimal digits of SHA-256 that tell
    what came with it from other content, or from the same asked of another operation. Without one, None and nothing."""
    if not idempotency_key:
        return None, ""
    content = f"{type(request).__name__} {request.model_dump_json(exclude_none=True)}"
    return f"api/{idempotency_key}", hashlib.sha256(content.encode()).hexdigest()


def json_object(fields: Mapping[str, int | str]) -> str:
    """The text of a JSON object of these fields: numbers, and what is the text of JSON itself, such as a page of
    ids."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def question(asked: str, by: str) -> str:
    """What a cursor belongs to: ids of customers and of entities are two lists."""
    return asked if by == "customer" else f"{asked} by {by}"


def caller(app: APIGatewayRestResolver) -> str:
    """Who asks: the subject of their token, or the ARN that signed; store.UNKNOWN where nobody has to sign in."""
    context = app.current_event.request_context
    claims = context.authorizer.claims or {}
    return str(claims.get("sub") or claims.get("client_id") or context.identity.user_arn or UNKNOWN)


def invalid(loc: Sequence[str | int], msg: str, kind: str = "value_error") -> Response[str]:
    """A 422 with one fault, in the shape that validation gives."""
    return problem(422, [{"loc": list(loc), "msg": msg, "type": kind}])


def _on_invalid_request(app: APIGatewayRestResolver, error: RequestValidationError) -> Response[str]:
    faults = [describe(fault) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem(400, "The body is not valid JSON")
    # Also where validation found something: a parameter that is missing may have been misspelt.
    unknown = [describe(fault) for fault in _unknown_parameters(app)]
    return problem(422, [*(fault for fault in faults if fault not in unknown), *unknown])


def log_failure(error: Exception, **about: str) -> None:
    """Logs an error that nobody expected, and what more is known about it."""
    # The message of an exception may hold a customer's data; where it was raised does not.
    logger.error(
        "Unexpected failure",
        extra={
            "error": type(error).__name__,
            "sqlstate": sqlstate(error),
            "stack": traceback.format_tb(error.__traceback__)[-STACK_FRAMES:],
            **about,
        },
    )


def _on_failure(error: Exception) -> Response[str]:
    log_failure(error)
    return problem(500, "Something went wrong here; the log has it under this request's id")


def _on_unavailable(error: Unavailable) -> Response[str]:
    logger.warning("Unavailable", extra={"reason": str(error), "cause": type(error.__cause__).__name__})
    return problem(503, str(error), {"Retry-After": "1"})


_ON_ERROR: dict[type[Exception], Callable[[Any], Response[str]]] = {
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


def install(app: APIGatewayRestResolver) -> None:
    """Gives the resolver the answer to every error."""
    app.exception_handler(RequestValidationError)(partial(_on_invalid_request, app))
    for error, answer in _ON_ERROR.items():
        app.exception_handler(error)(answer)


def handler(app: APIGatewayRestResolver) -> Handler:
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
