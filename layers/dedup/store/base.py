"""What every part of the store needs: the connection, the bits of the sources, locks, and SQL written safely."""

from collections.abc import Collection, Iterable, Mapping
from importlib.resources import files

from pg8000.native import Connection, literal

from dedup.connection import Database

# Uploads share it; what takes records away takes it alone: so that an upload may trust the membership it has read.
UPLOAD_LOCK = "pg_advisory_xact_lock_shared(7236836)"
REMOVAL_LOCK = "pg_advisory_xact_lock(7236836)"
SCHEMA_LOCK = "pg_advisory_xact_lock(7236837)"

COMPACT_EVERY = 128
"""Uploads between two compactions of region_change: it keeps a few hundred rows at most, which sum in 0.1 ms."""

UNKNOWN = "unknown"
"""The principal where the caller did not sign in, as on a laptop."""

ISO_TIME = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
"""The format of to_char() for a time in UTC, as ISO 8601 and RFC 3339 write it."""


class Base:
    """A store on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bits: Mapping[str, int] = {}

    def ping(self) -> None:
        """Returns when the database answers; raises Unavailable within three seconds."""
        self._database.ping()

    def close(self) -> None:
        """Gives the connection back. The next call opens another."""
        self._database.close()

    def migrate(self) -> list[str]:
        """Applies the migrations that this database has not had, in order; the names of those applied now."""
        return self._database.write(_migrate, repeatable=True)

    def compact(self) -> None:
        """Replaces the changes of each region by their sum. Rows that another compaction holds are left to it."""
        self._database.write(_compact, repeatable=True)

    def _bits_of(self, sources: set[str]) -> Mapping[str, int]:
        # In a transaction of its own: a bit may only be remembered once it is committed.
        if not sources <= self._bits.keys():
            self._bits = self._database.write(lambda connection: _register(connection, sources), repeatable=True)
        return self._bits


def _compact(connection: Connection) -> None:
    connection.run(
        """WITH taken AS (
            DELETE FROM region_change WHERE ctid = ANY (ARRAY(SELECT ctid FROM region_change FOR UPDATE SKIP LOCKED))
            RETURNING sources, customers, records
        )
        INSERT INTO region_change SELECT sources, sum(customers), sum(records) FROM taken
        GROUP BY sources HAVING sum(customers) <> 0 OR sum(records) <> 0"""
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


def fold_in(incoming: str, records: str) -> str:
    """The statement that adds to membership the customers of `incoming` (a query for customer_id and sources, each
    customer once), and to region_change what that moved and what `records` says (a query for its columns).

    Rows are locked in id order, so that concurrent uploads wait for one another in one direction and never deadlock."""
    return f"""
        WITH changed AS (
            INSERT INTO customer_membership AS m (customer_id, sources)
            SELECT customer_id, sources FROM ({incoming}) AS incoming ORDER BY customer_id
            ON CONFLICT (customer_id) DO UPDATE SET previous = m.sources, sources = m.sources | excluded.sources
            WHERE m.sources | excluded.sources <> m.sources
            RETURNING sources, previous
        ), {count_changes(records)}"""


def count_changes(records: str) -> str:
    """The end of a statement that begins `WITH changed AS (…)`, rows of membership with their sources now and before:
    it appends what that moved, and what `records` says, to region_change, and returns how many were changed."""
    return f"""counted AS (
            INSERT INTO region_change (sources, customers, records)
            SELECT sources, sum(customers), sum(records) FROM (
                SELECT sources, 1, 0 FROM changed WHERE sources <> 0
                UNION ALL SELECT previous, -1, 0 FROM changed WHERE previous <> 0
                UNION ALL {records}
            ) AS change (sources, customers, records) GROUP BY sources
        ) SELECT count(*) FROM changed"""


def take_out(connection: Connection, leaving: str) -> int:
    """Deletes the records for which `leaving` holds, a condition in SQL on the columns of record, from membership and
    counts too; how many there were. The caller holds REMOVAL_LOCK."""
    connection.run(
        f"""WITH leaving AS MATERIALIZED (
            SELECT customer_id, source, count(*) AS records FROM record WHERE {leaving} GROUP BY 1, 2
        ), lost AS (
            SELECT customer_id, bit_or(1::bigint << source) AS sources FROM leaving AS l WHERE NOT EXISTS (
                SELECT FROM record r
                WHERE r.customer_id = l.customer_id AND r.source = l.source AND NOT ({leaving}))
            GROUP BY customer_id
        ), changed AS (
            UPDATE customer_membership AS m SET previous = m.sources, sources = m.sources & ~lost.sources
            FROM lost WHERE m.customer_id = lost.customer_id RETURNING m.sources, m.previous
        ), {count_changes("SELECT 1::bigint << source, 0, -sum(records) FROM leaving GROUP BY source")}"""
    )
    connection.run(f"DELETE FROM record WHERE {leaving}")
    removed = int(connection.row_count)
    connection.run("DELETE FROM customer_membership WHERE sources = 0")
    return removed


def note(
    connection: Connection,
    action: str,
    by: str,
    *,
    upload_id: int | None = None,
    customer_id: int | None = None,
    records: int | None = None,
) -> None:
    """Notes in the audit what `by` did, to which upload or customer and to how many records."""
    columns = {"upload_id": upload_id, "customer_id": customer_id, "records": records}
    known = {name: value for name, value in columns.items() if value is not None}
    connection.run(
        f"""INSERT INTO audit ({", ".join(["action", "principal", *known])})
            VALUES ({", ".join([text(action), text(by), *map(str, known.values())])})"""
    )


def bigints(values: Iterable[int]) -> str:
    """The numbers as an array in SQL."""
    return f"'{{{','.join(map(str, values))}}}'::bigint[]"


def text(value: str | None) -> str:
    """The string as a literal in SQL; NULL for None."""
    return "NULL" if value is None else str(literal(value))


def copy_text(value: str | None) -> str:
    """The string as a field of COPY's text format. Tabs and line breaks were refused with the other controls."""
    return "\\N" if value is None else value.replace("\\", "\\\\")
