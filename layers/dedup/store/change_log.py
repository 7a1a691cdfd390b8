"""The change log: which records were inserted, updated and deleted. Consumers read it in the order of positions.

Whoever writes the table of records appends in the same transaction, after the records: logged(), logged_one() or
append_inserted(), and append_cleared(); append_updated() is also for what else changes what is derived from records. An
entry has no position at first, because a transaction with a lower id may commit later. Whoever reads numbers the
entries that it sees, one reader at a time (docs/adr/0014).

A consumer reads a batch, writes what it derives from it, and calls commit() in that transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pg8000.native import Connection

from dedup.errors import Superseded
from dedup.store.connection import Database
from dedup.store.locks import CHANGE_LOG_LOCK_EXCLUSIVE, TRY_CHANGE_LOG_LOCK_EXCLUSIVE
from dedup.store.sql import bigints, text

MAX_RANGES = 10_000
"""Ranges of ids in one entry: 200 kB before compression."""

MAX_ENTRIES = 100_000
"""Entries that are numbered, or trimmed, by one statement."""

LAST_ID = "coalesce(pg_sequence_last_value('record_id_seq'), 0)"
"""A scalar: the highest id that was given to a record so far, also by a transaction that is not committed. Records that
are inserted from now on have higher ids. It takes a third of the time of a query on the sequence."""


class Position(NamedTuple):
    """How far a consumer is: it has consumed the entries up to `entry`, and of the next one the ids up to `record`."""

    entry: int
    record: int = 0


class Change(NamedTuple):
    """What happened to the records from id `first` to id `last`, without a gap. `operation`: 'inserted', 'updated',
    'deleted', or 'cleared': all records that there were are deleted, and `first` and `last` are 0. `entry` is the
    position of the entry."""

    entry: int
    operation: str
    first: int
    last: int


@dataclass(frozen=True)
class Batch:
    """Changes in the order in which they must be applied, and the consumer's position before and after them."""

    changes: Sequence[Change]
    before: Position
    after: Position

    @property
    def records(self) -> int:
        """The number of ids in the changes."""
        return sum(change.last - change.first + 1 for change in self.changes)


@dataclass(frozen=True)
class Lag:
    """What a consumer has not consumed: the number of entries and of ids in them, and the age of the first in
    seconds."""

    consumer: str
    entries: int
    records: int
    seconds: float


# Writing


def logged(operation: str, changed: str) -> str:
    """`logged`, a part of a WITH that appends to the log. `changed`: the name of a query's result with the `id` of each
    record, or of a table."""
    # ORDER BY in the aggregate: entries are made one after the other, not all of them in memory at once.
    return f"""logged AS (
            INSERT INTO record_change (operation, size, records)
            SELECT '{operation}', sum(last - first + 1), range_agg(int8range(first, last, '[]') ORDER BY first)
            FROM (
                SELECT first, lead(previous, 1, (SELECT max(id) FROM {changed})) OVER w AS last,
                    (row_number() OVER w - 1) / {MAX_RANGES} AS entry
                FROM (SELECT id AS first, lag(id) OVER (ORDER BY id) AS previous FROM {changed}) AS ids
                WHERE previous IS DISTINCT FROM first - 1 WINDOW w AS (ORDER BY first)
            ) AS ranges GROUP BY entry
        )"""


def logged_one(operation: str, changed: str) -> str:
    """The same for one record, in a quarter of the time."""
    return f"""logged AS (
            INSERT INTO record_change (operation, size, records)
            SELECT '{operation}', 1, int8multirange(int8range(id, id, '[]')) FROM {changed}
        )"""


def logged_together(last_id: int, count: int) -> str:
    """`logged` for `count` records that this transaction has inserted since LAST_ID was `last_id`, if nobody else has
    inserted any. Otherwise it has no row, and append_scattered() must follow. The records are not read."""
    return f"""logged AS (
            INSERT INTO record_change (operation, size, records)
            SELECT 'inserted', {count}, '{{[{last_id + 1},{last_id + count}]}}' WHERE {LAST_ID} = {last_id + count}
            RETURNING size
        )"""


def append_scattered(connection: Connection, last_id: int, upload_id: int) -> None:
    """Appends the records of an upload that this transaction has inserted since LAST_ID was `last_id`."""
    inserted = f"SELECT id FROM record WHERE id > {last_id} AND upload_id = {upload_id}"
    connection.run(f"WITH inserted AS ({inserted}), {logged('inserted', 'inserted')} SELECT")


