"""What happened to every upload, and how the rows of a file become records.

A file's rows wait in a table of their own, batch after batch, and become records at the end in one transaction. Whoever
loads holds a lease, which each batch renews; when it runs out, another attempt may start over. An attempt that was
overtaken finds so in the same statement with which it would write: it can write nothing more.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pg8000.native import Connection

from dedup.errors import Busy, Conflict, Superseded, Unavailable
from dedup.records import KNOWN
from dedup.store import decisions, entities, erasures
from dedup.store.base import (
    BY_REGION,
    MERGE_LOCK,
    TIMES,
    UNKNOWN,
    WORK_LOCK,
    Base,
    bigints,
    copy_text,
    count_changes,
    note,
    text,
)
from dedup.store.removal import take_out
from dedup.store.task_table import CUT_OFF, SEEN, TRIES, Outbox, failed
from dedup.traces import Trace

Row = tuple[Any, ...]
"""A record as a row: customer_id, name, email, source, and what is known of it beside these."""

Faults = Mapping[tuple[str, bool], int]
"""In how many rejected rows a field was refused, by its name and whether it was missing."""

NO_ERRORS: Faults = MappingProxyType({})

Rejects = tuple[str, str | None] | None
"""Where the rejected rows are: the object's key and version."""

_OPEN = "status IN ('waiting', 'loading', 'deleting')"

