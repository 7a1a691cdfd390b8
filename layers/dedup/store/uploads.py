"""Uploads: what happened to each batch of records, from the API or a file, and deleting one again."""

from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.errors import Busy, Conflict, NotUndoable, Unavailable
from dedup.file_options import DEFAULT, FileOptions
from dedup.store import examples, rejected_rows, samples
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.customer_columns import is_customer
from dedup.store.locks import LONG_WRITE_LOCK_SHARED, MERGE_LOCK_EXCLUSIVE
from dedup.store.maintenance import Maintenance
from dedup.store.region_counts import CUSTOMERS
from dedup.store.removal import delete_records
from dedup.store.salt import Salt
from dedup.store.sql import TIMES, text
from dedup.store.task_table import CUT_OFF, SEEN, TRIES, Outbox, TaskTable, below, failed

TASKS = TaskTable("upload", running="loading", limited=False)
"""Loads of files. A queue's operator may send a message again, so the number of attempts is not limited here."""

COMPARED = ("previewed", "held")
"""The statuses of an upload that was compared with the records and not loaded."""

UNDECIDED = ", ".join(f"'{status}'" for status in ("needs_mapping", *COMPARED))
"""The statuses of an upload that waits until somebody decides about it."""

_OPEN = "status IN ('waiting', 'loading', 'deleting')"

LOADS = Outbox(
    kind="upload",
    table="upload",
    open=_OPEN,
    # Without a key it waits for its object and not for a message: S3 sends that.
    waits=f"key IS NOT NULL AND {TASKS.waits}",
    # One message gives TRIES attempts. An operator's may give as many again.
    may=f"attempt < {2 * TRIES}",
    over="key IS NULL AND status = 'waiting' AND created_at < now() - interval '1 day'",
    end=f"""status = 'failed', lease_until = NULL, finished_at = clock_timestamp(), sheet = NULL, reason = CASE
        WHEN key IS NULL THEN 'No file arrived within a day: ask for another upload'
        ELSE coalesce(split_part(reason, ';', 1), '{CUT_OFF}') || ', after ' || attempt || ' attempts: upload it again'
        END""",
)
DELETIONS = Outbox(
    kind="delete_upload",
    table="upload",
    open=_OPEN,
    waits="status = 'deleting'",
    end="status = 'done', reason = 'Its deletion was not carried out: ask for it again'",
)


@dataclass(frozen=True)
class CustomerChanges:
    """Customers of an upload's sources: added by it, removed by it (a snapshot or an upsert), and there before; or, of
    an upload that is previewed or held, those that it would add and remove. `new`: of those added, the ones that no
    source had before."""

    added: int
    removed: int
    unchanged: int
    new: int


@dataclass(frozen=True)
class RecordChanges:
    """Records of an upload's sources: added by it; changed, removed or found unchanged by a snapshot or an upsert."""

    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True)
class Reason:
    """Why rows of an upload were rejected: their number, and the line of the first. `field` is empty for the row as a
    whole. A row may have several reasons."""

    field: str
    reason: str
    rows: int
    example_line: int


@dataclass(frozen=True)
class RowWarning:
    """What was noticed about accepted rows of an upload: their number, and the line of the first. `code` identifies the
    kind of warning."""

    code: str
    field: str
    reason: str
    rows: int
    example_line: int


@dataclass(frozen=True)
class SameContent:
    """The latest upload before this one that loaded the same bytes for the same source."""

    code: Literal["same_content"]
    upload_id: int


@dataclass(frozen=True)
class Upload:
    """The state of an upload. Times are ISO 8601 in UTC."""

    id: int
    status: str
    origin: str
    mode: str
    source: str | None
    source_guessed: bool
    strict: bool
    dry_run: bool
    object_key: str | None
    rows: int
    accepted: int
    rejected: int
    customers: CustomerChanges | None
    records: RecordChanges | None
    reason: str | None
    reasons: list[Reason]
    warnings: list[RowWarning | SameContent]
    rejected_key: str | None
    rejected_version: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    announced: bool


def same_content(sha256: str, among: str) -> str:
    """A query for the id of the latest upload, among those that meet the condition, that is done and has the content
    with this digest; NULL if there is none. Uploads that were deleted or cleared since do not count."""
    return f"""SELECT max(id) FROM upload WHERE content_digest = salted({text(sha256)}) AND status = 'done'
        AND ({among}) AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > finished_at)"""