def append_inserted(connection: Connection, last_id: int, upload_id: int, count: int) -> None:
    """Appends the `count` records that this transaction has inserted for an upload since LAST_ID was `last_id`."""
    if count:
        [[together]] = connection.run(f"WITH {logged_together(last_id, count)} SELECT EXISTS (SELECT FROM logged)")
        if not together:
            append_scattered(connection, last_id, upload_id)


def append_updated(connection: Connection, record_ids: Iterable[int]) -> None:
    """Appends that what is derived from some records is to be derived again: something else that it depends on has
    changed. The records need not exist."""
    changed = f"SELECT DISTINCT id FROM unnest({bigints(record_ids)}) AS t (id)"
    connection.run(f"WITH changed AS ({changed}), {logged('updated', 'changed')} SELECT")


def append_cleared(connection: Connection) -> None:
    """Appends that all records were deleted. The caller has kept all other writers out."""
    connection.run("INSERT INTO record_change (operation, size, records) VALUES ('cleared', 0, '{}')")


# Reading


class ChangeLog:
    """The change log of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, consumer: str) -> Position:
        """Registers a consumer from now on; returns its position. One that is registered keeps its position.

        Records that are read after that contain everything up to this position, and perhaps some changes after it,
        which will be read again."""

        return self._database.write(lambda connection: register(connection, consumer), repeatable=True)

    def unregister(self, consumer: str) -> None:
        """Forgets a consumer: what only it has not read is trimmed."""
        self._database.write(
            lambda connection: connection.run(f"DELETE FROM change_consumer WHERE name = {text(consumer)}"),
            repeatable=True,
        )

    def read(self, consumer: str, limit: int) -> Batch:
        """The next changes for a consumer: of at most `limit` records, and in so many ranges at most. A long entry is
        divided. Empty if the consumer has seen everything that is committed. Raises LookupError if it is not
        registered."""

        def work(connection: Connection) -> Batch:
            if connection.run("SELECT FROM record_change WHERE position IS NULL LIMIT 1"):
                connection.run(f"SELECT {CHANGE_LOG_LOCK_EXCLUSIVE}")
                _number(connection, MAX_ENTRIES)
            return _read(connection, position(connection, consumer), limit)

        return self._database.write(work, repeatable=True)

    def lags(self) -> tuple[Lag, ...]:
        """How far each consumer is behind, in the order of their names."""
        return self._database.read(lags)


def register(connection: Connection, consumer: str) -> Position:
    """The same as ChangeLog.register() in a transaction of its own, which the caller begins and ends."""
    connection.run(
        f"""INSERT INTO change_consumer (name, position) VALUES ({text(consumer)}, {head(connection)})
            ON CONFLICT (name) DO NOTHING"""
    )
    return position(connection, consumer)


def commit(connection: Connection, consumer: str, batch: Batch) -> None:
    """Records in the consumer's transaction that it has consumed a batch. Raises Superseded if its position is not the
    one that the batch was read at: another process has consumed it."""
    # Of the entry that the batch ends in, if it is divided. If an earlier batch ended in it, that one counts, too.
    consumed = sum(change.last - change.first + 1 for change in batch.changes if change.entry > batch.after.entry)
    earlier = f"CASE WHEN position = {batch.after.entry} THEN consumed ELSE 0 END" if batch.after.record else "0"
    connection.run(
        f"""UPDATE change_consumer
            SET position = {batch.after.entry}, record_id = {batch.after.record}, consumed = {earlier} + {consumed}
            WHERE name = {text(consumer)} AND (position, record_id) = ({batch.before.entry}, {batch.before.record})"""
    )
    if not connection.row_count:
        raise Superseded(f"The changes were not read at the position of {consumer}")


def is_cleared_after(entry: int | str) -> str:
    """The condition that all records were deleted after an entry, by its position."""
    return f"""EXISTS (
        SELECT FROM record_change WHERE operation = 'cleared' AND (position > {entry} OR position IS NULL))"""


def head(connection: Connection) -> int:
    """Gives positions to all entries that are committed; returns the last position. Takes CHANGE_LOG_LOCK_EXCLUSIVE."""
    connection.run(f"SELECT {CHANGE_LOG_LOCK_EXCLUSIVE}")
    _number(connection)
    [[last]] = connection.run("SELECT last_position FROM change_log")
    return int(last)


def records_behind(consumer: str, limit: int | None = None) -> str:
    """A scalar: the `records` of Lag. `consumer`: the name of a row of change_consumer. Of the entries that have no
    position, at most `limit` are read; of the others, one."""
    return f"""(coalesce((SELECT sum(size) FROM (
            SELECT size FROM record_change WHERE position IS NULL ORDER BY id LIMIT {limit or "ALL"}) AS e), 0)
        + coalesce((SELECT last_total - n.total + n.size - {consumer}.consumed FROM record_change n, change_log
            WHERE n.position = {consumer}.position + 1), 0))::bigint"""


def seconds_behind(consumer: str) -> str:
    """A scalar: the `seconds` of Lag."""
    return f"""coalesce(extract(epoch FROM clock_timestamp() - least(
            (SELECT at FROM record_change WHERE position = {consumer}.position + 1),
            (SELECT min(at) FROM record_change WHERE position IS NULL))), 0)::float"""


def lags(connection: Connection) -> tuple[Lag, ...]:
    """How far each consumer is behind, in the order of their names."""
    rows = connection.run(
        f"""SELECT name, greatest(last_position - position, 0)
                + (SELECT count(*) FROM record_change WHERE position IS NULL),
            {records_behind("w")}, {seconds_behind("w")} FROM change_consumer w, change_log ORDER BY name"""
    )
    return tuple(Lag(*row) for row in rows)


def position(connection: Connection, consumer: str) -> Position:
    """The position of a consumer. Raises LookupError if it is not registered."""
    rows = connection.run(f"SELECT position, record_id FROM change_consumer WHERE name = {text(consumer)}")
    if not rows:
        raise LookupError(f"{consumer} is not registered as a consumer of the change log")
    return Position(*rows[0])


def _number(connection: Connection, limit: int | None = None) -> None:
    """Gives the next positions to entries that have none, in the order of their ids. The caller holds
    CHANGE_LOG_LOCK_EXCLUSIVE since an earlier statement, so that it sees the positions that others gave."""
    connection.run(
        f"""WITH numbered AS MATERIALIZED (
            SELECT id, size, row_number() OVER w AS n, sum(size) OVER w AS total FROM record_change
            WHERE position IS NULL WINDOW w AS (ORDER BY id) ORDER BY id LIMIT {limit or "ALL"}
        ), given AS (
            UPDATE record_change c SET position = l.last_position + n, total = l.last_total + numbered.total
            FROM numbered, change_log l WHERE c.id = numbered.id AND c.position IS NULL
        )
        UPDATE change_log SET last_position = last_position + added.entries, last_total = last_total + added.records
        FROM (SELECT count(*) AS entries, sum(size) AS records FROM numbered) AS added WHERE added.entries > 0"""
    )


def _read(connection: Connection, before: Position, limit: int) -> Batch:
    rest = f"records * int8multirange(int8range({before.record}, NULL, '()'))"
    rows = connection.run(
        f"""WITH entries AS (
            SELECT position, operation, size,
                CASE WHEN position = {before.entry + 1} AND {before.record} > 0 THEN {rest} ELSE records END AS records
            FROM record_change WHERE position > {before.entry} ORDER BY position LIMIT {limit}
        ), needed AS MATERIALIZED (
            SELECT position, operation, records, coalesce(upper(records) - 1, 0) AS highest FROM (
                SELECT *, sum(greatest(size, 1)) OVER (ORDER BY position) - greatest(size, 1) AS earlier FROM entries
            ) AS e WHERE earlier < {limit}
        )
        SELECT position, operation, coalesce(lower(r), 0), coalesce(upper(r) - 1, 0), highest
        FROM needed LEFT JOIN LATERAL unnest(records) AS r ON true ORDER BY position, lower(r) LIMIT {limit}"""
    )
    changes: list[Change] = []
    after, left = before, limit
    for entry, operation, first, last, highest in rows:
        if left <= 0:
            break
        last = min(last, first + left - 1)
        left -= last - first + 1
        changes.append(Change(entry, operation, first, last))
        after = Position(entry) if last == highest else Position(entry - 1, last)
    return Batch(changes, before, after)


# Maintenance


def trim(connection: Connection) -> None:
    """Deletes the entries that all consumers have consumed: all entries if there is no consumer. Left to others while
    somebody reads."""
    [[free]] = connection.run(f"SELECT {TRY_CHANGE_LOG_LOCK_EXCLUSIVE}")
    if not free:
        return
    [[oldest, trimmed, last]] = connection.run(
        "SELECT (SELECT min(position) FROM change_consumer), trimmed_position, last_position FROM change_log"
    )
    if oldest is not None:
        _number(connection, MAX_ENTRIES)
    wanted = last if oldest is None else oldest
    if wanted > trimmed:
        _trim(connection, f"position <= {wanted} ORDER BY position")
    if oldest is None and last - trimmed < MAX_ENTRIES:
        _trim(connection, "position IS NULL ORDER BY id")


def _trim(connection: Connection, entries: str) -> None:
    """Deletes the first MAX_ENTRIES of some entries: a condition and an order. Those before them are deleted."""
    connection.run(
        f"""WITH trimmed AS (
            DELETE FROM record_change WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM record_change WHERE {entries} LIMIT {MAX_ENTRIES}))
            RETURNING *
        ), effect AS ({_effect("trimmed")})
        UPDATE change_log l SET trimmed_position = coalesce((SELECT max(position) FROM trimmed), trimmed_position),
            records = CASE WHEN cleared THEN 0 ELSE l.records END + effect.records,
            id_sum = CASE WHEN cleared THEN 0 ELSE l.id_sum END + effect.id_sum
        FROM effect WHERE EXISTS (SELECT FROM trimmed)"""
    )


def _effect(entries: str) -> str:
    """A query for what entries did: whether they `cleared` the records, how many `records` they added after that, and
    the sum of their ids, both less what they deleted. `entries`: the name of a query's result or a table."""
    return f"""SELECT coalesce(bool_or(clearings > 0), false) AS cleared, coalesce(sum(n), 0)::bigint AS records,
            coalesce(sum(n * ends) / 2, 0) AS id_sum
        FROM (
            SELECT operation, records, count(*) FILTER (WHERE operation = 'cleared')
                OVER (ORDER BY position DESC NULLS FIRST, id DESC) AS clearings
            FROM {entries}
        ) AS e LEFT JOIN LATERAL (
            SELECT CASE operation WHEN 'inserted' THEN 1 ELSE -1 END::numeric * (upper(r) - lower(r)) AS n,
                lower(r) + upper(r) - 1 AS ends
            FROM unnest(e.records) AS r
        ) AS part ON clearings = 0 AND operation IN ('inserted', 'deleted')"""


