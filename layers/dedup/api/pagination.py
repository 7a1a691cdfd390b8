"""Pages of long lists: the cursor that says where the next page starts, and the Link header to it (RFC 8288)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent

TOTAL = "X-Total-Count"
"""The header that says how many items all pages of a list have together."""


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


def json_object(fields: Mapping[str, int | str]) -> str:
    """The text of a JSON object of these fields: numbers, and what is the text of JSON itself, such as a page of
    ids."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def cursor_question(asked: str, by: str) -> str:
    """What a cursor belongs to: ids of customers and of entities are two lists."""
    return asked if by == "customer" else f"{asked} by {by}"


_DIGEST_BYTES = 6


class BadCursor(ValueError):
    """A cursor that was not made here, or not for this question."""


def _digest(positions: bytes, question: str) -> bytes:
    return hashlib.blake2b(question.encode() + b"\0" + positions, digest_size=_DIGEST_BYTES).digest()


def encode_cursor(positions: Mapping[str, int], question: str) -> str:
    """The opaque form of the last id given of each list. `question` says what was asked: the cursor fits no other."""
    raw = json.dumps(positions, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(raw, question) + raw).decode().rstrip("=")


def decode_cursor(cursor: str | None, question: str) -> dict[str, int]:
    """The positions that encode_cursor was given; none without a cursor. Raises BadCursor."""
    if cursor is None:
        return {}
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        positions = {name: int(position) for name, position in json.loads(raw[_DIGEST_BYTES:]).items()}
        # Made again and compared: this finds a changed digest, and the spellings that base64 has for one value.
        if encode_cursor(positions, question) == cursor and all(-(2**63) <= p < 2**63 for p in positions.values()):
            return positions
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    raise BadCursor


def next_link(event: APIGatewayProxyEvent, cursor: str) -> str:
    """The value of a Link header to the same request's next page, stage and host as the client used them."""
    query = [
        (name, value)
        for name, values in (event.multi_value_query_string_parameters or {}).items()
        for value in values
        if name != "cursor"
    ]
    context, path = event.request_context, event.path
    # The context's path begins with the stage where the client's did; SAM's local gateway has the pattern there.
    stage = context.path.removesuffix(path) if context.path.endswith(path) else ""
    scheme = "http" if event.headers.get("X-Forwarded-Proto") == "http" else "https"
    return (
        f'<{scheme}://{context.domain_name}{stage}{quote(path)}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
    )