def changes_as_columns(changes: CustomerChanges | RecordChanges) -> str:
    """The changes to the row of an upload that say what it did, or would do."""
    kind = "customers" if isinstance(changes, CustomerChanges) else "records"
    return ", ".join(f"{kind}_{change} = {number}" for change, number in asdict(changes).items())


NO_FIGURES = ", ".join(
    f"{kind}_{field.name} = NULL"
    for kind, changes in (("customers", CustomerChanges), ("records", RecordChanges))
    for field in fields(changes)
)
"""The changes to the row of an upload whose figures were those of a preview."""


def load_failed(reason: str) -> str:
    """The changes to the row of a file that end it as failed."""
    return f"{failed(reason)}, sheet = NULL"


class Uploads:
    """The uploads of one database."""

    def __init__(self, database: Database, salt: Salt, maintenance: Maintenance) -> None:
        self._database = database
        self._salt = salt
        self._maintenance = maintenance

    def create(
        self,
        object_key: str,
        source: str | None,
        mode: str,
        principal: str = UNKNOWN,
        options: FileOptions = DEFAULT,
        *,
        review: bool = False,
        dry_run: bool = False,
    ) -> int:
        """Adds an upload that waits for its object; returns its id. `object_key` has `{}` where the id goes;
        `principal` is who asked for it. `review`: its column mapping is to be checked in any case; `dry_run`: what it
        would do is to be shown before it is loaded."""
        hashes = self._salt.hashes()

        def work(connection: Connection) -> int:
            [[upload_id]] = connection.run(
                f"""INSERT INTO upload (origin, status, source, mode, sheet, strict, review, dry_run)
                    VALUES ('s3', 'waiting', {text(source)}, {text(mode)}, {text(options.sheet)}, {options.strict},
                        {review}, {dry_run})
                    RETURNING id"""
            )
            key = object_key.format(upload_id)
            connection.run(
                f"""UPDATE upload SET object_key = {text(key)}, key_emails = {rejected_rows.key_emails(key, hashes)}
                    WHERE id = {upload_id}"""
            )
            record_action(connection, "expect upload", principal, upload_id=upload_id)
            return int(upload_id)

        return self._database.write(work, repeatable=False)

    def get(self, upload_id: int) -> Upload | None:
        """One upload; None if it does not exist."""
        found = self._find(f"id = {upload_id}", 1)
        return found[0] if found else None

    def with_key(self, key: str) -> Upload | None:
        """The upload with that key; None if there is none."""
        found = self._find(f"key = salted({text(key)})", 1)
        return found[0] if found else None

    def page(self, before: int | None, limit: int) -> list[Upload]:
        """The uploads, the newest first, from below id `before`; at most `limit`."""
        return self._find(below(before), limit)

    def same_content(self, sha256: str, source: str | None) -> list[SameContent]:
        """The latest upload whose records are in place and which loaded the same content for the same source; empty if
        there is none. `sha256` is the digest of the content, in hexadecimal digits. Without a source, it is the upload
        for which no source was given either."""
        query = same_content(sha256, f"source = {text(source)}" if source else "source IS NULL OR source_guessed")
        [[found]] = self._database.read(lambda connection: connection.run(f"SELECT ({query})"))
        return [SameContent("same_content", found)] if found else []

    def announced(self, upload_id: int) -> None:
        """Records that the upload's end was announced."""
        self._database.write(
            lambda connection: connection.run(f"UPDATE upload SET announced_at = now() WHERE id = {upload_id}"),
            repeatable=True,
        )

    def lost_object(self, upload_id: int) -> tuple[str, str | None, str | None] | None:
        """What S3 said of the object of an upload that has to be loaded again: its key, its version, and who put it
        there. None if the upload does not wait for a message."""
        rows = self._database.read(
            lambda connection: connection.run(
                f"SELECT object_key, object_version, sender FROM upload WHERE id = {upload_id} AND {LOADS.waits}"
            )
        )
        return tuple(rows[0]) if rows else None

    def object_gone(self, upload_id: int, reason: str) -> None:
        """Ends an upload whose object no longer exists, if it waits for a message."""
        self._database.write(
            lambda connection: connection.run(
                f"UPDATE upload SET {load_failed(reason)} WHERE id = {upload_id} AND {LOADS.waits}"
            ),
            repeatable=True,
        )

    def bucket_lost(self, reason: str) -> None:
        """Ends all uploads that wait for an object, with that reason, and deletes what is known of rejected rows: the
        bucket and its objects are gone."""

        def work(connection: Connection) -> None:
            connection.run(
                f"""UPDATE upload SET {load_failed(reason)}, {NO_FIGURES}
                    WHERE origin = 's3' AND status IN ('waiting', 'loading', {UNDECIDED})"""
            )
            samples.forget_all(connection)
            examples.forget_all(connection)
            rejected_rows.forget_all(connection)

        self._database.write(work, repeatable=True)

    def request_deletion(self, upload_id: int, principal: str = UNKNOWN) -> None:
        """Records that `principal` wants the upload's records deleted. Raises Conflict while it is being loaded, and
        NotUndoable."""

        def work(connection: Connection) -> None:
            _lock_row(connection, upload_id)
            _require_undoable(connection, upload_id)
            connection.run(
                f"""UPDATE upload SET status = 'deleting', lease_until = NULL, deleted_by = {text(principal)}, {SEEN}
                    WHERE id = {upload_id}"""
            )
            samples.forget_uploads(connection, [upload_id])

        self._database.write(work, repeatable=True)

    def delete_requested(self, upload_id: int) -> int | None:
        """Deletes an upload whose deletion was requested; returns how many records there were. None if that was done
        before, given up, or is not possible any more. Raises Busy while another attempt is at it."""
        try:
            return self._delete(upload_id, None)
        except NotUndoable as error:
            changes = f"status = 'done', reason = {text(f'It was not deleted. {error}')}"
            self._database.write(
                lambda connection: connection.run(
                    f"UPDATE upload SET {changes} WHERE id = {upload_id} AND status = 'deleting'"
                ),
                repeatable=True,
            )
            return None
        except Conflict as error:
            raise Busy from error

    def delete(self, upload_id: int, principal: str = UNKNOWN) -> int | None:
        """Deletes the upload's records, also from membership and counts; returns how many there were. None if there is
        no such upload. `principal` is who asked for it. Raises Conflict while it is being loaded; and NotUndoable if
        it changed or removed records, or if a later snapshot or upsert states records of it."""
        return self._delete(upload_id, principal)

    def _delete(self, upload_id: int, principal: str | None) -> int | None:
        """Without a principal: only if the deletion was requested, in the name of who requested it."""

        def work(connection: Connection) -> int | None:
            connection.run(f"SELECT {LONG_WRITE_LOCK_SHARED}")
            if not connection.run(f"SELECT FROM upload WHERE id = {upload_id}"):
                return None
            _lock_row(connection, upload_id)
            [[status, requested_by]] = connection.run(f"SELECT status, deleted_by FROM upload WHERE id = {upload_id}")
            if principal is None and status != "deleting":
                return None
            samples.forget_uploads(connection, [upload_id])
            examples.forget_uploads(connection, [upload_id])
            connection.run(f"SELECT {MERGE_LOCK_EXCLUSIVE}")
            _require_undoable(connection, upload_id)
            was_not_loaded = f", {NO_FIGURES}" if status in COMPARED else ""
            connection.run(
                f"""UPDATE upload SET status = 'deleted', lease_until = NULL, sheet = NULL{was_not_loaded}
                    WHERE id = {upload_id}"""
            )
            rejected_rows.hide_keys_of_erased(connection, [upload_id])
            removed = delete_records(connection, f"upload_id = {upload_id}").records
            connection.run(f"DELETE FROM stated_customer WHERE upload_id = {upload_id}")
            who = principal or requested_by or UNKNOWN
            record_action(connection, "delete upload", who, upload_id=upload_id, records=removed)
            return removed

        removed = self._database.write(work, repeatable=True)
        with suppress(Unavailable):
            self._maintenance.merge_deferred(batches=1)
        return removed

    def _find(self, condition: str, limit: int) -> list[Upload]:
        query = f"""
            SELECT id, CASE WHEN status = 'done' AND finished_at < (SELECT max(cleared_at) FROM clearing) THEN 'deleted'
                    ELSE {TASKS.status} END,
                origin, mode, source, source_guessed, strict, dry_run, object_key, rows, accepted, rejected,
                customers_added, customers_removed, customers_unchanged, customers_new,
                records_added, records_changed, records_removed, records_unchanged, reason,
                {_REASONS}, {_WARNINGS}, same_content, rejected_key, rejected_version, {TIMES}, announced_at IS NOT NULL
            FROM upload WHERE {condition} ORDER BY id DESC LIMIT {limit}"""
        rows = self._database.read(lambda connection: connection.run(query))
        return [_upload(row) for row in rows]


