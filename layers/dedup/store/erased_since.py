"""Who was erased since a file was put into the bucket: what is kept of the file must not name them."""

from pg8000.native import Connection

from dedup.store.locks import ERASURE_LOCK_SHARED


def erased_since(connection: Connection, upload_id: int) -> set[int]:
    """Returns the hashes of the ids and addresses of customers who were erased since the file of an upload was put into
    the bucket. Keeps erasures from starting until the commit."""
    connection.run(f"SELECT {ERASURE_LOCK_SHARED}")
    erased = connection.run(f"SELECT customer, emails FROM ({erasures_since(upload_id)}) AS erased")
    return {customer for customer, _ in erased}.union(*(emails for _, emails in erased))


def erasures_since(upload_id: int) -> str:
    """A query for these erasures: customer, emails."""
    # S3 gives the time of an object in whole seconds, rounded down, by its own clock.
    return f"""SELECT customer, emails FROM erasure
        WHERE created_at > (SELECT least(object_at, started_at) FROM upload WHERE id = {upload_id})"""
