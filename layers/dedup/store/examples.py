"""Examples of what an upload that is previewed or held would do: some of its rows, and of the records that they change
or remove. They are personal data: they are kept only until somebody decides about the upload, without customers who
are erased.

The functions here are parts of transactions of loads, erasures and deletions."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.store.sql import bigints, text
from dedup.traces import Hashes, addresses

KINDS = ("added", "changed", "removed")

Examples = Mapping[str, list[dict[str, Any]]]
"""For each of KINDS: rows to be added, changes, and records to be removed, as the API shows them."""

_AT_A_TIME = 20
"""Uploads whose examples are read at a time."""


def keep(connection: Connection, upload_id: int, examples: Examples) -> None:
    """Stores the examples of an upload."""
    written = text(json.dumps(examples))
    connection.run(f"UPDATE upload_preview SET examples = {written}::json WHERE upload_id = {upload_id}")


def forget_customer(connection: Connection, customer: int, emails: Iterable[int], hashes: Hashes) -> None:
    """Deletes examples of a customer. `customer` and `emails` are hashes of the id and the addresses."""
    gone = {customer, *emails}
    for upload_id, examples in _kept(connection):
        left = without(examples, gone, hashes)
        if left != examples:
            keep(connection, upload_id, left)


def has_customer(connection: Connection, customer: int, hashes: Hashes) -> bool:
    """Whether there are examples of a customer id, of which `customer` is the hash."""
    return any(
        hashes.customer(one["customer_id"]) == customer
        for _, examples in _kept(connection)
        for kind in KINDS
        for one in examples[kind]
    )


def forget_all(connection: Connection) -> None:
    """Deletes the examples of all uploads."""
    connection.run("UPDATE upload_preview SET examples = NULL WHERE examples IS NOT NULL")


def forget_uploads(connection: Connection, upload_ids: Iterable[int]) -> None:
    """Deletes the examples of uploads that ended or were deleted, and what was decided about them."""
    connection.run(f"DELETE FROM upload_preview WHERE upload_id = ANY ({bigints(upload_ids)})")


def _kept(connection: Connection) -> Iterator[tuple[int, Examples]]:
    after = 0
    while found := connection.run(
        f"""SELECT upload_id, examples FROM upload_preview WHERE examples IS NOT NULL AND upload_id > {after}
            ORDER BY upload_id LIMIT {_AT_A_TIME}"""
    ):
        for upload_id, examples in found:
            yield upload_id, examples
            after = upload_id


def without(examples: Examples, gone: set[int], hashes: Hashes) -> Examples:
    """Returns the examples without those of customers of whom `gone` has the hash of the id or of an address."""
    return {kind: [one for one in examples[kind] if not gone & _traces(one, hashes)] for kind in KINDS}


def _traces(example: Mapping[str, Any], hashes: Hashes) -> set[int]:
    """The hashes of the customer id and of all addresses of an example, in whichever field they are."""
    customer_id: CustomerId = example["customer_id"]
    return {hashes.customer(customer_id), *hashes.emails(addresses("\n".join(_texts(example))))}


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
