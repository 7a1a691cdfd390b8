"""Loading a file: its rows are staged in a table of their own, batch after batch, and become records at the end in one
transaction.

Whoever loads holds a lease, which each batch renews; when it runs out, another attempt may start over. An attempt that
was superseded notices in the same statement with which it would write, so it can write nothing more.
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pg8000.native import Connection

from dedup.errors import Unavailable
from dedup.file_options import DEFAULT, FileOptions
from dedup.findings import Finding
from dedup.records import OPTIONAL
from dedup.store import load_effects, rejected_rows, suspicions
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.customer_columns import id_columns, id_values
from dedup.store.load_attempt import Load
from dedup.store.locks import LONG_WRITE_LOCK_SHARED
from dedup.store.maintenance import Maintenance
from dedup.store.record_columns import TYPES, all_written
from dedup.store.salt import Salt
from dedup.store.sources import Sources
from dedup.store.sql import copy_columns, text
from dedup.store.staging import REPLACED, UPSERTED, drop_abandoned, drop_staging
from dedup.store.uploads import TASKS, changes_as_columns, load_failed, same_content
from dedup.traces import Hashes, Trace

Row = tuple[Any, ...]
"""A record as a row: the customer id, name, email, source, then optional fields."""

Rejected = tuple[str, str | None] | None
"""Where the rejected rows are: the object's key and version."""


@dataclass(frozen=True)
class Loaded:
    """What is known of a file once it was read. `sha256` is the digest of its bytes, in hexadecimal digits;
    `guessed_source` is the source of its rows if it was guessed; `left_out` is the number of rows that were neither
    staged nor rejected."""

    sha256: str | None = None
    guessed_source: str | None = None
    findings: Iterable[Finding] = ()
    left_out: int = 0


