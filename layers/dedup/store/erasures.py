"""What an erasure leaves to be done, and which rows of files that are loaded it forbids.

An erasure has a row without an id or an address in it: hashes of them (traces.Hashes), by which rows of rejected_row
are found. Files are cut later, by a function that a queue starts. A file that was put into the bucket before an
erasure, and is loaded after it, ends without rejected rows of that customer."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.errors import Superseded
from dedup.store.base import Base, bigints, text
from dedup.store.task_table import SEEN, TaskTable, done
from dedup.traces import Hashes, Trace, addresses_in_key, words

_TASKS = TaskTable("erasure", attempts="attempt - retried")
OUTBOX = _TASKS.outbox("erasure")

_LOCK = 7236840
"""Alone with it: an erasure that begins. Shared by uploads that end, so that one of the two sees the other. It is taken
after the row of an upload and MERGE_LOCK, and before rows of erasure."""

FILES = 100
"""Files that are read about at a time."""

EXPIRING_ROWS = 100_000
"""Rows of rejected_row that are deleted at a time, once their object is gone."""

_MAY_HIDE = """NOT (status = 'loading' AND lease_until >= now())
    AND NOT (status = 'waiting' AND key IS NULL AND created_at > now() - interval '1 day')"""
"""The condition in SQL that an upload is not known by its object's key any more: one that expects its object is, while
that may come."""

_KEY_WITHOUT_NAME = "'incoming/' || coalesce(source || '/', '') || 'erased'"


class ErasedMeanwhile(Exception):
    """The rejected rows of an upload have some of a customer who was erased: they are to be cut out first."""


@dataclass(frozen=True)
class Cutting:
    """One attempt to cut a customer's rows out of the files of rejected rows."""

    erasure_id: int
    attempt: int
    customer: int
    emails: Sequence[int]
    lease: float

    @property
    def current(self) -> str:
        """The condition in SQL that this attempt still is the one that cuts."""
        return f"id = {self.erasure_id} AND attempt = {self.attempt} AND status = 'running'"

    @property
    def rows(self) -> str:
        """A query for the rows that are to be cut: upload_id and line, each once."""
        return _rows_of(self.customer, self.emails)


@dataclass(frozen=True)
class RejectedFile:
    """Where the rejected rows of an upload are."""

    upload_id: int
    key: str
    version: str | None

    @property
    def unchanged(self) -> str:
        """The condition in SQL that they are there still."""
        version = f"= {text(self.version)}" if self.version else "IS NULL"
        return f"id = {self.upload_id} AND rejected_key = {text(self.key)} AND rejected_version {version}"


@dataclass(frozen=True)
class Remaining:
    """What an erasure still has to do: the status of that work, and in how many files there are how many rows."""

    erasure_id: int
    status: str
    files: int
    rows: int
    reason: str | None = None


