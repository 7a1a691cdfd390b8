"""What no schema can say of a request, kept out of those that schemathesis makes. Each has tests of its own."""

import re
import uuid
from typing import Any

import schemathesis
from hypothesis.strategies import from_regex

KEY = re.compile(r"[\x21-\x7e]{1,255}")
URI_BYTES = 8_000
"""API Gateway takes 10,240 bytes of request line and headers, and answers a longer one itself."""

# The format allows addresses under .test and the like, which reach nobody and are refused.
schemathesis.openapi.format(
    "email", from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9]{1,9})?@[a-z]{2,20}\.(com|org)", fullmatch=True)
)


@schemathesis.hook
def filter_query(context: Any, query: dict[str, Any] | None) -> bool:
    """Without cursors, which are made by the API and mean nothing when they are made up."""
    return "cursor" not in (query or {})


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Without 1.0 for 1, which JSON Schema takes for an integer; we do not, where an id could lose its last digits."""
    if isinstance(body, dict):
        return all(filter_body(context, value) for value in body.values())
    if isinstance(body, list):
        return all(filter_body(context, value) for value in body)
    return not isinstance(body, float)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """With a key of its own for each request: the same key with another body is refused, as it should be."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key and KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Without addresses that the gateway refuses before the API sees them, and without the empty list that
    `?not_in=` is, which the enumeration in the document does not allow for."""
    query = case.query or {}
    return sum(len(str(value).encode()) * 3 for value in query.values()) < URI_BYTES and "" not in (
        query.get("in"),
        query.get("not_in"),
        query.get("region"),
    )