class Loads:
    """Loads of files into one database."""

    def __init__(self, database: Database, sources: Sources, salt: Salt, maintenance: Maintenance) -> None:
        self._database = database
        self._sources = sources
        self._salt = salt
        self._maintenance = maintenance

    def claim(
        self,
        key: str,
        object_key: str,
        object_at: datetime,
        source: str | None,
        mode: str,
        lease: float,
        version: str | None = None,
        sender: str | None = None,
        options: FileOptions = DEFAULT,
        *,
        dry_run: bool = False,
    ) -> Load | None:
        """Starts to load the object version that `key` names, and creates its staging table. None if it was loaded,
        refused or deleted before, or waits for a decision. `version` and `sender` are what S3 calls the version, and
        who put it there: see Uploads.lost_object(). `options` and `dry_run` are used where the upload was not requested
        with others. Raises Busy while another attempt is at it."""
        key_emails = rejected_rows.key_emails(object_key, self._salt.hashes())
        changes = f"""rows = 0, rejected = 0, started_at = now(), key = salted({text(key)}),
            object_at = {text(object_at.isoformat())}::timestamptz, object_version = {text(version)},
            sender = {text(sender)}, sheet = coalesce(sheet, {text(options.sheet)}),
            strict = strict OR {options.strict}, dry_run = dry_run OR {dry_run}"""

        def work(connection: Connection) -> Load | None:
            drop_abandoned(connection)
            upload_id = _find_or_insert(connection, key, object_key, source, mode, key_emails)
            stated = "(SELECT mapping FROM upload_mapping m WHERE m.upload_id = upload.id)"
            decision = "(SELECT decision FROM upload_preview p WHERE p.upload_id = upload.id)"
            # A source that was guessed for a preview is guessed again, from the same columns.
            source_stated = "CASE WHEN NOT source_guessed THEN source END"
            columns = f"attempt, mode, {source_stated}, {stated}, review, sheet, strict, dry_run, {decision}"
            claimed = TASKS.claim(connection, upload_id, lease, columns, changes)
            if not claimed:
                return None
            attempt, found, named, mapping, review, sheet, strict, *previewed = claimed
            load = Load(
                upload_id, attempt, lease, FileOptions(sheet, strict), found, named, mapping, review, *previewed
            )
            drop_staging(connection, upload_id)
            rejected_rows.forget_rows(connection, upload_id)
            further = {"replace": REPLACED, "upsert": UPSERTED}.get(load.mode, "")
            connection.run(
                f"""CREATE UNLOGGED TABLE {load.table} (
                    customer_id bigint, name text, email text, source smallint NOT NULL, text_id text COLLATE "C",
                    {", ".join(f"{field} {TYPES[field]}" for field in OPTIONAL)}{further}
                ) WITH (autovacuum_enabled = off)"""
            )
            return load

        return self._database.write(work, repeatable=True)

    def stage(
        self,
        load: Load,
        rows: Sequence[Row],
        accepted: int,
        rejected: int,
        known: Sequence[str] = (),
        traces: Iterable[Trace] = (),
        left_out: int = 0,
    ) -> None:
        """Adds rows to the staged ones, records how many were accepted, rejected and left out so far in all, and renews
        the lease. `known`: the optional fields that the rows end with, of records.OPTIONAL, and `deleted` of an upsert;
        `traces`: the customers of the rejected rows of this batch. Raises Superseded."""
        hashes = self._salt.hashes()
        columns, payload = self._copied(rows, known) if rows else ("", b"")

        def work(connection: Connection) -> None:
            TASKS.renew(connection, load, f"rows = {accepted + rejected + left_out}, rejected = {rejected}")
            if rows:
                connection.run(f"COPY {load.table} ({columns}) FROM STDIN", stream=[payload])
            rejected_rows.add_rows(connection, load.id, traces, hashes)

        # Not repeatable: a commit that was lost may have kept the rows. The next attempt starts from an empty table.
        self._database.write(work, repeatable=False)

    def _copied(self, rows: Sequence[Row], known: Sequence[str]) -> tuple[str, bytes]:
        """The columns and the rows of a COPY into the staging table."""
        # By column: to convert one row after the other takes three times as long.
        customer_ids, names, emails, sources, *more = zip(*rows, strict=True)
        ids = id_columns(customer_ids)
        bit_of = {source: str(bit) for source, bit in self._sources.bits({*sources}).items()}
        texts = [*id_values(customer_ids, ids), names, emails, [*map(bit_of.__getitem__, sources)]]
        texts += map(all_written, known, more)
        return ", ".join((*ids, "name", "email", "source", *known)), copy_columns(texts)

    def finish(
        self,
        load: Load,
        rejected: Rejected = None,
        principal: str = UNKNOWN,
        file: Loaded = Loaded(),
        max_removed: int = suspicions.NEVER,
    ) -> bool:
        """Makes records of the staged rows and counts them; a snapshot makes the records of its source the same as its
        rows, an upsert those of the customers in it. Rows of a source that has a newer snapshot are left out, because
        they are out of date, and so are rows of customers that newer upserts state. Readers see all of it or nothing.
        `principal` is who put the object there.

        Returns False if nothing of it was done: the upload is previewed, or held because the snapshot is suspicious.
        `rejected` is not needed then. `max_removed`: see suspicions.find().

        Raises Superseded; RowsLost; Outdated if no row would be left; previews.Changed if a preview is applied and is
        out of date; and ErasedMeanwhile if `rejected` has rows of customers who were erased since the object was put
        there."""
        hashes = self._salt.hashes()

        def work(connection: Connection) -> bool:
            accepted = _finish(connection, load, rejected, file, hashes, max_removed)
            _add_findings(connection, load, file.findings)
            if accepted is None:
                return False
            record_action(connection, "upload", principal, upload_id=load.id, records=accepted)
            return True

        loaded = self._database.write(work, repeatable=True)
        if loaded:
            with suppress(Unavailable):
                self._maintenance.merge_deferred()
                self._maintenance.compact()
        return loaded

    def fail(self, load: Load, reason: str, rejected: Rejected = None, findings: Iterable[Finding] = ()) -> None:
        """Ends the upload without a record, for a reason that its sender can understand. Does nothing when superseded.
        Raises ErasedMeanwhile as finish() does."""
        self._end(load, load_failed(reason), rejected, findings)

    def interrupt(self, load: Load, reason: str) -> None:
        """Gives the upload back, to be loaded again by the next delivery. Does nothing when superseded."""
        self._end(load, TASKS.interrupted(reason), None, ())

    def _end(self, load: Load, changes: str, rejected: Rejected, findings: Iterable[Finding]) -> None:
        def work(connection: Connection) -> None:
            if rejected:
                # The row first, as everybody takes them: who deletes the upload holds it and waits for others.
                connection.run(f"SELECT FROM upload WHERE {TASKS.current(load)} FOR UPDATE")
                rejected_rows.require_none_of_erased(connection, load.id)
            connection.run(f"DROP TABLE IF EXISTS {load.table}")
            if TASKS.end(connection, load, f"{changes}, {_set_rejected(rejected)}"):
                _add_findings(connection, load, findings)
                if not rejected:
                    rejected_rows.forget_rows(connection, load.id)

        self._database.write(work, repeatable=True)

    def lines_of_erased(self, load: Load) -> set[int]:
        """The lines of the load's rejected rows that are of customers who were erased since its object was put into
        the bucket."""
        return self._database.read(lambda connection: rejected_rows.lines_of_erased(connection, load.id))

    def forget_lines(self, load: Load, lines: Collection[int]) -> None:
        """Records that these lines are no longer among the load's rejected rows. Raises Superseded."""

        def work(connection: Connection) -> None:
            TASKS.renew(connection, load)
            rejected_rows.forget_lines(connection, load.id, lines)

        self._database.write(work, repeatable=True)