class Erasures(Base):
    """The erasures of one database."""

    def claim_erasure(self, erasure_id: int, lease: float) -> Cutting | None:
        """Begins to cut; None where that was done before. Raises Busy while another attempt is at it."""
        claimed = self._database.write(
            lambda connection: _TASKS.claim(connection, erasure_id, lease, "attempt, customer, emails"),
            repeatable=False,
        )
        if not claimed:
            return None
        attempt, customer, emails = claimed
        return Cutting(erasure_id, attempt, customer, emails, lease)

    def renew_erasure(self, cutting: Cutting) -> None:
        """Renews the lease. Raises Superseded."""
        self._database.write(lambda connection: _renew(connection, cutting, 0), repeatable=True)

    def files_to_cut(self, cutting: Cutting) -> list[RejectedFile]:
        """Some of the files that have rows of the customer, FILES at most; none when there are no more."""
        query = f"""WITH found AS MATERIALIZED (SELECT DISTINCT upload_id FROM ({cutting.rows}) AS r)
            SELECT id, rejected_key, rejected_version FROM found JOIN upload ON id = upload_id
            WHERE rejected_key IS NOT NULL ORDER BY id LIMIT {FILES}"""
        return [RejectedFile(*row) for row in self._database.read(lambda connection: connection.run(query))]

    def lines_to_cut(self, cutting: Cutting, file: RejectedFile) -> set[int]:
        """The lines of a file that are the customer's."""
        query = f"SELECT line FROM ({cutting.rows}) AS r WHERE upload_id = {file.upload_id}"
        return {line for [line] in self._database.read(lambda connection: connection.run(query))}

    def replace_rejected(
        self, cutting: Cutting, file: RejectedFile, lines: Collection[int], version: str | None, *, left: bool
    ) -> bool:
        """Notes that the file is without these lines, in another version of its object now, or (unless `left`) in none;
        and that the version before is to be deleted. False where another erasure was faster: nothing is noted then.
        Raises Superseded."""

        def work(connection: Connection) -> bool:
            key = text(file.key) if left else "NULL"
            changes = f"rejected_key = {key}, rejected_version = {text(version)}"
            if not connection.run(f"UPDATE upload SET {changes} WHERE {file.unchanged} RETURNING id"):
                return False
            _renew(connection, cutting, len(lines))
            forget_lines(connection, file.upload_id, lines)
            # Without versions the object itself was replaced.
            if file.version or not left:
                connection.run(
                    f"""INSERT INTO erasure_leftover
                        VALUES ({cutting.erasure_id}, {text(file.key)}, {text(file.version)})"""
                )
            return True

        return self._database.write(work, repeatable=False)

    def forget_rejected(self, file: RejectedFile) -> None:
        """Notes that the file is not in the bucket any more, so that nobody asks for it again."""

        def work(connection: Connection) -> None:
            gone = "rejected_key = NULL, rejected_version = NULL"
            if connection.run(f"UPDATE upload SET {gone} WHERE {file.unchanged} RETURNING id"):
                forget_rows(connection, file.upload_id)

        self._database.write(work, repeatable=True)

    def leftovers(self, cutting: Cutting) -> list[tuple[str, str | None]]:
        """The key and the version of each object that is still to be deleted."""
        query = f"SELECT object_key, object_version FROM erasure_leftover WHERE erasure_id = {cutting.erasure_id}"
        return [(key, version) for key, version in self._database.read(lambda connection: connection.run(query))]

    def forget_leftover(self, cutting: Cutting, key: str, version: str | None) -> None:
        """Notes that an object was deleted."""
        self._database.write(
            lambda connection: connection.run(
                f"""DELETE FROM erasure_leftover WHERE erasure_id = {cutting.erasure_id} AND object_key = {text(key)}
                    AND object_version IS NOT DISTINCT FROM {text(version)}"""
            ),
            repeatable=True,
        )

    def finish_erasure(self, cutting: Cutting) -> None:
        """Ends the work well. Nothing when superseded."""
        self._end_erasure(cutting, done("reason = NULL"))

    def interrupt_erasure(self, cutting: Cutting, reason: str) -> None:
        """Gives the work back, to be gone on with by the next delivery; where this was the last, it failed."""
        self._end_erasure(cutting, _TASKS.interrupted(reason))

    def forget_expired(self, days: int) -> None:
        """Forgets the rejected rows of uploads that ended so many days ago, EXPIRING_ROWS at most: their objects are
        gone. And the erasures of that age, for files from before them are gone too."""

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

    def _end_erasure(self, cutting: Cutting, changes: str) -> None:
        self._database.write(
            lambda connection: connection.run(f"UPDATE erasure SET {changes} WHERE {cutting.current}"),
            repeatable=True,
        )


# What an erasure begins with, in its transaction


def is_known(connection: Connection, customer: int) -> bool:
    """Whether there are rejected rows with that customer id, or an erasure of it that has not ended. `customer`: its
    hash."""
    [[known]] = connection.run(
        f"""SELECT EXISTS (SELECT FROM erasure WHERE customer = {customer} AND status <> 'done')
            OR EXISTS (SELECT FROM rejected_row r JOIN upload u ON u.id = r.upload_id
                WHERE r.customer = {customer} AND u.rejected_key IS NOT NULL)"""
    )
    return bool(known)