def _json_rows(table: str, columns: str) -> str:
    """An expression for the rows of a table of findings that an upload has, as a JSON array in which those with most
    rows come first."""
    order = "e.rows DESC, e.example_line, e.field"
    return f"""(SELECT coalesce(json_agg(json_build_array({columns}) ORDER BY {order}), '[]')
        FROM {table} e WHERE e.upload_id = upload.id)"""


_REASONS = _json_rows("upload_error", "e.field, e.reason, e.rows, e.example_line")
_WARNINGS = _json_rows("upload_warning", "e.code, e.field, e.reason, e.rows, e.example_line")


def _upload(row: list[Any]) -> Upload:
    customers, records, reasons, warnings, same = row[12:16], row[16:20], row[21], row[22], row[23]
    noticed = [SameContent("same_content", same)] if same else []
    row[21:24] = [Reason(*found) for found in reasons], [*noticed, *(RowWarning(*found) for found in warnings)]
    row[12:20] = [
        None if None in customers else CustomerChanges(*customers),
        None if None in records else RecordChanges(*records),
    ]
    return Upload(*row)


def _lock_row(connection: Connection, upload_id: int) -> None:
    """Raises Conflict if a load holds the upload's row, as it does until it ends."""
    free = connection.run(
        f"""SELECT FROM upload WHERE id = {upload_id} AND NOT (status = 'loading' AND lease_until >= now())
            FOR UPDATE SKIP LOCKED"""
    )
    if not free:
        raise Conflict("The upload is being loaded or deleted")


