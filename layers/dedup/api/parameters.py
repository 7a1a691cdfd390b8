"""Query, path and header parameters that several operations share."""

import hashlib
from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from pydantic import BaseModel

from dedup.store.audit import UNKNOWN

MAX_LIMIT = 10_000

MAX_IDS = 250_000
"""Ids in one answer, over all of its lists: 21 bytes each, and Lambda answers 6 MB."""

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


def client_key(idempotency_key: str | None, request: BaseModel) -> tuple[str | None, str]:
    """The key for a client's Idempotency-Key, apart from those of files, and 64 hexadecimal digits of SHA-256 that tell
    what came with it from other content, or from the same asked of another operation. Without one, None and nothing."""
    if not idempotency_key:
        return None, ""
    content = f"{type(request).__name__} {request.model_dump_json(exclude_none=True)}"
    return f"api/{idempotency_key}", hashlib.sha256(content.encode()).hexdigest()


def caller(app: APIGatewayRestResolver) -> str:
    """Who asks: the subject of their token, or the ARN that signed; store.UNKNOWN where nobody has to sign in."""
    context = app.current_event.request_context
    claims = context.authorizer.claims or {}
    return str(claims.get("sub") or claims.get("client_id") or context.identity.user_arn or UNKNOWN)
