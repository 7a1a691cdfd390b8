"""Erasures: cutting a customer's rows out of files of rejected rows, after their records are deleted.

An erasure has no id and no address in its row, only hashes of them (traces.Hashes), which find the rows of
rejected_row. A worker that a queue starts cuts the files. A file that was put into the bucket before an erasure and is
loaded after it must not keep rejected rows of that customer; see rejected_rows."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.store.connection import Database
from dedup.store.locks import ERASURE_LOCK_EXCLUSIVE
from dedup.store.rejected_rows import KEY_WITHOUT_NAME, forget_lines, forget_rows, rows_of
from dedup.store.sql import bigints, text
from dedup.store.task_table import SEEN, TaskTable, done
from dedup.store.uploads import UNDECIDED, uploads_of
from dedup.traces import words

_TASKS = TaskTable("erasure", attempts="attempt - retried")
OUTBOX = _TASKS.outbox("erasure")

FILES = 100
"""Files that are read about at a time."""

EXPIRING_ROWS = 100_000
"""Rows of rejected_row that are deleted at a time once their object has expired."""

_MAY_HIDE = f"""NOT (status = 'loading' AND lease_until >= now())
    AND NOT (status = 'waiting' AND key IS NULL AND created_at > now() - interval '1 day')
    AND status NOT IN ({UNDECIDED})"""
"""The condition that the object key of an upload may be replaced. An upload is found by it while it is loaded, while it
waits for its object, and when somebody decides about it."""


@dataclass(frozen=True)
class ErasureAttempt:
    """One attempt to cut a customer's rows out of the files of rejected rows. `customer` and `emails` are hashes."""

    id: int
    attempt: int
    customer: int
    emails: Sequence[int]
    lease: float

    @property
    def rows(self) -> str:
        """A query for the rows to be cut: upload_id and line, each once."""
        return rows_of(self.customer, self.emails)


@dataclass(frozen=True)
class RejectedFile:
    """Where the rejected rows of an upload are."""

    upload_id: int
    key: str
    version: str | None

    @property
    def unchanged(self) -> str:
        """The condition that they are still there, in a row of upload."""
        version = f"= {text(self.version)}" if self.version else "IS NULL"
        return f"id = {self.upload_id} AND rejected_key = {text(self.key)} AND rejected_version {version}"


@dataclass(frozen=True)
class Remaining:
    """What an erasure still has to do: the status of that task, and how many rows there are in how many files."""

    erasure_id: int
    status: str
    files: int
    rows: int
    reason: str | None = None