def restates(snapshot: str, upload: str) -> str:
    """The condition that a snapshot was compared with the records of an earlier upload: those that are left are in the
    snapshot, too. Both are rows of upload. The source of the snapshot is not looked at."""
    return f"""({snapshot}.mode = 'replace' AND {snapshot}.status = 'done'
        AND {snapshot}.finished_at > {upload}.finished_at
        AND ({upload}.object_at IS NULL OR {snapshot}.object_at >= {upload}.object_at))"""


def uploads_of(customer_id: CustomerId) -> str:
    """A query for the uploads that brought the records of a customer, and the snapshots and upserts that state them,
    too: upload_id."""
    theirs = is_customer(customer_id, "r.")
    return f"""(SELECT r.upload_id FROM record r WHERE {theirs}
        UNION SELECT c.upload_id FROM stated_customer c WHERE {is_customer(customer_id, "c.")}
        UNION SELECT n.id FROM record r JOIN source s ON s.bit = r.source JOIN upload u ON u.id = r.upload_id
        JOIN upload n ON n.source = s.name AND {restates("n", "u")} WHERE {theirs})"""


def _require_undoable(connection: Connection, upload_id: int) -> None:
    """Raises NotUndoable if the state without the upload is not known: it changed or removed records, or a later
    snapshot or upsert states records of it."""
    lost = connection.run(
        f"""SELECT records_changed, records_removed FROM upload
            WHERE id = {upload_id} AND status IN ('done', 'deleting') AND records_changed + records_removed > 0
                AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > finished_at)"""
    )
    if lost:
        [[changed, removed]] = lost
        raise NotUndoable(
            f"The upload changed {changed} and removed {removed} records, which cannot be restored. "
            "Load a snapshot with the records that the source should have"
        )
    upserts = " UNION ALL ".join(
        f"""SELECT c.upload_id FROM record r
            JOIN stated_customer c ON c.{membership.id} = r.{membership.id} AND c.source = r.source
            WHERE r.upload_id = {upload_id}"""
        for membership in CUSTOMERS.memberships
    )
    later = connection.run(
        f"""WITH theirs AS MATERIALIZED (SELECT DISTINCT source FROM record WHERE upload_id = {upload_id})
            SELECT n.id, s.name, 'snapshot' FROM theirs t JOIN source s ON s.bit = t.source
            JOIN upload u ON u.id = {upload_id} JOIN upload n ON n.source = s.name AND {restates("n", "u")}
            UNION ALL SELECT n.id, n.source, 'upsert' FROM (SELECT DISTINCT * FROM ({upserts}) AS c) AS c
            JOIN upload n ON n.id = c.upload_id JOIN upload u ON u.id = {upload_id} AND n.finished_at > u.finished_at
            ORDER BY 1 DESC LIMIT 1"""
    )
    if later:
        [[other, source, kind]] = later
        raise NotUndoable(f"Upload {other}, a later {kind} of {source}, states records of this upload, too")
