"""Erases one customer: first their records and what was made of these, in one transaction; then their rows in the
files of rejected rows, which a function cuts that a queue starts.

Which rows are theirs is found in the database, so that the number of uploads that ever were makes no difference."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError

from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Superseded, Unavailable
from dedup.services import tasks
from dedup.services.exports import KEPT_DAYS
from dedup.services.rejected_rows import without
from dedup.settings import settings
from dedup.store import Store
from dedup.store.customers import ErasedCustomer
from dedup.store.erasures import ErasureAttempt, RejectedFile

MAX_EXPORTS = 1_000
"""Exports that an erasure names at most."""

LEASE = 60.0
"""Seconds without a sign of life after which another attempt may start over."""

RENEW_SECONDS = 5.0
STOP_SECONDS = 30.0
"""How much time is kept for the end of the file that is being cut."""

LINGER_DAYS = 10
"""Days after FileRetentionDays until an object is gone for sure: as an old version it stays seven more, and the
bucket's rules are applied once a day."""


@dataclass(frozen=True)
class Erasure:
    """What an erasure deleted, what remains to be cut out of files of rejected rows, and the ids of at most MAX_EXPORTS
    exports that may contain the customer."""

    customer: ErasedCustomer
    exports: list[int]


def erase(customer_id: int, store: Store, principal: str) -> Erasure | None:
    """Erases a customer. Returns None if nothing is known of them, or nothing any more."""
    erased = store.customers.erase(customer_id, principal)
    if erased is None:
        return None
    remaining = erased.remaining
    tasks.begin("erasure", (remaining.erasure_id, remaining.status), store)
    # After the erasure: an export that starts now no longer finds the records.
    return Erasure(erased, store.exports.with_objects(KEPT_DAYS, MAX_EXPORTS))


def cut(erasure_id: int, store: Store, remaining_seconds: Callable[[], float]) -> str | None:
    """Cuts what an erasure left out of the files of rejected rows, unless that was done before; its status then, or
    None.

    Raises errors.Busy while another attempt is at it, and whatever keeps it from being done now: then it is to be
    delivered again, and goes on with the files that are left."""
    cutting = store.erasures.claim(erasure_id, LEASE)
    if cutting is None:
        return None
    renewed = time.monotonic()

    def is_alive() -> None:
        nonlocal renewed
        if remaining_seconds() < STOP_SECONDS:
            raise Unavailable("There are more files than could be cut in time")
        if time.monotonic() - renewed > RENEW_SECONDS:
            store.erasures.renew(cutting)
            renewed = time.monotonic()

    try:
        _delete_leftovers(cutting, store)
        while found := store.erasures.files_to_cut(cutting):
            for file in found:
                is_alive()
                _cut_file(cutting, file, store, is_alive)
        store.erasures.finish(cutting)
    except Superseded:
        return None
    except BaseException as error:
        store.erasures.interrupt(
            cutting, f"Interrupted ({type(error).__name__}): it goes on by itself, or when the request is sent again"
        )
        raise
    return "done"


def forget_expired(store: Store) -> None:
    """Forgets rejected rows whose objects have expired, and erasures of that age."""
    store.erasures.forget_expired(settings().file_retention_days + LINGER_DAYS)


def _cut_file(cutting: ErasureAttempt, file: RejectedFile, store: Store, is_alive: Callable[[], None]) -> None:
    lines = store.erasures.lines_to_cut(cutting, file)
    if not lines:
        return  # another erasure has cut them
    try:
        made = without(ObjectVersion(settings().bucket, file.key, file.version), lines, is_alive)
    except ClientError as error:
        if not bucket.is_gone(error):
            raise
        store.erasures.forget_file(file)
        return
    version = made.version_id if made else None
    if store.erasures.replace_file(cutting, file, lines, version, left=made is not None):
        _delete_leftovers(cutting, store)
    elif made and made.version_id:
        # Another erasure has cut it meanwhile: this begins again with what that one left.
        bucket.delete_version(made)


def _delete_leftovers(cutting: ErasureAttempt, store: Store) -> None:
    for key, version in store.erasures.leftovers(cutting):
        bucket.delete_version(ObjectVersion(settings().bucket, key, version))
        store.erasures.forget_leftover(cutting, key, version)
