"""Loads an object of the bucket as records: exactly once, and all accepted rows or none.

An event may be delivered repeatedly or concurrently, and the function may be killed at any point. The state of the
upload is in its database row, so that any attempt can continue from it.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from dedup.aws import bucket, object_keys
from dedup.aws.bucket import ObjectVersion, OpenObject
from dedup.aws.object_keys import WrongFolder
from dedup.aws.object_writer import ObjectWriter
from dedup.errors import Superseded, Unavailable
from dedup.file_options import DEFAULT
from dedup.files.cells import rejected_csv
from dedup.files.compression import Stream
from dedup.files.mapping import ColumnMapping, Mapper, NeedsMapping, SavedMapping
from dedup.files.reading import read_whole
from dedup.files.tables import Rejected, Unreadable
from dedup.findings import Findings
from dedup.services.rejected_rows import MEDIA, without
from dedup.settings import SERVICE, settings
from dedup.store import Store
from dedup.store.audit import UNKNOWN
from dedup.store.load_attempt import Load
from dedup.store.load_effects import Outdated
from dedup.store.loads import Loaded
from dedup.store.previews import Changed
from dedup.store.rejected_rows import ErasedMeanwhile
from dedup.store.uploads import Upload
from dedup.traces import Trace

LEASE = 60.0
"""Seconds without a batch after which another attempt may start over."""

FINISHING_SECONDS = 30
"""Time reserved for the end of a load, beside that for its rows."""

WRITTEN_ROWS_PER_SECOND = 20_000
"""Rows that become records, or rejected rows. Measured: 130,000 rows a second on two cores, 30,000 on busy ones."""

COMPARED_ROWS_PER_SECOND = 100_000
"""Rows of a snapshot or an upsert, which are compared with the records. Measured on two cores: 350,000 a second."""

CHANGED_SHARE = 0.1
"""Share of the rows of a snapshot or an upsert that are expected to differ from the records, as far as the source has
customers. All others are new, and written. How many differ is only known when they were compared."""

_OVERWRITTEN = {"412", "PreconditionFailed"}

logger = Logger(service=SERVICE, child=True)

T = TypeVar("T")


class Refused(Exception):
    """The file cannot be loaded. The message is shown to its sender."""


def objects_in(event: Mapping[str, Any]) -> Iterator[ObjectVersion]:
    """Yields the created objects of an S3 or EventBridge event, without folder markers and S3's test event.

    Keys in S3's events are URL-encoded, with + for a space; those in EventBridge's events are not."""
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
        if key.startswith(object_keys.INCOMING) and not key.endswith("/"):
            yield ObjectVersion(name, key, version_id or None, sender)


def ingest(version: ObjectVersion, store: Store, remaining_seconds: Callable[[], float]) -> Upload | None:
    """Loads one object, unless it was loaded before. Returns its upload, or None if the object no longer exists and has
    no upload.

    Raises errors.Busy while another attempt holds the lease, and any error that interrupts loading: then the event must
    be delivered again."""
    while True:
        try:
            opened = bucket.open_object(version)
        except ClientError as error:
            if bucket.is_gone(error):
                logger.warning("The object no longer exists", extra={"reason": _code(error)})
                return None
            raise
        key = f"s3/{version.bucket}/{version.key}/{version.version_id or opened.etag}"
        try:
            _load(version, opened, key, store, remaining_seconds)
        except _Overwritten:
            logger.info("The object was overwritten while it was read: reading it again")
            continue
        return store.uploads.with_key(key)


def resume(upload_id: int, store: Store, remaining_seconds: Callable[[], float]) -> Upload | None:
    """Loads the object of an upload whose event was lost after an attempt had started. Returns the upload, or None if
    it does not wait for its object. Raises the same errors as ingest()."""
    lost = store.uploads.lost_object(upload_id)
    if lost is None:
        return None
    upload = ingest(ObjectVersion(settings().bucket, *lost), store, remaining_seconds)
    if upload is None:
        store.uploads.object_gone(upload_id, "The file is no longer in the bucket: upload it again")
    return store.uploads.get(upload_id)


class RejectedRows:
    """Writes the rejected rows of one attempt to load a file to an object."""

    def __init__(self, version: ObjectVersion, load: Load) -> None:
        self._load = load
        self._object = ObjectWriter(version.bucket, object_keys.rejected_key_of(load.id), MEDIA)
        self._has_header = self._closed = False
        self._made: ObjectVersion | None = None

    def write(self, rows: Sequence[Rejected]) -> None:
        """Appends rows, and the header before the first row."""
        if rows:
            header, *lines = rejected_csv(rows)
            self._object.write(lines if self._has_header else [header, *lines])
            self._has_header = True

    def close(self, store: Store, end: Callable[[tuple[str, str | None] | None], T]) -> T:
        """Completes the object and ends the upload by calling `end` with the object's key and version, or with None if
        no row was rejected; returns its result.

        Rows of customers who were erased after the file was sent are removed first. `end` raises ErasedMeanwhile if
        there are more of them."""
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
        """Discards the rows, and deletes a completed object unless the upload refers to it."""
        if not self._closed:
            self._object.abort()
        elif self._made and self._made.version_id:
            # If deleting fails, the bucket's lifecycle deletes the object later.
            with suppress(Unavailable, BotoCoreError, ClientError):
                upload = store.uploads.get(self._load.id)
                if upload is None or upload.rejected_version != self._made.version_id:
                    bucket.delete_version(self._made)

    def _cut(self, made: ObjectVersion, lines: Collection[int], store: Store) -> ObjectVersion | None:
        left = without(made, lines)
        # In a bucket without versioning the object itself was replaced.
        if made.version_id or not left:
            bucket.delete_version(made)
        store.loads.forget_lines(self._load, lines)
        return left


class Digested:
    """A stream that computes the digest of its bytes while they are read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Returns at most `size` bytes; empty only at the end."""
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def sha256(self) -> str:
        """Reads the rest of the stream, and returns the SHA-256 of all its bytes in hexadecimal digits."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