class Erasures:
    """The erasures of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, erasure_id: int, lease: float) -> ErasureAttempt | None:
        """Starts an attempt; None if the erasure has ended. Raises Busy while another attempt is at it."""
        claimed = self._database.write(
            lambda connection: _TASKS.claim(connection, erasure_id, lease, "attempt, customer, emails"),
            repeatable=True,
        )
        if not claimed:
            return None
        attempt, customer, emails = claimed
        return ErasureAttempt(erasure_id, attempt, customer, emails, lease)

    def renew(self, attempt: ErasureAttempt) -> None:
        """Renews the lease. Raises Superseded."""
        self._database.write(lambda connection: _TASKS.renew(connection, attempt), repeatable=True)

    def files_to_cut(self, attempt: ErasureAttempt) -> list[RejectedFile]:
        """Files that have rows of the customer, at most FILES; none if there are no more."""
        query = f"""WITH found AS MATERIALIZED (SELECT DISTINCT upload_id FROM ({attempt.rows}) AS r)
            SELECT id, rejected_key, rejected_version FROM found JOIN upload ON id = upload_id
            WHERE rejected_key IS NOT NULL ORDER BY id LIMIT {FILES}"""
        return [RejectedFile(*row) for row in self._database.read(lambda connection: connection.run(query))]

    def lines_to_cut(self, attempt: ErasureAttempt, file: RejectedFile) -> set[int]:
        """The lines of a file that are the customer's."""
        query = f"SELECT line FROM ({attempt.rows}) AS r WHERE upload_id = {file.upload_id}"
        return {line for [line] in self._database.read(lambda connection: connection.run(query))}

    def replace_file(
        self, attempt: ErasureAttempt, file: RejectedFile, lines: Collection[int], version: str | None, *, left: bool
    ) -> bool:
        """Records that these lines are cut: the file is now another version of its object, or (unless `left`) has no
        rows and no object; the version before is to be deleted. False if another erasure was faster: nothing is
        recorded then. Raises Superseded."""

        def work(connection: Connection) -> bool:
            key = text(file.key) if left else "NULL"
            changes = f"rejected_key = {key}, rejected_version = {text(version)}"
            if not connection.run(f"UPDATE upload SET {changes} WHERE {file.unchanged} RETURNING id"):
                return False
            _TASKS.renew(connection, attempt, f"rows = rows + {len(lines)}")
            forget_lines(connection, file.upload_id, lines)
            # Without versions the object itself was replaced.
            if file.version or not left:
                connection.run(
                    f"""INSERT INTO erasure_leftover (erasure_id, object_key, object_version)
                        VALUES ({attempt.id}, {text(file.key)}, {text(file.version)})"""
                )
            return True

        return self._database.write(work, repeatable=False)

    def forget_file(self, file: RejectedFile) -> None:
        """Records that the file is no longer in the bucket, so that it is not looked for again."""

        def work(connection: Connection) -> None:
            gone = "rejected_key = NULL, rejected_version = NULL"
            if connection.run(f"UPDATE upload SET {gone} WHERE {file.unchanged} RETURNING id"):
                forget_rows(connection, file.upload_id)

        self._database.write(work, repeatable=True)

    def leftovers(self, attempt: ErasureAttempt) -> list[tuple[str, str | None]]:
        """The key and the version of each object that is still to be deleted."""
        query = f"SELECT object_key, object_version FROM erasure_leftover WHERE erasure_id = {attempt.id}"
        return [(key, version) for key, version in self._database.read(lambda connection: connection.run(query))]

    def forget_leftover(self, attempt: ErasureAttempt, key: str, version: str | None) -> None:
        """Records that an object was deleted."""
        self._database.write(
            lambda connection: connection.run(
                f"""DELETE FROM erasure_leftover WHERE erasure_id = {attempt.id} AND object_key = {text(key)}
                    AND object_version IS NOT DISTINCT FROM {text(version)}"""
            ),
            repeatable=True,
        )

    def finish(self, attempt: ErasureAttempt) -> None:
        """Ends the erasure well. Does nothing when superseded."""
        self._end(attempt, done())

    def interrupt(self, attempt: ErasureAttempt, reason: str) -> None:
        """Gives the erasure back for another attempt; after the last one, it has failed."""
        self._end(attempt, _TASKS.interrupted(reason))

    def forget_expired(self, days: int) -> None:
        """Deletes what is known of the rejected rows of uploads that finished so many days ago, at most EXPIRING_ROWS:
        their objects have expired. Also deletes erasures of that age: files from before them have expired too."""

        def work(connection: Connection) -> None:
            long_ago = f"now() - interval '{days} days'"
            connection.run(
                f"""WITH gone AS (DELETE FROM erasure WHERE created_at < {long_ago} RETURNING id)
                    DELETE FROM erasure_leftover l USING gone WHERE l.erasure_id = gone.id"""
            )
            expired = [
                upload_id
                for [upload_id] in connection.run(
                    f"""SELECT id FROM upload WHERE rejected_key IS NOT NULL AND finished_at < {long_ago}
                        ORDER BY finished_at LIMIT 1000 FOR UPDATE SKIP LOCKED"""
                )
            ]
            if not expired:
                return
            connection.run(
                f"""DELETE FROM rejected_row WHERE ctid = ANY (ARRAY(
                        SELECT ctid FROM rejected_row WHERE upload_id = ANY ({bigints(expired)})
                        LIMIT {EXPIRING_ROWS}))"""
            )
            if connection.row_count < EXPIRING_ROWS:
                connection.run(
                    f"""UPDATE upload SET rejected_key = NULL, rejected_version = NULL
                        WHERE id = ANY ({bigints(expired)})"""
                )

        self._database.write(work, repeatable=True)

    def _end(self, attempt: ErasureAttempt, changes: str) -> None:
        self._database.write(lambda connection: _TASKS.end(connection, attempt, changes), repeatable=True)


# Parts of the transaction that deletes the customer's records


def is_known(connection: Connection, customer: int) -> bool:
    """Whether there are rejected rows with a customer id, or an erasure of it that has not ended. `customer` is the
    hash of the id."""
    [[known]] = connection.run(
        f"""SELECT EXISTS (SELECT FROM erasure WHERE customer = {customer} AND status <> 'done')
            OR EXISTS (SELECT FROM rejected_row r JOIN upload u ON u.id = r.upload_id
                WHERE r.customer = {customer} AND u.rejected_key IS NOT NULL)"""
    )
    return bool(known)


