"""Erases one customer: the rejected rows that speak of them, then their records and what was made of these.

In that order: until the records are gone they say by which addresses to search, and a call that was cut off is made
again from the start."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from io import TextIOWrapper

from botocore.exceptions import ClientError

from dedup import bucket
from dedup.answers import Erasure
from dedup.bucket import ObjectVersion, ObjectWriter
from dedup.connection import Unavailable
from dedup.exports import KEPT_DAYS
from dedup.settings import settings
from dedup.store import Account, Store

ERASING_SECONDS = 5.0
"""How much time is kept for the records, once the files are searched."""

MAX_EXPORTS = 1_000
"""Exports that an erasure names at most."""


def erase(customer_id: int, store: Store, principal: str, remaining_seconds: Callable[[], float]) -> Erasure | None:
    """Erases a customer; what was erased, or None where nothing was known of them.

    Raises Unavailable when there are more rejected rows than can be searched in time: the records are there still."""
    traces = store.traces(customer_id)
    mentions = _mentions(customer_id, traces.addresses)
    rows = 0
    for account in store.with_rejected() if settings().bucket else ():
        rows += _cut(account, mentions, store, remaining_seconds)
    if not traces.known and not rows:
        return None
    records = store.erase(customer_id, principal) if traces.known else 0
    # Afterwards: one that begins to be written now no longer finds the records.
    return Erasure(
        customer_id=customer_id,
        records=records,
        sources=traces.sources,
        rejected_rows=rows,
        files=traces.files,
        exports=store.exports_there(KEPT_DAYS, MAX_EXPORTS),
    )


_APART = "[.,'\u2019 \u00a0\u2009\u202f]?"
"""What may be between thousands."""


def _mentions(customer_id: int, addresses: Iterable[str]) -> Callable[[str], object]:
    """Whether a row carries the id as a number of its own, with zeros before it and thousands apart as files may have
    them, or one of the addresses in any case."""
    groups = f"{customer_id:,}".replace(",", _APART)
    number = rf"(?<!\d)-0*{groups[1:]}(?!\d)" if customer_id < 0 else rf"(?<!\d)0*{groups}(?!\d)"
    words = "|".join([number, *map(re.escape, addresses)])
    return re.compile(words, re.IGNORECASE).search


def _cut(
    account: Account, mentions: Callable[[str], object], store: Store, remaining_seconds: Callable[[], float]
) -> int:
    """Writes an upload's rejected rows anew without those that are meant; how many those were."""
    old = ObjectVersion(settings().bucket, str(account.rejected_key), account.rejected_version)
    try:
        opened = bucket.open_object(old)
    except ClientError as error:
        if bucket.is_gone(error):
            return 0
        raise
    kept, cut = ObjectWriter(old.bucket, old.key, "text/csv; charset=utf-8"), 0
    try:
        for row, raw in _rows(TextIOWrapper(opened.body, encoding="utf-8", newline="")):
            if remaining_seconds() < ERASING_SECONDS:
                raise Unavailable("There are more rejected rows than could be searched in time; the records are kept")
            if mentions(row[-1]):
                cut += 1
            else:
                kept.write([raw.encode()])
    except BaseException:
        kept.abort()
        raise
    if not cut:
        kept.abort()
        return 0
    new = kept.close()
    store.replace_rejected(account.id, new.version_id if new else None)
    if old.version_id:
        bucket.delete_version(old)
    return cut


def _rows(lines: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """The rows of a CSV file, each as its cells and as it is written, so that what stays is not written otherwise."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    for row in csv.reader(noted()):
        yield row, "".join(taken)
        taken.clear()
