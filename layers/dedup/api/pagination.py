"""Pagination: the cursor that marks the start of the next page, and the Link header to it (RFC 8288)."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent

from dedup.api import freshness
from dedup.api.errors import BadCursor, Invalid
from dedup.customer_ids import CustomerId, customer_id

if TYPE_CHECKING:
    from dedup.store.matching.freshness import AsOf


class HasId(Protocol):
    """An item of a list that is ordered by id."""

    id: int


T = TypeVar("T")
Item = TypeVar("Item", bound=HasId)

MAX_CURSOR = 8192
"""Most characters of a cursor. API Gateway allows 10,240 bytes for the first line and the headers of a request."""

TOTAL = "X-Total-Count"
"""The header with the number of items on all pages."""


def paged(
    app: APIGatewayRestResolver,
    body: Any,
    positions: Mapping[str, CustomerId] | None,
    question: str,
    total: int | None = None,
    resolved: "AsOf | None" = None,
) -> Response[Any]:
    """Returns a 200 with `body` (a model, or JSON text). If `positions` is given, the response has a Link header to the
    next page, which starts after these positions; if `total` is given, a header with the number of items on all pages;
    if `resolved` is given, headers that say how far the entities of the body are resolved."""
    headers = freshness.headers(resolved) | ({} if total is None else {TOTAL: str(total)})
    if positions is not None:
        headers["Link"] = next_link(app.current_event, encode_cursor(positions, question))
    return Response(200, "application/json", body, headers)


def newest_first(
    app: APIGatewayRestResolver,
    question: str,
    cursor: str | None,
    limit: int,
    read: Callable[[int | None, int], Sequence[T]],
    present: Callable[[T], Item],
) -> Response[list[Item]]:
    """Returns a page of items, the newest first. `read` returns at most so many from below an id, or from the newest
    on."""
    found = read(decode_cursor(cursor, question).get("id"), limit + 1)
    shown = [present(one) for one in found[:limit]]
    return paged(app, shown, {"id": shown[-1].id} if len(found) > limit else None, question)


def json_object(fields: Mapping[str, int | str], resolved: "AsOf | None" = None) -> str:
    """Returns the text of a JSON object with these fields, and those that say how far entities are resolved. Values are
    numbers, or JSON text such as a page of ids."""
    written = {**fields, **freshness.fields(resolved)}
    return "{" + ",".join(f'"{name}":{value}' for name, value in written.items()) + "}"


def cursor_question(question: str, by: str) -> str:
    """Returns the text that identifies the list of a cursor. Ids of customers and of entities are different lists."""
    return question if by == "customer" else f"{question} by {by}"


_DIGEST_BYTES = 6


_ENCODED = "/%"
"""API Gateway passes the path on as the client encoded it."""


def _digest(positions: bytes, question: str) -> bytes:
    return hashlib.blake2b(question.encode() + b"\0" + positions, digest_size=_DIGEST_BYTES).digest()


def encode_cursor(positions: Mapping[str, CustomerId], question: str) -> str:
    """Returns an opaque cursor for the last id returned from each list. It is valid for this `question` only. Raises
    Invalid if it would be too long for a URL, which takes dozens of lists of text ids."""
    raw = json.dumps(positions, separators=(",", ":"), ensure_ascii=False).encode()
    cursor = base64.urlsafe_b64encode(_digest(raw, question) + raw).decode().rstrip("=")
    if len(cursor) > MAX_CURSOR:
        raise Invalid(
            ("query", "limit"),
            "The ids are too long for a cursor to all of these lists. List them one by one with "
            "/api/v1/deduplication/customers, or export them",
        )
    return cursor


def decode_cursor(cursor: str | None, question: str) -> dict[str, int]:
    """Returns the positions that encode_cursor was called with, which are integers; empty without a cursor. Raises
    BadCursor."""
    positions = decode_id_cursor(cursor, question)
    found = {name: position for name, position in positions.items() if isinstance(position, int)}
    if len(found) < len(positions):
        raise BadCursor
    return found


def decode_id_cursor(cursor: str | None, question: str) -> dict[str, CustomerId]:
    """Returns the same for lists of customer ids, whose positions may be texts."""
    if cursor is None:
        return {}
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        positions = {str(name): _position(position) for name, position in json.loads(raw[_DIGEST_BYTES:]).items()}
        # Encoded again and compared: base64 has several spellings of one value, and the digest may have been changed.
        if encode_cursor(positions, question) == cursor:
            return positions
    except (ValueError, AttributeError, TypeError, RecursionError, Invalid):
        pass
    raise BadCursor


def _position(value: Any) -> CustomerId:
    """Raises ValueError unless the value is a customer id."""
    if not isinstance(value, str):
        value = str(int(value))
    return customer_id(value)


def next_link(event: APIGatewayProxyEvent, cursor: str) -> str:
    """Returns the value of a Link header to the next page, with the host and stage that the client used."""
    query = [
        (name, value)
        for name, values in (event.multi_value_query_string_parameters or {}).items()
        for value in values
        if name != "cursor"
    ]
    context, path = event.request_context, event.path
    # The context's path has the stage if the client's URL had it; in SAM's local gateway it is the route's pattern.
    stage = context.path.removesuffix(path) if context.path.endswith(path) else ""
    scheme = "http" if event.headers.get("X-Forwarded-Proto") == "http" else "https"
    resource = f"{context.domain_name}{stage}{quote(path, safe=_ENCODED)}"
    return f'<{scheme}://{resource}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
