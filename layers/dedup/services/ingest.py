"""From an object in the bucket to records: once, whole, and accounted for.

Every delivery of an event may be the first, a repeat, or one of several at the same moment, and the function may die
anywhere. What happened is in the upload's row; this only moves it on.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from dedup import files
from dedup.aws import bucket
from dedup.aws.bucket import Misplaced, ObjectVersion, ObjectWriter, OpenObject
from dedup.errors import Superseded, Unavailable
from dedup.services.rejected_rows import MEDIA, without
from dedup.settings import SERVICE, settings
from dedup.store import Store
from dedup.store.audit import UNKNOWN
from dedup.store.loads import Load, Outdated
from dedup.store.rejected_rows import ErasedMeanwhile
from dedup.store.uploads import Upload
from dedup.traces import Trace

LEASE = 60.0
"""Seconds without a batch after which another attempt may start over."""

FINISHING_ROWS_PER_SECOND = 20_000
FINISHING_SECONDS = 30
"""How much time is kept for making records of the waiting rows: 30,000 to 70,000 a second were measured on two busy
cores."""

MATCHED_ROWS_PER_SECOND = {"add": 6_000, "replace": 2_000}
"""With entities to keep in step: 9,000 were measured, and 2,000 to 4,000 where others leave."""

_OVERWRITTEN = {"412", "PreconditionFailed"}

logger = Logger(service=SERVICE, child=True)


class Refused(Exception):
    """The file can't be loaded; the text tells its sender why."""


def objects_in(event: Mapping[str, Any]) -> Iterator[ObjectVersion]:
    """The objects that an event of S3 or of EventBridge says were created, folder markers and S3's test event left out.

    S3's own events quote keys, with + for a space; EventBridge's do not."""
    from aws_lambda_powertools.utilities.data_classes import S3Event, S3EventBridgeNotificationEvent

    found: list[tuple[str, str, str | None, str | None]] = []
    if "detail" in event:
        detail = S3EventBridgeNotificationEvent(dict(event)).detail
        found = [(detail.bucket.name, detail.object["key"], detail.object.get("version-id"), detail.get("requester"))]
    elif "Records" in event:
        found = [
            (
                record.s3.bucket.name,
                unquote_plus(record.s3.get_object.key),
                record.s3.get_object.version_id,
                (record.get("userIdentity") or {}).get("principalId"),
            )
            for record in S3Event(dict(event)).records
        ]
    for name, key, version_id, sender in found:
        if key.startswith(bucket.INCOMING) and not key.endswith("/"):
            yield ObjectVersion(name, key, version_id or None, sender)


def ingest(version: ObjectVersion, store: Store, remaining_seconds: Callable[[], float]) -> Upload | None:
    """Loads one object, unless that was done before; its account, or None where the object is gone and unknown.

    Raises errors.Busy while another attempt is at it, and whatever keeps it from being loaded now: then it is to be
    delivered again."""
    while True:
        try:
            opened = bucket.open_object(version)
        except ClientError as error:
            if bucket.is_gone(error):
                logger.warning("Object is gone", extra={"reason": _code(error)})
                return None
            raise
        key = f"s3/{version.bucket}/{version.key}/{version.version_id or opened.etag}"
        try:
            _load(version, opened, key, store, remaining_seconds)
        except _Overwritten:
            logger.info("Object was overwritten while it was read: reading it again")
            continue
        return store.uploads.with_key(key)


def resume(upload_id: int, store: Store, remaining_seconds: Callable[[], float]) -> Upload | None:
    """Loads an object whose event was lost after somebody began with it; its account, or None where nobody waits for
    it. Raises as ingest()."""
    lost = store.uploads.lost_object(upload_id)
    if lost is None:
        return None
    account = ingest(ObjectVersion(settings().bucket, *lost), store, remaining_seconds)
    if account is None:
        store.uploads.object_gone(upload_id, "The file is no longer in the bucket: upload it again")
    return store.uploads.get(upload_id)


