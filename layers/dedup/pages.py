"""Pages of long lists: the cursor that says where the next one starts, and the link that leads there (RFC 8288)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent

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