def find_errors(connection: Connection) -> int:
    """How much is wrong: records that were inserted or deleted without an entry or the other way round, positions that
    are missing, and consumers at positions that there are not.

    The number of records and the sum of their ids must be what the log says, the trimmed part included. If two mistakes
    cancel each other in both, they are overlooked."""
    [[records, sums_differ, positions, consumers]] = connection.run(
        f"""WITH effect AS ({_effect("record_change")}), logged AS (
            SELECT CASE WHEN cleared THEN 0 ELSE l.records END + e.records AS records,
                CASE WHEN cleared THEN 0 ELSE l.id_sum END + e.id_sum AS id_sum FROM effect e, change_log l
        ), kept AS (
            SELECT count(position) AS entries, coalesce(min(position), trimmed_position + 1) AS first,
                coalesce(max(position), trimmed_position) AS last, trimmed_position, last_position
            FROM change_log LEFT JOIN record_change ON position IS NOT NULL GROUP BY trimmed_position, last_position
        ), actual AS (SELECT count(*) AS records, coalesce(sum(id), 0) AS id_sum FROM record)
        SELECT (SELECT abs(l.records - a.records) FROM logged l, actual a),
            (SELECT l.id_sum <> a.id_sum FROM logged l, actual a),
            (SELECT greatest(abs(last_position - trimmed_position - entries), abs(first - trimmed_position - 1),
                abs(last_position - last)) FROM kept),
            (SELECT count(*) FROM change_consumer w, change_log l
             WHERE position NOT BETWEEN trimmed_position AND last_position)"""
    )
    return int((records or sums_differ) + positions + consumers)


def correct(connection: Connection) -> None:
    """Starts the log anew if it is wrong: all records are deleted and inserted for every consumer. The caller keeps
    writers out."""
    connection.run(f"SELECT {CHANGE_LOG_LOCK_EXCLUSIVE}")
    if not find_errors(connection):
        return
    connection.run(
        """DELETE FROM record_change;
            UPDATE change_log SET trimmed_position = last_position, records = 0, id_sum = 0;
            UPDATE change_consumer SET position = last_position, record_id = 0, consumed = 0 FROM change_log"""
    )
    append_cleared(connection)
    connection.run(f"WITH {logged('inserted', 'record')} SELECT")
