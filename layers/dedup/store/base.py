"""What every part of the store needs: the connection, the bits of the sources, locks, and SQL written safely."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from math import inf
from typing import Self

from pg8000.native import Connection, literal

from dedup.sets import Region
from dedup.store.connection import Database
from dedup.traces import Hashes

# In the order in which they are taken, WORK_LOCK before the row of an upload: what waits in one order can't deadlock.
WORK_LOCK = "pg_advisory_xact_lock_shared(7236838)"
"""Shared by what may take long: loads of files, from before they store records, and removals. See alone()."""

_NO_WORK_LOCK = "pg_advisory_xact_lock(7236838)"

MERGE_LOCK = "pg_advisory_xact_lock(7236836)"
"""Alone with it: whoever changes the membership of many customers, or takes records away."""

WAIT_FOR_MERGE_LOCK = "pg_advisory_xact_lock_shared(7236836)"
"""Uploads by the API share it."""

TRY_MERGE_LOCK = "pg_try_advisory_xact_lock_shared(7236836)"
"""The same for those that don't wait: where it is not to be had, what they bring is pending."""

SCHEMA_LOCK = "pg_advisory_xact_lock(7236837)"

COMPACT_EVERY = 128
"""Uploads between two compactions of region_change: it keeps a few hundred rows at most, which sum in 0.1 ms."""

MAX_DEFERRED = 1_000_000
"""Rows that may be pending: readers go through all of them. Beyond it uploads wait for the lock."""

DRAIN_ROWS = 10_000
"""Pending rows that are folded in at once: uploads of the same customers wait for so many at most."""

UNKNOWN = "unknown"
"""The principal where the caller did not sign in, as on a laptop."""

NO_CHANGES = "SELECT 0, 0, 0 WHERE false"
"""No rows of region_change."""

BY_REGION = "sources, sources >> 32"
"""What to group by for one row of each region. PostgreSQL's hash of a bigint is that of its halves' XOR: sets with the
same bits in one half as in the other have one hash, and with 50,000 of them the grouping runs out of memory and takes
40 s. The upper half as a second column tells them apart."""


@dataclass(frozen=True)
class Counted:
    """What is counted: the table that says which sources have whom, that of what changed, and what an id is called."""

    table: str
    changes: str
    id: str


CUSTOMERS = Counted("customer_membership", "region_change", "customer_id")


class Base:
    """A store on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bits: Mapping[str, int] = {}
        self._masks: dict[str, Mapping[Region, int]] = {}
        self._known_hashes: Hashes | None = None

    def ping(self) -> None:
        """Returns when the database answers; raises Unavailable within three seconds."""
        self._database.ping()

    def close(self) -> None:
        """Gives the connection back. The next call opens another."""
        self._database.close()

    def apart(self) -> Self:
        """The same store on a connection of its own."""
        return type(self)(self._database.apart())

    def migrate(self) -> list[str]:
        """Applies the migrations that this database has not had, in order; the names of those applied now."""
        return self._database.write(_migrate, repeatable=True)

    def compact(self) -> None:
        """Replaces the changes of each region by their sum. Rows that another compaction holds are left to it."""
        self._database.write(_compact, repeatable=True)

    def sweep(self) -> None:
        """Drops tables that nobody needs any more."""

    def drain(self, batches: float = inf) -> None:
        """Folds in what is pending, DRAIN_ROWS at a time: all of it, or so many batches. Where someone else holds the
        merge lock, or the rows, it is left to them and to the next upload."""
        while batches > 0 and self._database.write(_drain, repeatable=True) == DRAIN_ROWS:
            batches -= 1

    def _bits_of(self, sources: set[str]) -> Mapping[str, int]:
        # In a transaction of its own: a bit may only be remembered once it is committed.
        if not sources <= self._bits.keys():
            self._bits = self._database.write(lambda connection: _register(connection, sources), repeatable=True)
        return self._bits

    def _hashes(self) -> Hashes:
        # In a transaction of its own: not to be called in another.
        if self._known_hashes is None:
            [[salt]] = self._database.read(lambda connection: connection.run("SELECT salt FROM hash_salt"))
            self._known_hashes = Hashes(salt)
        return self._known_hashes


def _compact(connection: Connection) -> None:
    compact(connection, CUSTOMERS)


def compact(connection: Connection, counted: Counted) -> None:
    """Replaces the changes of each region by their sum."""
    changes = counted.changes
    connection.run(
        f"""WITH taken AS (
            DELETE FROM {changes} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {changes} FOR UPDATE SKIP LOCKED))
            RETURNING sources, customers, records
        )
        INSERT INTO {changes} SELECT sources, sum(customers), sum(records) FROM taken
        GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0"""
    )


def _register(connection: Connection, sources: Collection[str]) -> dict[str, int]:
    connection.run(f"SELECT {SCHEMA_LOCK}")
    for name in sorted(sources):
        connection.run(
            f"""INSERT INTO source (bit, name) SELECT coalesce(max(bit) + 1, 0), {literal(name)} FROM source
                HAVING NOT bool_or(name = {literal(name)}) OR count(*) = 0"""
        )
    return {name: int(bit) for name, bit in connection.run("SELECT name, bit FROM source")}


def _migrate(connection: Connection) -> list[str]:
    connection.run(f"SELECT {SCHEMA_LOCK}")
    connection.run(
        """CREATE TABLE IF NOT EXISTS migration (
            name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
    )
    done = {name for [name] in connection.run("SELECT name FROM migration")}
    scripts = sorted((files("dedup.store") / "migrations").iterdir(), key=lambda script: script.name)
    new = [script for script in scripts if script.name.endswith(".sql") and script.name not in done]
    for script in new:
        connection.run(script.read_text())
        connection.run(f"INSERT INTO migration (name) VALUES ({literal(script.name)})")
    return [script.name for script in new]