def begin(connection: Connection, customer: int, emails: Iterable[int], *, anew: bool) -> Remaining:
    """Notes an erasure with the hashes of the customer's id and addresses; what it leaves to be done. Where it is not
    `anew`, for nothing is known of the customer but this, the one that did not end goes on."""
    connection.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
    before = connection.run(
        f"""SELECT id, emails, {_TASKS.status}, reason FROM erasure
            WHERE customer = {customer} AND status <> 'done' ORDER BY id FOR UPDATE"""
    )
    earlier = [erasure_id for erasure_id, *_ in before]
    known = sorted({*emails, *(email for _, theirs, *_ in before for email in theirs)})
    [[rows, files, leftovers]] = connection.run(
        f"""WITH found AS MATERIALIZED (
                SELECT upload_id, count(*) AS rows FROM ({_rows_of(customer, known)}) AS r GROUP BY upload_id
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
            connection.run(f"UPDATE erasure SET {done('reason = NULL')} WHERE id = {erasure_id}")
        elif status == "failed":
            status = "waiting"
            connection.run(
                f"""UPDATE erasure SET status = 'waiting', retried = attempt, lease_until = NULL, {SEEN}
                    WHERE id = {erasure_id}"""
            )
        return Remaining(erasure_id, status, files, rows, reason)
    # An attempt that is at an earlier one finds that it is gone, and this goes on where it was.
    status = "waiting" if left else "done"
    [[erasure_id]] = connection.run(
        f"""INSERT INTO erasure (customer, emails, status, finished_at)
            VALUES ({customer}, {bigints(known)}, '{status}', {"NULL" if left else "clock_timestamp()"}) RETURNING id"""
    )
    connection.run(f"UPDATE erasure_leftover SET erasure_id = {erasure_id} WHERE erasure_id = ANY ({bigints(earlier)})")
    connection.run(f"DELETE FROM erasure WHERE id = ANY ({bigints(earlier)})")
    return Remaining(erasure_id, status, files, rows)


def hide_keys(
    connection: Connection, customer_id: int, customer: int, emails: Sequence[int], names: Iterable[str]
) -> None:
    """Takes the keys of objects off uploads where they have one of the addresses in them; and off those with records
    or rejected rows of the customer where they have all words of one of the names. The caller may not hold MERGE_LOCK:
    others wait for it with the row of an upload."""
    # Materialized, and distinct once more: else PostgreSQL, before it has statistics, would read all uploads.
    found = connection.run(
        f"""WITH about AS MATERIALIZED (SELECT DISTINCT upload_id FROM (
                SELECT id AS upload_id FROM upload WHERE key_emails && {bigints(emails)}
                UNION ALL SELECT upload_id FROM record WHERE customer_id = {customer_id}
                UNION ALL SELECT upload_id FROM ({_rows_of(customer, emails)}) AS r) AS all_of_them)
            SELECT id, object_key, key_emails && {bigints(emails)} FROM about JOIN upload ON id = upload_id
            WHERE object_key IS NOT NULL AND {_MAY_HIDE}"""
    )
    of_names = [said for name in names if (said := words(name))]
    named = [
        upload_id for upload_id, key, has in found if has or any(said <= words(_own_part(key)) for said in of_names)
    ]
    if named:
        # A reason names the folder where that is no source's.
        connection.run(
            f"""UPDATE upload SET object_key = {_KEY_WITHOUT_NAME}, key_emails = NULL,
                    reason = CASE WHEN source IS NULL AND status = 'failed' THEN NULL ELSE reason END
                WHERE id = ANY ({bigints(named)}) AND {_MAY_HIDE}"""
        )


def _own_part(key: str) -> str:
    """A key without what all have: incoming/ and the source."""
    return key.partition("/")[2].partition("/")[2] or key.partition("/")[2]


def _rows_of(customer: int, emails: Sequence[int]) -> str:
    return f"""SELECT upload_id, line FROM rejected_row WHERE customer = {customer}
        UNION SELECT upload_id, line FROM rejected_row WHERE email = ANY ({bigints(emails)})"""


def _renew(connection: Connection, cutting: Cutting, rows: int) -> None:
    renewed = connection.run(
        f"""UPDATE erasure SET rows = rows + {rows}, lease_until = now() + interval '{cutting.lease} s'
            WHERE {cutting.current} RETURNING id"""
    )
    if not renewed:
        raise Superseded


# What a load notes, and what it may not leave behind


def key_emails(object_key: str, hashes: Hashes) -> str:
    """The hashes of the addresses that an object's key may have in it, in SQL; NULL where there are none."""
    found = hashes.emails(addresses_in_key(object_key))
    return bigints(found) if found else "NULL"


def note_rows(connection: Connection, upload_id: int, traces: Iterable[Trace], hashes: Hashes) -> None:
    """Notes whom rejected rows are about."""
    rows = []
    for line, customer_id, addresses in traces:
        customer = "\\N" if customer_id is None else hashes.customer(customer_id)
        emails = hashes.emails(addresses)
        rows += [f"{upload_id}\t{line}\t{customer}\t{email}\n" for email in emails]
        if customer_id is not None and not emails:
            rows.append(f"{upload_id}\t{line}\t{customer}\t\\N\n")
    if rows:
        connection.run(
            "COPY rejected_row (upload_id, line, customer, email) FROM STDIN", stream=["".join(rows).encode()]
        )


def forget_rows(connection: Connection, upload_id: int) -> None:
    """Forgets whom the rejected rows of an upload are about."""
    connection.run(f"DELETE FROM rejected_row WHERE upload_id = {upload_id}")


def forget_broken_off(connection: Connection, upload_id: int) -> None:
    """Forgets whom the rejected rows of an upload are about that never came into the bucket."""
    if connection.run(f"SELECT FROM upload WHERE id = {upload_id} AND rejected_key IS NULL"):
        forget_rows(connection, upload_id)


def forget_all(connection: Connection) -> None:
    """Forgets all rejected rows, and what erasures had to do with them: the bucket was lost."""
    connection.run(
        f"""UPDATE upload SET rejected_key = NULL, rejected_version = NULL WHERE rejected_key IS NOT NULL;
            DELETE FROM rejected_row;
            DELETE FROM erasure_leftover;
            UPDATE erasure SET {done("reason = NULL")} WHERE status <> 'done'"""
    )


def lines_of_erased(connection: Connection, upload_id: int) -> set[int]:
    """The lines of rejected rows of customers who were erased since the upload's object was put into the bucket."""
    rows = connection.run(
        f"""WITH erased AS MATERIALIZED ({_since(upload_id)}), mails AS MATERIALIZED (
                SELECT DISTINCT unnest(emails) AS email FROM erased
            )
            SELECT line FROM erased e JOIN rejected_row r ON r.customer = e.customer WHERE r.upload_id = {upload_id}
            UNION SELECT line FROM mails m JOIN rejected_row r ON r.email = m.email WHERE r.upload_id = {upload_id}"""
    )
    return {line for [line] in rows}


def require_none_of_erased(connection: Connection, upload_id: int) -> None:
    """From here to the commit no erasure begins. Hides the object's key where an erasure since it was put there asks
    for that. Raises ErasedMeanwhile where there are rejected rows that may not stay."""
    connection.run(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
    if lines_of_erased(connection, upload_id):
        raise ErasedMeanwhile
    connection.run(
        f"""UPDATE upload SET object_key = {_KEY_WITHOUT_NAME}, key_emails = NULL
            WHERE id = {upload_id} AND key_emails && ARRAY(
                SELECT unnest(emails) FROM ({_since(upload_id)}) AS erased)"""
    )


def _since(upload_id: int) -> str:
    # S3 says when an object was put there in whole seconds, rounded down, and by its own clock.
    return f"""SELECT customer, emails FROM erasure
        WHERE created_at > (SELECT least(object_at, started_at) FROM upload WHERE id = {upload_id})"""


def forget_lines(connection: Connection, upload_id: int, lines: Collection[int]) -> None:
    """Forgets rejected rows that are not in the upload's file any more."""
    connection.run(f"DELETE FROM rejected_row WHERE upload_id = {upload_id} AND line = ANY ({bigints(lines)})")