LOADS = Outbox(
    kind="upload",
    table="upload",
    open=_OPEN,
    # Without a key it waits for its object and not for a message: S3 sends that.
    waits="key IS NOT NULL AND (status = 'waiting' OR status = 'loading' AND lease_until < now())",
    # One message gives three. An operator's may give more of them: what the queue buried can be sent again.
    may=f"attempt < {2 * TRIES}",
    over="key IS NULL AND status = 'waiting' AND created_at < now() - interval '1 day'",
    end=f"""status = 'failed', lease_until = NULL, finished_at = clock_timestamp(), reason = CASE
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

_ABANDONED = "1 day"
"""How long after its lease the staging table of an upload is kept for an attempt that may yet come."""


class Outdated(Exception):
    """Newer snapshots of all sources in the file are in place. The text names their uploads."""


class RowsLost(Exception):
    """Rows that waited are gone, for PostgreSQL crashed and came back: the file has to be read anew."""


@dataclass(frozen=True)
class Load:
    """One attempt to load one upload."""

    upload_id: int
    attempt: int
    lease: float
    """Seconds that an attempt may be silent before another may start over."""

    @property
    def table(self) -> str:
        """Where its rows wait."""
        return f"staging.upload_{self.upload_id}_{self.attempt}"

    @property
    def current(self) -> str:
        """The condition in SQL that this attempt still is the one that loads."""
        return f"id = {self.upload_id} AND attempt = {self.attempt} AND status = 'loading'"


@dataclass(frozen=True)
class CustomerChanges:
    """Customers of an upload's sources: new with it, gone with it (of a snapshot), and there before."""

    added: int
    removed: int
    unchanged: int


@dataclass(frozen=True)
class Account:
    """What is known of an upload. Times are ISO 8601 in UTC."""

    id: int
    status: str
    origin: str
    mode: str
    source: str | None
    object_key: str | None
    rows: int
    accepted: int
    rejected: int
    customers: CustomerChanges | None
    reason: str | None
    rejected_key: str | None
    rejected_version: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    announced: bool


class Uploads(Base):
    """The uploads of one database."""

    def expect(self, object_key: str, source: str | None, mode: str, principal: str = UNKNOWN) -> int:
        """Notes an upload that waits for its object to arrive; its id. `object_key` has `{}` where the id goes;
        `principal` is who asked for it."""
        hashes = self._hashes()

        def work(connection: Connection) -> int:
            [[upload_id]] = connection.run(
                f"""INSERT INTO upload (origin, status, source, mode)
                    VALUES ('s3', 'waiting', {text(source)}, {text(mode)}) RETURNING id"""
            )
            key = object_key.format(upload_id)
            connection.run(
                f"""UPDATE upload SET object_key = {text(key)}, key_emails = {erasures.key_emails(key, hashes)}
                    WHERE id = {upload_id}"""
            )
            note(connection, "expect upload", principal, upload_id=upload_id)
            return int(upload_id)

        return self._database.write(work, repeatable=False)

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
    ) -> Load | None:
        """Begins to load the object version that `key` names, and makes the table where its rows will wait; None when
        it was loaded, refused or deleted before. `version` and `sender` are what S3 calls it, and who put it there: see
        lost_object(). Raises Busy while another attempt is at it."""
        key_emails = erasures.key_emails(object_key, self._hashes())

        def work(connection: Connection) -> Load | None:
            _sweep(connection)
            upload_id, attempt = _find_or_insert(connection, key, object_key, source, mode, key_emails)
            rows = connection.run(
                f"""UPDATE upload SET status = 'loading', attempt = attempt + 1, rows = 0, rejected = 0, reason = NULL,
                        started_at = now(), lease_until = now() + interval '{lease} s', key = salted({text(key)}),
                        object_at = {text(object_at.isoformat())}::timestamptz, object_version = {text(version)},
                        sender = {text(sender)}, {SEEN}
                    WHERE id = {upload_id} AND attempt = {attempt}
                        AND (status = 'waiting' OR status = 'loading' AND lease_until < now())
                    RETURNING attempt"""
            )
            if not rows:
                [[status]] = connection.run(f"SELECT status FROM upload WHERE id = {upload_id}")
                if status in ("loading", "waiting"):
                    raise Busy
                return None
            load = Load(upload_id, rows[0][0], lease)
            _drop_staging(connection, upload_id)
            erasures.forget_rows(connection, upload_id)
            connection.run(
                f"""CREATE UNLOGGED TABLE {load.table} (
                    customer_id bigint NOT NULL, name text NOT NULL, email text NOT NULL, source smallint NOT NULL,
                    {", ".join(f"{field} text" for field in KNOWN)}
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
    ) -> None:
        """Adds rows to those that wait, notes how many were accepted and rejected so far in all, and renews the lease.
        `known`: the fields of records.KNOWN that the rows end with; `traces`: whom the rejected rows are about that
        came with them. Raises Superseded."""
        bits, hashes = self._bits_of({row[3] for row in rows}), self._hashes()
        columns = ", ".join(("customer_id", "name", "email", "source", *known))
        if known:
            lines = [
                "\t".join(
                    [str(row[0]), copy_text(row[1]), copy_text(row[2]), str(bits[row[3]]), *map(copy_text, row[4:])]
                )
                for row in rows
            ]
            payload = "\n".join([*lines, ""]).encode()
        else:
            payload = "".join(
                f"{customer_id}\t{copy_text(name)}\t{copy_text(email)}\t{bits[source]}\n"
                for customer_id, name, email, source in rows
            ).encode()

        def work(connection: Connection) -> None:
            _require(
                connection.run(
                    f"""UPDATE upload SET rows = {accepted + rejected}, rejected = {rejected},
                            lease_until = now() + interval '{load.lease} s'
                        WHERE {load.current} RETURNING id"""
                )
            )
            if payload:
                connection.run(f"COPY {load.table} ({columns}) FROM STDIN", stream=[payload])
            erasures.note_rows(connection, load.upload_id, traces, hashes)

        # Not repeatable: a commit that was lost may have kept the rows. The next attempt starts from an empty table.
        self._database.write(work, repeatable=False)

    def finish(
        self, load: Load, rejected: Rejects = None, principal: str = UNKNOWN, faults: Faults = NO_ERRORS
    ) -> None:
        """Makes records of the rows that wait and counts them in; a snapshot takes the place of its source's records.
        Rows of a source that has a newer snapshot are left out, for its system knows better by now. Readers see all of
        it or nothing. `principal` is who put the object there; `faults` are those of its rejected rows.

        Raises Superseded, RowsLost, Outdated where no row would be left, and ErasedMeanwhile where `rejected` has rows
        of customers who were erased since the object was put there."""

        def work(connection: Connection) -> None:
            accepted = _finish(connection, load, rejected)
            note(connection, "upload", principal, upload_id=load.upload_id, records=accepted)
            _note_faults(connection, load, faults)

        self._database.write(work, repeatable=True)
        with suppress(Unavailable):
            self.drain()
            self.compact()

    def fail(self, load: Load, reason: str, rejected: Rejects = None, faults: Faults = NO_ERRORS) -> None:
        """Ends the upload without a record, for a reason that its sender can understand. Nothing when superseded.
        Raises ErasedMeanwhile as finish does."""
        self._end(load, "failed", reason, rejected, faults)

    def interrupt(self, load: Load, reason: str) -> None:
        """Gives the upload back, to be loaded again by the next delivery. Nothing when superseded."""
        self._end(load, "waiting", reason, None, NO_ERRORS)

    def _end(self, load: Load, status: str, reason: str, rejected: Rejects, faults: Faults) -> None:
        def work(connection: Connection) -> None:
            if rejected:
                # The row first, as everybody takes them: who deletes the upload holds it and waits for others.
                connection.run(f"SELECT FROM upload WHERE {load.current} FOR UPDATE")
                erasures.require_none_of_erased(connection, load.upload_id)
            connection.run(f"DROP TABLE IF EXISTS {load.table}")
            ended = connection.run(
                f"""UPDATE upload SET status = {text(status)}, reason = {text(reason)}, lease_until = NULL,
                        {_set_rejected(rejected)}, {SEEN},
                        finished_at = CASE WHEN {text(status)} = 'failed' THEN clock_timestamp() END
                    WHERE {load.current} RETURNING id"""
            )
            if ended:
                _note_faults(connection, load, faults)
            if ended and not rejected:
                erasures.forget_rows(connection, load.upload_id)

        self._database.write(work, repeatable=True)

    def account(self, upload_id: int) -> Account | None:
        """What is known of one upload; None when there is none of that id."""
        found = self._accounts(f"u.id = {upload_id}", 1)
        return found[0] if found else None

    def account_of(self, key: str) -> Account | None:
        """What is known of the upload with that key."""
        found = self._accounts(f"u.key = salted({text(key)})", 1)
        return found[0] if found else None

    def accounts(self, before: int | None, limit: int) -> list[Account]:
        """What is known of the uploads, the newest first, from below id `before`; `limit` of them at most."""
        return self._accounts("true" if before is None else f"u.id < {before}", limit)

    def _accounts(self, condition: str, limit: int | None) -> list[Account]:
        query = f"""
            SELECT id, CASE
                    WHEN status = 'done' AND finished_at < (SELECT max(cleared_at) FROM clearing) THEN 'deleted'
                    WHEN status = 'loading' AND lease_until < now() THEN 'waiting'
                    ELSE status END,
                origin, mode, source, object_key, rows, accepted, rejected, customers_added, customers_removed,
                customers_unchanged, reason, rejected_key, rejected_version, {TIMES}, announced_at IS NOT NULL
            FROM upload u WHERE {condition} ORDER BY id DESC LIMIT {limit or "ALL"}"""
        rows = self._database.read(lambda connection: connection.run(query))
        return [_account(row) for row in rows]

    def sweep(self) -> None:
        """Drops tables that nobody needs any more, those of loads that broke off too."""
        super().sweep()
        self._database.write(_sweep, repeatable=True)

    def announced(self, upload_id: int) -> None:
        """Notes that others were told how the upload ended."""
        self._database.write(
            lambda connection: connection.run(f"UPDATE upload SET announced_at = now() WHERE id = {upload_id}"),
            repeatable=True,
        )

    def lines_of_erased(self, load: Load) -> set[int]:
        """The lines of the load's rejected rows that are of customers who were erased since its object was put into
        the bucket."""
        return self._database.read(lambda connection: erasures.lines_of_erased(connection, load.upload_id))

    def forget_lines(self, load: Load, lines: Collection[int]) -> None:
        """Notes that these lines are not among the load's rejected rows any more. Raises Superseded."""

        def work(connection: Connection) -> None:
            _require(connection.run(f"SELECT id FROM upload WHERE {load.current} FOR UPDATE"))
            erasures.forget_lines(connection, load.upload_id, lines)

        self._database.write(work, repeatable=True)

    def delete_later(self, upload_id: int, principal: str = UNKNOWN) -> None:
        """Notes that `principal` wants the upload's records deleted. Raises Conflict while it is being loaded."""

        def work(connection: Connection) -> None:
            _hold(connection, upload_id)
            connection.run(
                f"""UPDATE upload SET status = 'deleting', lease_until = NULL, deleted_by = {text(principal)}, {SEEN}
                    WHERE id = {upload_id}"""
            )

        self._database.write(work, repeatable=True)

    def delete_noted(self, upload_id: int) -> int | None:
        """Does what delete_later() noted; how many records there were, and None where that was done before, or given
        up. Raises Busy while another attempt is at it."""
        try:
            return self._delete_upload(upload_id, None)
        except Conflict as error:
            raise Busy from error

    def lost_object(self, upload_id: int) -> tuple[str, str | None, str | None] | None:
        """What an upload's event said that has to be loaded anew: the object's key, its version, and who put it there;
        None where nobody waits for it."""
        rows = self._database.read(
            lambda connection: connection.run(
                f"SELECT object_key, object_version, sender FROM upload WHERE id = {upload_id} AND {LOADS.waits}"
            )
        )
        return tuple(rows[0]) if rows else None

    def object_gone(self, upload_id: int, reason: str) -> None:
        """Ends an upload that waits for an object that is no more."""
        self._database.write(
            lambda connection: connection.run(
                f"UPDATE upload SET {failed(reason)} WHERE id = {upload_id} AND {LOADS.waits}"
            ),
            repeatable=True,
        )

    def abandon(self, reason: str) -> None:
        """Ends, for that reason, all uploads that wait for an object: where the bucket was lost, none will come. The
        rejected rows were in it too."""

        def work(connection: Connection) -> None:
            connection.run(
                f"UPDATE upload SET {failed(reason)} WHERE origin = 's3' AND status IN ('waiting', 'loading')"
            )
            erasures.forget_all(connection)

        self._database.write(work, repeatable=True)

    def delete_upload(self, upload_id: int, principal: str = UNKNOWN) -> int | None:
        """Takes the upload's records out again, from membership and counts too; how many there were, and None when
        there is no such upload. `principal` is who asked for it. Raises Conflict while it is being loaded."""
        return self._delete_upload(upload_id, principal)

    def _delete_upload(self, upload_id: int, principal: str | None) -> int | None:
        """Without a principal, only what was noted before, and for whoever asked for that."""

        def work(connection: Connection) -> int | None:
            connection.run(f"SELECT {WORK_LOCK}")
            if not connection.run(f"SELECT FROM upload WHERE id = {upload_id}"):
                return None
            _hold(connection, upload_id)
            [[status, noted_by]] = connection.run(f"SELECT status, deleted_by FROM upload WHERE id = {upload_id}")
            if principal is None and status != "deleting":
                return None
            connection.run(f"UPDATE upload SET status = 'deleted', lease_until = NULL WHERE id = {upload_id}")
            connection.run(f"SELECT {MERGE_LOCK}")
            removed = take_out(connection, f"upload_id = {upload_id}")
            who = principal or noted_by or UNKNOWN
            note(connection, "delete upload", who, upload_id=upload_id, records=removed)
            return removed

        removed = self._database.write(work, repeatable=True)
        with suppress(Unavailable):
            self.drain(batches=1)
        return removed


def _account(row: list[Any]) -> Account:
    counts = row[9:12]
    row[9:12] = [None if None in counts else CustomerChanges(*counts)]
    return Account(*row)


def _find_or_insert(
    connection: Connection, key: str, object_key: str, source: str | None, mode: str, key_emails: str
) -> tuple[int, int]:
    """The id and the attempts so far of the upload with that key: known already, announced by expect(), or new. One
    that was announced and then deleted is found too, so that its file is not loaded."""
    find = f"SELECT id, attempt FROM upload WHERE key = salted({text(key)})"
    rows = (
        connection.run(find)
        # Waits for another delivery or a deletion that holds the row: to pass it by would make a second upload.
        or connection.run(
            f"""SELECT id, attempt FROM upload
                WHERE object_key = {text(object_key)} AND status IN ('waiting', 'deleted') AND key IS NULL
                ORDER BY id LIMIT 1 FOR UPDATE"""
        )
        or connection.run(
            f"""INSERT INTO upload (key, origin, status, source, mode, object_key, key_emails)
                VALUES (salted({text(key)}), 's3', 'waiting', {text(source)}, {text(mode)}, {text(object_key)},
                    {key_emails})
                ON CONFLICT (key) DO NOTHING RETURNING id, attempt"""
        )
        or connection.run(find)
    )
    [[upload_id, attempt]] = rows
    return upload_id, attempt


def _hold(connection: Connection, upload_id: int) -> None:
    """Locks the upload's row. Raises Conflict where a load holds it, as it does until its end."""
    free = connection.run(
        f"""SELECT FROM upload WHERE id = {upload_id} AND NOT (status = 'loading' AND lease_until >= now())
            FOR UPDATE SKIP LOCKED"""
    )
    if not free:
        raise Conflict("The upload is being loaded or deleted")


def _note_faults(connection: Connection, load: Load, faults: Faults) -> None:
    counted = ", ".join(
        f"({load.upload_id}, {text(field)}, {faults.get((field, True), 0)}, {faults.get((field, False), 0)})"
        for field in sorted({field for field, _ in faults})
    )
    if counted:
        connection.run(f"INSERT INTO upload_error VALUES {counted}")


def _set_rejected(rejected: Rejects) -> str:
    key, version = rejected or (None, None)
    return f"rejected_key = {text(key)}, rejected_version = {text(version)}"


def _finish(connection: Connection, load: Load, rejected: Rejects) -> int:
    """How many records were made."""
    [[source_bit, replaces]] = connection.run(
        f"""SELECT (SELECT bit FROM source WHERE name = u.source), mode = 'replace'
            FROM upload u WHERE id = {load.upload_id}"""
    )
    connection.run(f"SELECT {WORK_LOCK}")
    [[expected]] = _require(connection.run(f"SELECT rows - rejected FROM upload WHERE {load.current} FOR UPDATE"))
    connection.run(f"ANALYZE {load.table}")
    # In id order, which fills the indexes from left to right.
    connection.run(
        f"""INSERT INTO record (customer_id, name, email, source, {", ".join(KNOWN)}, upload_id)
            SELECT customer_id, name, email, source, {", ".join(KNOWN)}, {load.upload_id} FROM {load.table}
            ORDER BY customer_id"""
    )
    # The table is unlogged: a server that crashed and came back has emptied it.
    if connection.row_count != expected:
        raise RowsLost
    # From here to the commit, what the API brings is pending. Other files wait.
    connection.run(f"SELECT {MERGE_LOCK}")
    left_out, remark = _leave_out_overtaken(connection, load, expected)
    # Before others go: what is in their place keeps their entities.
    entities.attach(connection, load.upload_id, replaces=replaces)
    removed = 0
    if replaces:
        removed = _remove_others(connection, load, source_bit)
    added, customers = _count_in(connection, load)
    erasures.require_none_of_erased(connection, load.upload_id)
    connection.run(
        f"""UPDATE upload SET status = 'done', finished_at = clock_timestamp(), lease_until = NULL,
                accepted = {expected - left_out}, reason = {text(remark)}, {_set_rejected(rejected)},
                customers_added = {added}, customers_removed = {removed}, customers_unchanged = {customers - added}
            WHERE id = {load.upload_id}"""
    )
    connection.run(f"DROP TABLE {load.table}")
    return int(expected) - left_out


def _count_in(connection: Connection, load: Load) -> tuple[int, int]:
    """Adds the customers of the rows that wait to membership, and counts them and their records; how many customers
    are new, and how many there are. Alone with membership: no customer can be inserted meanwhile, and a plain INSERT
    takes half of the time of one that expects it."""
    [[added, customers]] = connection.run(
        f"""WITH incoming AS MATERIALIZED (
            SELECT i.customer_id, i.sources | coalesce(m.sources, 0) AS sources, m.sources AS previous,
                i.sources & ~(coalesce(m.sources, 0) | coalesce(p.sources, 0)) <> 0 AS is_new
            FROM (
                SELECT customer_id, bit_or(1::bigint << source) AS sources FROM {load.table} GROUP BY customer_id
            ) AS i
            LEFT JOIN customer_membership AS m USING (customer_id)
            LEFT JOIN (
                SELECT customer_id, bit_or(sources) AS sources FROM deferred_membership GROUP BY customer_id
            ) AS p USING (customer_id)
        ), changed AS (
            SELECT customer_id, sources, coalesce(previous, 0) AS previous FROM incoming
            WHERE sources IS DISTINCT FROM previous
        ), inserted AS (
            INSERT INTO customer_membership (customer_id, sources)
            SELECT customer_id, sources FROM changed WHERE previous = 0 ORDER BY customer_id
        ), updated AS (
            UPDATE customer_membership AS m SET sources = c.sources, previous = c.previous
            FROM changed AS c WHERE m.customer_id = c.customer_id AND c.previous <> 0
        ), {count_changes(f"SELECT 1::bigint << source, 0, count(*) FROM {load.table} GROUP BY source")}
        SELECT count(*) FILTER (WHERE is_new), count(*) FROM incoming"""
    )
    return added, customers


def _require(rows: list[list[Any]]) -> list[list[Any]]:
    if not rows:
        raise Superseded
    return rows


def _leave_out_overtaken(connection: Connection, load: Load, records: int) -> tuple[int, str | None]:
    """Takes the records of sources that have a newer snapshot out of those of the upload, which are so many; how many
    these were, and why. Raises Outdated where they were all."""
    newer = connection.run(
        f"""SELECT s.bit, s.name, max(n.id)
            FROM upload u JOIN upload n ON n.object_at > u.object_at JOIN source s ON s.name = n.source
            WHERE u.id = {load.upload_id} AND n.mode = 'replace' AND n.status = 'done'
                AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > n.finished_at)
            GROUP BY s.bit, s.name ORDER BY s.name"""
    )
    left_out, reasons = 0, []
    for bit, name, upload_id in newer:
        connection.run(f"DELETE FROM {load.table} WHERE source = {bit}")
        if connection.row_count:
            left_out += connection.row_count
            reasons.append(f"A newer snapshot of {name} is in place: upload {upload_id}")
            connection.run(f"DELETE FROM record WHERE upload_id = {load.upload_id} AND source = {bit}")
    remark = ". ".join(reasons)
    if 0 < left_out == records:
        raise Outdated(remark)
    return left_out, f"{left_out} rows were left out. {remark}" if left_out else None


def _remove_others(connection: Connection, load: Load, source_bit: int) -> int:
    """Takes out what other uploads brought of the source, but for files that are newer; how many customers the source
    has no more. One statement, as in take_out()."""
    bit = f"(1::bigint << {source_bit})"
    newer = connection.run(
        f"""SELECT n.id FROM upload u JOIN upload n ON n.object_at > u.object_at
            WHERE u.id = {load.upload_id} AND n.status = 'done'
                AND EXISTS (SELECT FROM record r WHERE r.upload_id = n.id AND r.source = {source_bit})"""
    )
    stay = bigints([load.upload_id, *(upload for [upload] in newer)])
    kept = f"SELECT FROM {load.table} AS s WHERE s.customer_id"
    if newer:
        kept = f"SELECT FROM record AS s WHERE s.source = {source_bit} AND s.upload_id = ANY ({stay}) AND s.customer_id"
    leaving = f"source = {source_bit} AND upload_id <> ALL ({stay})"
    entities.detach(connection, leaving)
    moved = decisions.follow(connection, leaving)
    [[went]] = connection.run(
        f"""WITH gone AS (
            DELETE FROM record WHERE {leaving} RETURNING 1
        ), changed AS (
            UPDATE customer_membership AS m SET previous = m.sources, sources = m.sources & ~{bit}
            FROM (SELECT sources FROM region_change WHERE sources & {bit} <> 0 GROUP BY {BY_REGION}) AS r
            WHERE m.sources = r.sources AND NOT EXISTS ({kept} = m.customer_id)
            RETURNING m.customer_id, m.sources, m.previous
        ), masked AS (
            UPDATE deferred_membership AS p SET sources = p.sources & ~{bit}
            WHERE p.sources & {bit} <> 0 AND NOT EXISTS ({kept} = p.customer_id)
            RETURNING customer_id
        ), {count_changes(f"SELECT {bit}, 0, -count(*) FROM gone")}
        SELECT count(*) FROM (SELECT customer_id FROM changed UNION SELECT customer_id FROM masked) AS lost"""
    )
    connection.run("DELETE FROM customer_membership WHERE sources = 0")
    decisions.hold(connection, moved)
    return int(went)


def _sweep(connection: Connection) -> None:
    """Drops the staging tables of attempts that nobody will go on with."""
    tables = connection.run(
        f"""SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r' AND NOT EXISTS (
                SELECT FROM upload WHERE id = split_part(relname, '_', 2)::bigint AND status = 'loading'
                    AND lease_until > now() - interval '{_ABANDONED}')"""
    )
    for [table] in tables:
        connection.run(f"DROP TABLE IF EXISTS staging.{table}")
        erasures.forget_broken_off(connection, int(table.split("_")[1]))


def _drop_staging(connection: Connection, upload_id: int) -> None:
    tables = connection.run(
        f"""SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r'
            AND split_part(relname, '_', 2) = '{upload_id}'"""
    )
    for [table] in tables:
        connection.run(f"DROP TABLE IF EXISTS staging.{table}")