def _find_or_insert(
    connection: Connection, key: str, object_key: str, source: str | None, mode: str, key_emails: str
) -> int:
    """The id of the upload with that key: found by it, created for its object before, or new. One that was created for
    its object and then deleted is found too, so that its file is not loaded."""
    find = f"SELECT id FROM upload WHERE key = salted({text(key)})"
    [[upload_id]] = (
        connection.run(find)
        # Waits for another delivery or a deletion that holds the row; without waiting there would be a second upload.
        or connection.run(
            f"""SELECT id FROM upload
                WHERE object_key = {text(object_key)} AND status IN ('waiting', 'deleted') AND key IS NULL
                ORDER BY id LIMIT 1 FOR UPDATE"""
        )
        or connection.run(
            f"""INSERT INTO upload (key, origin, status, source, mode, object_key, key_emails)
                VALUES (salted({text(key)}), 's3', 'waiting', {text(source)}, {text(mode)}, {text(object_key)},
                    {key_emails})
                ON CONFLICT (key) DO NOTHING RETURNING id"""
        )
        or connection.run(find)
    )
    return int(upload_id)


def _add_findings(connection: Connection, load: Load, findings: Iterable[Finding]) -> None:
    errors, warnings = [], []
    for (field, reason, missing, warning), rows, line in findings:
        if warning:
            warnings.append(f"({load.id}, {text(warning)}, {text(field)}, {text(reason)}, {rows}, {line})")
        else:
            errors.append(f"({load.id}, {text(field)}, {text(reason)}, {missing}, {rows}, {line})")
    if errors:
        connection.run(
            f"""INSERT INTO upload_error (upload_id, field, reason, missing, rows, example_line)
                VALUES {", ".join(errors)}"""
        )
    if warnings:
        connection.run(
            f"""INSERT INTO upload_warning (upload_id, code, field, reason, rows, example_line)
                VALUES {", ".join(warnings)}"""
        )


def _set_rejected(rejected: Rejected) -> str:
    key, version = rejected or (None, None)
    return f"rejected_key = {text(key)}, rejected_version = {text(version)}"


def _finish(
    connection: Connection, load: Load, rejected: Rejected, file: Loaded, hashes: Hashes, max_removed: int
) -> int | None:
    """Returns how many rows are in effect; None if the file was not loaded."""
    connection.run(f"SELECT {LONG_WRITE_LOCK_SHARED}")
    TASKS.renew(connection, load)
    [[expected, source_bit]] = connection.run(
        f"""SELECT rows - rejected - {file.left_out}, (SELECT bit FROM source WHERE name = u.source)
            FROM upload u WHERE id = {load.id}"""
    )
    if file.guessed_source:
        source = text(file.guessed_source)
        connection.run(f"UPDATE upload SET source = {source}, source_guessed = true WHERE id = {load.id}")
    connection.run(f"ANALYZE {load.table}")
    effect = load_effects.write_rows(connection, load, expected, source_bit, hashes, max_removed)
    if effect is None:
        return None
    rejected_rows.require_none_of_erased(connection, load.id)
    connection.run(
        f"""UPDATE upload SET status = 'done', finished_at = clock_timestamp(), lease_until = NULL, sheet = NULL,
                accepted = {effect.accepted}, reason = {text(effect.remark)}, {_set_rejected(rejected)},
                {changes_as_columns(effect.customers)}, {changes_as_columns(effect.records)},
                {_set_content(load, file.sha256)}
            WHERE id = {load.id}"""
    )
    connection.run(f"DROP TABLE {load.table}")
    return effect.accepted


def _set_content(load: Load, sha256: str | None) -> str:
    if sha256 is None:
        return "content_digest = NULL"
    same_source = f"source IS NOT DISTINCT FROM (SELECT source FROM upload WHERE id = {load.id})"
    return f"content_digest = salted({text(sha256)}), same_content = ({same_content(sha256, same_source)})"
