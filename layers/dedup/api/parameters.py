"""Query, path and header parameters shared by several operations."""

import hashlib
from typing import Annotated, Literal
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from pydantic import BaseModel, BeforeValidator

from dedup.api.pagination import MAX_CURSOR
from dedup.records import CustomerId, Source
from dedup.store.audit import UNKNOWN

MAX_LIMIT = 10_000

MAX_IDS = 250_000
"""Most ids in one response, in all of its lists: an id takes up to 21 bytes, and Lambda's limit is 6 MB."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Maximum number of items on a page")]

CustomerInPath = Annotated[
    CustomerId,
    BeforeValidator(unquote),
    Path(alias="customer_id", description="An integer or a text, URL-encoded: `42`, `0035g00000XyZ1aAAF`, `a%2Fb`"),
]
JobId = Annotated[int, Path(ge=1, le=2**63 - 1)]
ExportId = Annotated[int, Path(ge=1, le=2**63 - 1)]

By = Annotated[
    Literal["customer", "entity"],
    Query(description="`entity` counts entities of the active matching run instead of customers, and lists their ids"),
]

SmallLimit = Annotated[int, Query(alias="limit", ge=1, le=1000, description="Maximum number of items on a page")]
RunId = Annotated[int, Path(ge=1, le=2**63 - 1)]
EntityId = Annotated[int, Path(ge=1, le=2**63 - 1)]
DecisionId = Annotated[int, Path(ge=1, le=2**63 - 1)]
UploadId = Annotated[int, Path(ge=1, le=2**63 - 1)]
SourceInPath = Annotated[Source, Path(alias="source")]

Cursor = Annotated[
    str | None,
    Query(max_length=MAX_CURSOR, description="Start of the page, from the `Link` header of the previous page"),
]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A repeated request with the same key and body returns the first response and writes nothing",
    ),
]


def client_key(idempotency_key: str | None, request: BaseModel) -> tuple[str | None, str]:
    """Returns the stored key for a client's Idempotency-Key, and a digest of the request.

    The prefix separates the key from those of files. The digest is the hexadecimal SHA-256 of the model's name and
    content: it differs for another body, and for the same body of another operation. Without Idempotency-Key, the key
    is None and the digest is empty."""
    if not idempotency_key:
        return None, ""
    content = f"{type(request).__name__} {request.model_dump_json(exclude_none=True)}"
    return f"api/{idempotency_key}", hashlib.sha256(content.encode()).hexdigest()


def caller(app: APIGatewayRestResolver) -> str:
    """Returns who sent the request: the subject of the token, or the ARN that signed; store.UNKNOWN without sign-in."""
    context = app.current_event.request_context
    claims = context.authorizer.claims or {}
    return str(claims.get("sub") or claims.get("client_id") or context.identity.user_arn or UNKNOWN)