def begin(connection: Connection, customer: int, emails: Iterable[int], *, anew: bool) -> Remaining:
    """Adds an erasure with the hashes of the customer's id and addresses; returns what remains to be done. If
    not `anew`, which is when only an earlier erasure knows the customer, that erasure continues instead."""
    connection.run(f"SELECT {ERASURE_LOCK_EXCLUSIVE}")
    before = connection.run(
        f"""SELECT id, emails, {_TASKS.status}, reason FROM erasure
            WHERE customer = {customer} AND status <> 'done' ORDER BY id FOR UPDATE"""
    )
    earlier = [erasure_id for erasure_id, *_ in before]
    known = sorted({*emails, *(email for _, theirs, *_ in before for email in theirs)})
    [[rows, files, leftovers]] = connection.run(
        f"""WITH found AS MATERIALIZED (
                SELECT upload_id, count(*) AS rows FROM ({rows_of(customer, known)}) AS r GROUP BY upload_id
            )
            SELECT coalesce(sum(found.rows), 0)::bigint, count(*),
                (SELECT count(*) FROM erasure_leftover WHERE erasure_id = ANY ({bigints(earlier)}))
            FROM found JOIN upload ON id = upload_id WHERE rejected_key IS NOT NULL"""
    )
    left = bool(rows or leftovers)
    if before and not anew:
        [*_, [erasure_id, _, status, reason]] = before
        if not left:
            status, reason = "done", None
            connection.run(f"UPDATE erasure SET {done()} WHERE id = {erasure_id}")
        elif status == "failed":
            status = "waiting"
            connection.run(
                f"""UPDATE erasure SET status = 'waiting', retried = attempt, lease_until = NULL, {SEEN}
                    WHERE id = {erasure_id}"""
            )
        return Remaining(erasure_id, status, files, rows, reason)
    # A worker at an earlier one finds that its task is gone; this one continues.
    status = "waiting" if left else "done"
    [[erasure_id]] = connection.run(
        f"""INSERT INTO erasure (customer, emails, status, finished_at)
            VALUES ({customer}, {bigints(known)}, '{status}', {"NULL" if left else "clock_timestamp()"}) RETURNING id"""
    )
    connection.run(f"UPDATE erasure_leftover SET erasure_id = {erasure_id} WHERE erasure_id = ANY ({bigints(earlier)})")
    connection.run(f"DELETE FROM erasure WHERE id = ANY ({bigints(earlier)})")
    return Remaining(erasure_id, status, files, rows)


def hide_keys(
    connection: Connection, customer_id: CustomerId, customer: int, emails: Sequence[int], names: Iterable[str]
) -> None:
    """Removes object keys that name the customer: those that contain one of the addresses, and those of uploads with
    records or rejected rows of the customer that contain all words of one of the names. The caller must not hold
    MERGE_LOCK_EXCLUSIVE: others wait for it while they hold the row of an upload."""
    # Materialized and distinct: otherwise PostgreSQL, before it has statistics, reads all uploads.
    found = connection.run(
        f"""WITH about AS MATERIALIZED (SELECT DISTINCT upload_id FROM (
                SELECT id AS upload_id FROM upload WHERE key_emails && {bigints(emails)}
                UNION ALL {uploads_of(customer_id)}
                UNION ALL SELECT upload_id FROM ({rows_of(customer, emails)}) AS r) AS all_of_them)
            SELECT id, object_key, key_emails && {bigints(emails)} FROM about JOIN upload ON id = upload_id
            WHERE object_key IS NOT NULL AND {_MAY_HIDE}"""
    )
    of_names = [found_words for name in names if (found_words := words(name))]
    named = [
        upload_id
        for upload_id, key, has in found
        if has or any(in_name <= words(_own_part(key)) for in_name in of_names)
    ]
    if named:
        # The reason of a failed upload names the folder if it is not a source.
        connection.run(
            f"""UPDATE upload SET object_key = {KEY_WITHOUT_NAME}, key_emails = NULL,
                    reason = CASE WHEN source IS NULL AND status = 'failed' THEN NULL ELSE reason END
                WHERE id = ANY ({bigints(named)}) AND {_MAY_HIDE}"""
        )


def _own_part(key: str) -> str:
    """A key without the part that all keys have: incoming/ and the source."""
    return key.partition("/")[2].partition("/")[2] or key.partition("/")[2]
