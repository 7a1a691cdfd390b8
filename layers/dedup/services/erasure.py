"""Erases one customer: first the records and everything derived from them, in one transaction; then, as a task, the
customer's rows in files of rejected rows.

The rows are found by an index in the database, so the cost does not depend on the number of past uploads."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.customer_ids import CustomerId
from dedup.errors import Superseded, Unavailable
from dedup.services import tasks
from dedup.services.rejected_rows import without
from dedup.services.resolver import wake
from dedup.settings import settings
from dedup.store import Store
from dedup.store.customers import ErasedCustomer
from dedup.store.erasures import ErasureAttempt, RejectedFile

MAX_EXPORTS = 1_000
"""Most exports that an erasure lists."""

LEASE = 60.0
"""Seconds without a renewal after which another attempt may take over."""

RENEW_SECONDS = 5.0
STOP_SECONDS = 30.0
"""Remaining seconds of the function below which no further file is started."""

LINGER_DAYS = 10
"""Days after FileRetentionDays until an object is certainly deleted: it stays seven more days as a noncurrent version,
and S3 applies lifecycle rules once a day."""


@dataclass(frozen=True)
class Erasure:
    """The result of an erasure: what was deleted, what remains in files of rejected rows, and the ids of at most
    MAX_EXPORTS exports that may contain the customer."""

    customer: ErasedCustomer
    exports: list[int]


def erase(customer_id: CustomerId, store: Store, principal: str) -> Erasure | None:
    """Erases a customer, and returns what was erased and what remains in files of rejected rows. Returns None if
    nothing about the customer is stored."""
    erased = store.customers.erase(customer_id, principal)
    if erased is None:
        return None
    wake()
    remaining = erased.remaining
    tasks.enqueue_created("erasure", (remaining.erasure_id, remaining.status), store)
    # Read after the records are deleted: an export that starts now does not contain them.
    return Erasure(erased, store.exports.with_objects(bucket.EXPORT_DAYS, MAX_EXPORTS))


def cut(erasure_id: int, store: Store, remaining_seconds: Callable[[], float]) -> str | None:
    """Removes an erased customer's rows from the files of rejected rows. Returns the status of the task, or None if
    another attempt has already ended it.

    Raises errors.Busy while another attempt holds the lease, and any error that interrupts the task: then the message
    must be delivered again, and the next attempt continues with the remaining files."""
    cutting = store.erasures.claim(erasure_id, LEASE)
    if cutting is None:
        return None
    renewed = time.monotonic()

    def keep_lease() -> None:
        nonlocal renewed
        if remaining_seconds() < STOP_SECONDS:
            raise Unavailable("The function's time ended before all files were processed")
        if time.monotonic() - renewed > RENEW_SECONDS:
            store.erasures.renew(cutting)
            renewed = time.monotonic()

    try:
        _delete_leftovers(cutting, store)
        while found := store.erasures.files_to_cut(cutting):
            for file in found:
                keep_lease()
                _cut_file(cutting, file, store, keep_lease)
        store.erasures.finish(cutting)
    except Superseded:
        return None
    except BaseException as error:
        store.erasures.interrupt(
            cutting,
            f"Interrupted ({type(error).__name__}). It continues automatically, or when the request is repeated",
        )
        raise
    return "done"


def forget_expired(store: Store) -> None:
    """Deletes what the database stores about rejected rows whose objects have expired, and erasures of that age."""
    store.erasures.forget_expired(settings().file_retention_days + LINGER_DAYS)


def _cut_file(cutting: ErasureAttempt, file: RejectedFile, store: Store, keep_lease: Callable[[], None]) -> None:
    lines = store.erasures.lines_to_cut(cutting, file)
    if not lines:
        return  # another erasure has removed them
    try:
        made = without(ObjectVersion(settings().bucket, file.key, file.version), lines, keep_lease)
    except ClientError as error:
        if not bucket.is_gone(error):
            raise
        store.erasures.forget_file(file)
        return
    version = made.version_id if made else None
    if store.erasures.replace_file(cutting, file, lines, version, left=made is not None):
        _delete_leftovers(cutting, store)
    elif made and made.version_id:
        # Another erasure has replaced the file in the meantime: the caller starts again with the new version.
        bucket.delete_version(made)


def _delete_leftovers(cutting: ErasureAttempt, store: Store) -> None:
    for key, version in store.erasures.leftovers(cutting):
        bucket.delete_version(ObjectVersion(settings().bucket, key, version))
        store.erasures.forget_leftover(cutting, key, version)
