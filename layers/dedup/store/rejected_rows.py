"""Which customers the rejected rows of files belong to, as hashes (traces.Hashes), so that an erasure finds them.

The functions here are parts of transactions of loads and erasures."""

from collections.abc import Collection, Iterable, Sequence

from pg8000.native import Connection

from dedup.store.erased_since import erasures_since
from dedup.store.locks import ERASURE_LOCK_SHARED
from dedup.store.sql import bigints, copy_columns
from dedup.store.task_table import done
from dedup.traces import Hashes, Trace, addresses_in_key

KEY_WITHOUT_NAME = "'incoming/' || coalesce(source || '/', '') || 'erased'"
"""What replaces an object key that names an erased customer."""


class ErasedMeanwhile(Exception):
    """Some rejected rows of an upload are of a customer who was erased; they must be cut out first."""


def rows_of(customer: int, emails: Sequence[int]) -> str:
    """A query for the rejected rows of a customer: upload_id and line, each once."""
    return f"""SELECT upload_id, line FROM rejected_row WHERE customer = {customer}
        UNION SELECT upload_id, line FROM rejected_row WHERE email = ANY ({bigints(emails)})"""


def key_emails(object_key: str, hashes: Hashes) -> str:
    """An expression for the hashes of the addresses that an object's key may contain; NULL if there are none."""
    found = hashes.emails(addresses_in_key(object_key))
    return bigints(found) if found else "NULL"


def add_rows(connection: Connection, upload_id: int, traces: Iterable[Trace], hashes: Hashes) -> None:
    """Records which customers rejected rows belong to."""
    rows: list[tuple[str | None, ...]] = []
    for line, customer_id, addresses in traces:
        customer = None if customer_id is None else str(hashes.customer(customer_id))
        emails: list[str | None] = [str(email) for email in hashes.emails(addresses)]
        if not emails and customer_id is not None:
            emails = [None]
        rows += [(str(upload_id), str(line), customer, email) for email in emails]
    if rows:
        payload = copy_columns(zip(*rows, strict=True))
        connection.run("COPY rejected_row (upload_id, line, customer, email) FROM STDIN", stream=[payload])


def forget_rows(connection: Connection, upload_id: int) -> None:
    """Deletes what is known of the rejected rows of an upload."""
    connection.run(f"DELETE FROM rejected_row WHERE upload_id = {upload_id}")


def forget_abandoned(connection: Connection, upload_id: int) -> None:
    """Deletes what is known of the rejected rows of an upload whose file of rejected rows was never written."""
    if connection.run(f"SELECT FROM upload WHERE id = {upload_id} AND rejected_key IS NULL"):
        forget_rows(connection, upload_id)


def forget_all(connection: Connection) -> None:
    """Deletes what is known of all rejected rows, and what erasures still had to do with them: the bucket was lost."""
    connection.run(
        f"""UPDATE upload SET rejected_key = NULL, rejected_version = NULL WHERE rejected_key IS NOT NULL;
            DELETE FROM rejected_row;
            DELETE FROM erasure_leftover;
            UPDATE erasure SET {done()} WHERE status <> 'done'"""
    )


def lines_of_erased(connection: Connection, upload_id: int) -> set[int]:
    """The lines of rejected rows of customers who were erased since the upload's object was put into the bucket."""
    rows = connection.run(
        f"""WITH erased AS MATERIALIZED ({erasures_since(upload_id)}), mails AS MATERIALIZED (
                SELECT DISTINCT unnest(emails) AS email FROM erased
            )
            SELECT line FROM erased e JOIN rejected_row r ON r.customer = e.customer WHERE r.upload_id = {upload_id}
            UNION SELECT line FROM mails m JOIN rejected_row r ON r.email = m.email WHERE r.upload_id = {upload_id}"""
    )
    return {line for [line] in rows}


def require_none_of_erased(connection: Connection, upload_id: int) -> None:
    """Keeps erasures from starting until the commit, and hides the object's key if an erasure since its arrival
    requires that. Raises ErasedMeanwhile if there are rejected rows that must not stay."""
    connection.run(f"SELECT {ERASURE_LOCK_SHARED}")
    if lines_of_erased(connection, upload_id):
        raise ErasedMeanwhile
    hide_keys_of_erased(connection, [upload_id])


def hide_keys_of_erased(connection: Connection, upload_ids: Iterable[int]) -> None:
    """Hides the object keys of uploads that will not be loaded again, if an erasure since their arrival requires
    that."""
    for upload_id in upload_ids:
        connection.run(
            f"""UPDATE upload SET object_key = {KEY_WITHOUT_NAME}, key_emails = NULL
                WHERE id = {upload_id} AND key_emails && ARRAY(
                    SELECT unnest(emails) FROM ({erasures_since(upload_id)}) AS erased)"""
        )


def forget_lines(connection: Connection, upload_id: int, lines: Collection[int]) -> None:
    """Deletes what is known of rejected rows that were cut out of the upload's file."""
    connection.run(f"DELETE FROM rejected_row WHERE upload_id = {upload_id} AND line = ANY ({bigints(lines)})")