def _drain(connection: Connection) -> int:
    """How many rows it took."""
    [[alone]] = connection.run(f"SELECT {TRY_MERGE_LOCK}")
    if not alone:
        return 0
    taken = f"""taken AS (
        DELETE FROM deferred_membership WHERE id = ANY (ARRAY(
            SELECT id FROM deferred_membership ORDER BY id LIMIT {DRAIN_ROWS} FOR UPDATE SKIP LOCKED))
        RETURNING customer_id, sources), """
    incoming = "SELECT customer_id, bit_or(sources) AS sources FROM taken WHERE sources <> 0 GROUP BY customer_id"
    [[rows]] = connection.run(f"WITH {taken} {merge_changes(incoming)} SELECT count(*) FROM taken")
    return int(rows)


def alone(connection: Connection) -> None:
    """Waits until nobody adds records or takes any away, and keeps everybody from it until the end of the transaction.
    Readers read."""
    connection.run(f"SELECT {_NO_WORK_LOCK}")
    # Every upload locks it first. What is short may be waited for while others wait behind; what is long has ended.
    connection.run("LOCK TABLE upload IN SHARE ROW EXCLUSIVE MODE")
    connection.run(f"SELECT {MERGE_LOCK}")
    connection.run("LOCK TABLE region_change IN SHARE ROW EXCLUSIVE MODE")


def merge_changes(incoming: str, records: str = NO_CHANGES) -> str:
    """The parts of a WITH that add to membership the customers of `incoming` (a query for customer_id and sources, each
    customer once), and to region_change what that moved and what `records` says (a query for its columns).

    Rows are locked in id order, so that concurrent uploads wait for one another in one direction and never deadlock."""
    return f"""
        changed AS (
            INSERT INTO customer_membership AS m (customer_id, sources)
            SELECT customer_id, sources FROM ({incoming}) AS incoming ORDER BY customer_id
            ON CONFLICT (customer_id) DO UPDATE SET previous = m.sources, sources = m.sources | excluded.sources
            WHERE m.sources | excluded.sources <> m.sources
            RETURNING sources, previous
        ), {count_changes(records)}"""


def count_changes(records: str, counted: Counted = CUSTOMERS) -> str:
    """The part of a WITH after `changed`, rows of membership with their sources now and before: it appends what that
    moved, and what `records` says, to the changes of what is counted."""
    return f"""counted AS (
            INSERT INTO {counted.changes} (sources, customers, records)
            SELECT sources, sum(customers), sum(records) FROM (
                SELECT sources, 1, 0 FROM changed WHERE sources <> 0
                UNION ALL SELECT previous, -1, 0 FROM changed WHERE previous <> 0
                UNION ALL {records}
            ) AS change (sources, customers, records) GROUP BY {BY_REGION}
        )"""


def note(
    connection: Connection,
    action: str,
    principal: str,
    *,
    upload_id: int | None = None,
    customer_id: int | None = None,
    records: int | None = None,
) -> None:
    """Notes in the audit what `principal` did, to which upload or customer and to how many records."""
    columns = {"upload_id": upload_id, "customer_id": customer_id, "records": records}
    known = {name: value for name, value in columns.items() if value is not None}
    connection.run(
        f"""INSERT INTO audit ({", ".join(["action", "principal", *known])})
            VALUES ({", ".join([text(action), text(principal), *map(str, known.values())])})"""
    )


def bigints(values: Iterable[int]) -> str:
    """The numbers as an array in SQL."""
    return f"'{{{','.join(map(str, values))}}}'::bigint[]"


def text(value: str | None) -> str:
    """The string as a literal in SQL; NULL for None."""
    return "NULL" if value is None else str(literal(value))


def iso(column: str) -> str:
    """The time in a column, in UTC as ISO 8601 and RFC 3339 write it."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


TIMES = ", ".join(f"{iso(name)} AS {name}" for name in ("created_at", "started_at", "finished_at"))
"""The columns that say when work was asked for, begun and ended."""


def copy_text(value: str | None) -> str:
    """The string as a field of COPY's text format. Tabs and line breaks were refused with the other controls."""
    return "\\N" if value is None else value.replace("\\", "\\\\")