class _Overwritten(Exception):
    """The object was overwritten while it was read."""


def _load(
    version: ObjectVersion, opened: OpenObject, key: str, store: Store, remaining_seconds: Callable[[], float]
) -> None:
    try:
        folder, wrong_folder = object_keys.folder_of(version.key, opened.metadata), None
        options, dry_run = object_keys.options_of(opened.metadata), object_keys.is_dry_run(opened.metadata)
    except WrongFolder as error:
        folder, options, dry_run, wrong_folder = object_keys.Folder(None, "add"), DEFAULT, False, error
    named = (version.version_id, version.sender, options)
    load = store.loads.claim(
        key, version.key, opened.modified, folder.source, folder.mode, LEASE, *named, dry_run=dry_run
    )
    if load is None:
        logger.info("Repeated delivery", extra={"object": _digest(key)})
        return
    rejects, findings, body = RejectedRows(version, load), Findings(), Digested(opened.body)
    try:
        try:
            if wrong_folder:
                raise Refused(str(wrong_folder))
            load = replace(load, source=folder.source or load.source)
            known = _customers_of(load, store)

            def has_time(accepted: int, rejected: int) -> bool:
                return remaining_seconds() >= reserved_seconds(accepted, rejected, known)

            mapper = _mapper(load, store)
            guessed, left_out = _stage(body, opened.size, load, store, mapper, rejects, findings, has_time)
            file = Loaded(body.sha256(), guessed, findings, left_out)
            if not bucket.is_current(version, opened.etag):
                raise _Overwritten
            principal, limit = version.sender or UNKNOWN, settings().snapshot_max_removed
            if not rejects.close(store, lambda made: store.loads.finish(load, made, principal, file, limit)):
                rejects.abort(store)
        except NeedsMapping as question:
            rejects.abort(store)
            columns = [column._asdict() for column in question.columns]
            store.mappings.ask(load, str(question), columns, question.proposal.as_json(), question.rows)
        except (Refused, Unreadable, Outdated, Changed) as refusal:
            reason = str(refusal)
            rejects.close(store, lambda made: store.loads.fail(load, reason, made, findings))
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


def reserved_seconds(accepted: int, rejected: int, customers: int | None = None) -> float:
    """Returns how long it may take to load rows that are staged: a snapshot or an upsert of a source with so many
    `customers`; None if the rows are added."""
    written, compared = accepted, 0
    if customers is not None:
        compared = accepted
        written -= round((1 - CHANGED_SHARE) * min(accepted, customers))
    return FINISHING_SECONDS + (written + rejected) / WRITTEN_ROWS_PER_SECOND + compared / COMPARED_ROWS_PER_SECOND


def _customers_of(load: Load, store: Store) -> int | None:
    """The number of customers of the source of a snapshot or an upsert; None if rows are added."""
    if load.mode == "add":
        return None
    return sum(customers for sources, customers in store.questions.counts().items() if load.source in sources)


def _mapper(load: Load, store: Store) -> Mapper:
    """Decides about the columns, by what the sender stated and what is saved for the source."""
    stated = ColumnMapping.from_json(load.mapping) if load.mapping else None
    saved = [
        SavedMapping(one.header, ColumnMapping.from_json(one.mapping))
        for one in (store.mappings.saved(load.source) if load.source else ())
    ]
    return Mapper(stated, saved, review=load.review and stated is None)


def _stage(
    body: Stream,
    size: int,
    load: Load,
    store: Store,
    mapper: Mapper,
    rejects: RejectedRows,
    findings: Findings,
    has_time: Callable[[int, int], bool],
) -> tuple[str | None, int]:
    """Stages the file's rows batch by batch. Returns the source if it was guessed, and how many rows were left out
    because they are marked as deleted. Raises NeedsMapping before the first one.

    A batch is stored while the next one is read: mostly, storing waits for the database."""
    accepted = rejected = left_out = 0
    guessed = None
    deletions = load.mode == "upsert"
    storing: Future[None] | None = None
    # At the end, also by an error, the thread has stored its batch: nobody else uses the connection meanwhile.
    with ThreadPoolExecutor(1) as thread:
        for batch in read_whole(body, load.source, size, load.options, mapper, deletions=deletions):
            if storing:
                storing.result()
            else:
                store.mappings.note(load, [column._asdict() for column in mapper.understood])
            accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
            left_out += batch.left_out
            if not has_time(accepted, rejected):
                message = f"The file is too large: the time limit was reached after {accepted} rows"
                raise Refused(f"{message}. Split the file")
            rejects.write(batch.rejected)
            findings.update(batch.findings)
            traces = [Trace(row.line, row.customer_id, row.addresses) for row in batch.rejected]
            stage = partial(store.loads.stage, load, batch.rows, accepted, rejected, batch.known, traces, left_out)
            storing = thread.submit(stage)
            guessed = batch.guessed_source
        if storing:
            storing.result()
    return guessed, left_out


def _digest(key: str) -> str:
    """Returns a digest of an object's key for logs, because file names may contain personal data."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""
