"""Keeps requests out of schemathesis that are invalid for a reason that a schema can't express. Other tests cover
them."""

import re
import uuid
from typing import Any

import schemathesis
from hypothesis.strategies import from_regex

IDENTIFYING = ("name", "email", "phone", "company")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
URI_BYTES = 8_000
"""API Gateway itself refuses requests with more than 10,240 bytes of request line and headers."""

# The format allows addresses below .test and similar domains, which the API refuses.
schemathesis.openapi.format(
    "email", from_regex(r"[a-z0-9]{1,20}(\.[a-z0-9]{1,9})?@[a-z]{2,20}\.(com|org)", fullmatch=True)
)


@schemathesis.hook
def filter_query(context: Any, query: dict[str, Any] | None) -> bool:
    """Without cursors, since only the API can create valid ones."""
    return "cursor" not in (query or {})


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Without 1.0 for 1: JSON Schema accepts it as an integer; the API does not, since an id could lose digits. Without
    records that have none of the fields of which they need one."""
    if isinstance(body, dict):
        if {"name", "email", "customer_id"} <= body.keys() and not any(map(body.get, IDENTIFYING)):
            return False
        return all(filter_body(context, value) for value in body.values())
    if isinstance(body, list):
        return all(filter_body(context, value) for value in body)
    return not isinstance(body, float)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """With a unique key for each request, since the same key with another body is refused."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key and KEY.fullmatch(key):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Without URLs that are too long for the gateway, and without `?not_in=`: an empty list, which the document can't
    describe."""
    query = case.query or {}
    return sum(len(str(value).encode()) * 3 for value in query.values()) < URI_BYTES and "" not in (
        query.get("in"),
        query.get("not_in"),
        query.get("region"),
    )