class RejectedRows:
    """The object with the rejected rows of one attempt to load a file, as they come."""

    def __init__(self, version: ObjectVersion, load: Load) -> None:
        self._load = load
        self._object = ObjectWriter(version.bucket, bucket.rejected_key_of(load.id), MEDIA)
        self._begun = self._closed = False
        self._made: ObjectVersion | None = None

    def write(self, rows: Sequence[files.Rejected]) -> None:
        """Appends the rows; before the first of them, the header."""
        if rows:
            header, *lines = files.rejected_csv(rows)
            self._object.write(lines if self._begun else [header, *lines])
            self._begun = True

    def close(self, store: Store, end: Callable[[tuple[str, str | None] | None], None]) -> None:
        """Makes the object appear, and ends the upload by `end`, which is given the object's key and version, or None
        where no row was rejected: without rows of customers who were erased since the file was put into the bucket."""
        if not self._closed:
            self._made, self._closed = self._object.close(), True
        while True:
            if self._made and (lines := store.loads.lines_of_erased(self._load)):
                self._made = self._cut(self._made, lines, store)
            try:
                return end((self._made.key, self._made.version_id) if self._made else None)
            except ErasedMeanwhile:
                continue

    def abort(self, store: Store) -> None:
        """Forgets the rows, and deletes the object where the upload did not end with it after all."""
        if not self._closed:
            self._object.abort()
        elif self._made and self._made.version_id:
            # What can't be deleted now stays until the bucket's lifecycle deletes it.
            with suppress(Unavailable, BotoCoreError, ClientError):
                account = store.uploads.get(self._load.id)
                if account is None or account.rejected_version != self._made.version_id:
                    bucket.delete_version(self._made)

    def _cut(self, made: ObjectVersion, lines: Collection[int], store: Store) -> ObjectVersion | None:
        left = without(made, lines)
        # Without versions the object itself was replaced.
        if made.version_id or not left:
            bucket.delete_version(made)
        store.loads.forget_lines(self._load, lines)
        return left


class _Overwritten(Exception):
    """The object has other content than the one that was begun."""


def _load(
    version: ObjectVersion, opened: OpenObject, key: str, store: Store, remaining_seconds: Callable[[], float]
) -> None:
    try:
        place, misplaced = bucket.place_of(version.key, opened.metadata), None
    except Misplaced as error:
        place, misplaced = bucket.Place(None, "add"), error
    named = (version.version_id, version.sender)
    load = store.loads.claim(key, version.key, opened.modified, place.source, place.mode, LEASE, *named)
    if load is None:
        logger.info("Repeated delivery", extra={"object": _digest(key)})
        return
    rejects, faults = RejectedRows(version, load), Counter[tuple[str, bool]]()
    try:
        try:
            if misplaced:
                raise Refused(str(misplaced))
            rate = MATCHED_ROWS_PER_SECOND[place.mode] if store.runs.active() else FINISHING_ROWS_PER_SECOND

            def may_go_on(accepted: int, rejected: int) -> bool:
                finishing = accepted / rate + rejected / FINISHING_ROWS_PER_SECOND
                return remaining_seconds() >= FINISHING_SECONDS + finishing

            _stage(opened, place.source, load, store, rejects, faults, may_go_on)
            if not bucket.is_current(version, opened.etag):
                raise _Overwritten
            rejects.close(store, lambda made: store.loads.finish(load, made, version.sender or UNKNOWN, faults))
        except (Refused, files.Unreadable, Outdated) as refusal:
            reason = str(refusal)
            rejects.close(store, lambda made: store.loads.fail(load, reason, made, faults))
    except Superseded:
        rejects.abort(store)
        logger.warning("Another attempt took over", extra={"upload_id": load.id})
    except Exception as error:
        rejects.abort(store)
        if isinstance(error, _Overwritten) or _code(error) in _OVERWRITTEN:
            reason = "The object was overwritten while it was read; its new content is an upload of its own"
            store.loads.fail(load, reason)
            raise _Overwritten from error
        store.loads.interrupt(load, f"Interrupted ({type(error).__name__}); the next delivery starts over")
        raise


def _stage(
    opened: OpenObject,
    source: str | None,
    load: Load,
    store: Store,
    rejects: RejectedRows,
    faults: Counter[tuple[str, bool]],
    may_go_on: Callable[[int, int], bool],
) -> None:
    """Puts the file's rows where they wait, batch by batch. Writing one while the next is read was tried: reading takes
    most of the time, and the interpreter's lock, and nothing was gained."""
    accepted = rejected = 0
    for batch in files.read_whole(opened.body, source, opened.size):
        accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
        if not may_go_on(accepted, rejected):
            raise Refused(f"The file is too large for one function, which got through {accepted} rows: split it")
        rejects.write(batch.rejected)
        faults.update(batch.faults)
        traces = [Trace(row.line, row.customer_id, row.addresses) for row in batch.rejected]
        store.loads.stage(load, batch.rows, accepted, rejected, batch.known, traces)


def _digest(key: str) -> str:
    """What stands for a key in logs: a file's name may be a person's."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""
