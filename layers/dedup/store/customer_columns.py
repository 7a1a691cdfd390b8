"""The customer id in tables: an integer in customer_id, or a text in text_id. Where both kinds share one column, as in
matching, it is a text with the decimal form of an integer, which no text id has."""

from collections.abc import Collection, Iterable, Sequence

from dedup.customer_ids import CustomerId
from dedup.store.region_counts import INTEGERS, TEXTS, Membership
from dedup.store.sql import bigints, text, texts


def membership_of(customer_id: CustomerId) -> Membership:
    """The membership of the customers with this kind of id."""
    return TEXTS if isinstance(customer_id, str) else INTEGERS


def literal(customer_id: CustomerId) -> str:
    """The id as a SQL literal of its own type."""
    return text(customer_id) if isinstance(customer_id, str) else f"'{customer_id}'::bigint"


def array(membership: Membership, customer_ids: Iterable[CustomerId]) -> str:
    """Ids of one kind as an array literal."""
    return bigints(customer_ids) if membership is INTEGERS else texts(map(str, customer_ids))


def is_customer(customer_id: CustomerId, alias: str = "") -> str:
    """The condition that a row is of this customer."""
    return f"{alias}{membership_of(customer_id).id} = {literal(customer_id)}"


def as_text(alias: str) -> str:
    """An expression for the id as text."""
    return f"coalesce({alias}.customer_id::text, {alias}.text_id)"


def as_json(alias: str) -> str:
    """An expression for the id as JSON: a number or a string."""
    return f"coalesce(to_json({alias}.customer_id), to_json({alias}.text_id))"


def id_columns(customer_ids: Iterable[CustomerId]) -> tuple[str, ...]:
    """The columns that rows with these ids need: customer_id, text_id, or both."""
    kinds = {*map(type, customer_ids)}
    return tuple(membership.id for membership, kind in ((INTEGERS, int), (TEXTS, str)) if kind in kinds)


def id_values(customer_ids: Sequence[CustomerId], columns: Collection[str]) -> list[list[str | None]]:
    """The values of each of these columns of id_columns() in rows with these ids, as text."""
    texts: list[str | None] = [*map(str, customer_ids)]
    if len(columns) == 1:
        return [texts]
    kinds = [(isinstance(customer_id, str), text) for customer_id, text in zip(customer_ids, texts, strict=True)]
    return [
        [None if is_text else text for is_text, text in kinds],
        [text if is_text else None for is_text, text in kinds],
    ]
