"""Rows of files that need a column mapping. They are personal data: they are kept only while the upload waits for its
mapping, without rows of customers who are erased.

The functions here are parts of transactions of loads, erasures and deletions."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from pg8000.native import Connection

from dedup.customer_ids import BadCustomerId, customer_id
from dedup.store.erased_since import erased_since
from dedup.store.sql import bigints, jsonb
from dedup.traces import Hashes, addresses

Row = tuple[int, Sequence[str]]
"""The line of a row in its file, and its cells."""

_AT_A_TIME = 20
"""Uploads whose rows are read at a time."""


def without_erased(connection: Connection, upload_id: int, rows: Iterable[Row], hashes: Hashes) -> list[Row]:
    """Returns the rows of a file without those of customers who were erased since it was put into the bucket. Keeps
    erasures from starting until the commit."""
    gone = erased_since(connection, upload_id)
    return [row for row in rows if not gone & _traces(row, hashes)] if gone else list(rows)


def forget_customer(connection: Connection, customer: int, emails: Iterable[int], hashes: Hashes) -> None:
    """Deletes rows of a customer. `customer` and `emails` are hashes of the id and the addresses."""
    gone = {customer, *emails}
    for upload_id, rows in _samples(connection):
        kept = [row for row in rows if not gone & _traces(row, hashes)]
        if len(kept) < len(rows):
            connection.run(f"UPDATE upload_mapping SET sample = {jsonb(kept)} WHERE upload_id = {upload_id}")


def has_customer(connection: Connection, customer: int, hashes: Hashes) -> bool:
    """Whether there are rows with a customer id, of which `customer` is the hash."""
    return any(customer in _traces(row, hashes) for _, rows in _samples(connection) for row in rows)


def forget_all(connection: Connection) -> None:
    """Deletes the rows of all uploads."""
    connection.run("UPDATE upload_mapping SET sample = NULL WHERE sample IS NOT NULL")


def forget_uploads(connection: Connection, upload_ids: Iterable[int]) -> None:
    """Deletes what is known of the columns of uploads that ended without a record, or were deleted. If nobody stated
    the mapping, even the names of columns may be personal data: the first row of a file without a header."""
    connection.run(f"DELETE FROM upload_mapping WHERE upload_id = ANY ({bigints(upload_ids)})")


def _samples(connection: Connection) -> Iterator[tuple[int, list[Row]]]:
    after = 0
    while found := connection.run(
        f"""SELECT upload_id, sample FROM upload_mapping WHERE sample IS NOT NULL AND upload_id > {after}
            ORDER BY upload_id LIMIT {_AT_A_TIME}"""
    ):
        for upload_id, sample in found:
            yield upload_id, [(line, cells) for line, cells in sample]
            after = upload_id


_DIGITS = re.compile(r"\D+")


def _traces(row: Row, hashes: Hashes) -> set[int]:
    """The hashes of everything in a row that may be a customer id, and of its addresses. Which cell is the id is not
    known yet, so each may be."""
    _, cells = row
    found = set(hashes.emails(addresses("\n".join(cells))))
    for cell in cells:
        with suppress(BadCustomerId):
            found.add(hashes.customer(customer_id(cell)))
        # Of any length in a file; longer numbers are no ids.
        with suppress(ValueError):
            found |= {hashes.customer(sign * int(_DIGITS.sub("", cell[:64]))) for sign in (1, -1)}
    return found
