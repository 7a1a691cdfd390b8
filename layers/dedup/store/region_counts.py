"""Membership and region counts: which sources have each customer (or entity), and how many are in each region.

Both are kept in the transaction that changes the records, for every Counted: customers, and the entities of each run.
A region's count is the sum of its rows in the table of changes. A change appends rows; compact() sums them up.

The functions here return parts of a WITH, so that one statement changes membership and counts together:
`changed` has the sources of each customer whose membership changed, now and before, and `counted` appends the changes.
"""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.sql import BY_REGION

NO_CHANGES = "SELECT 0, 0, 0 WHERE false"
"""No rows of changes."""


@dataclass(frozen=True)
class Counted:
    """What is counted, by the names of its tables. `records_of` is the table with the source and the customer (or
    entity) of each record: membership and counts are derived from it."""

    membership: str
    changes: str
    id: str
    records_of: str
    counts_records: bool = False
    """Whether membership has the number of records, too."""
    membership_now: str = ""
    changes_now: str = ""
    """The same with deferred changes, where there can be any."""

    @property
    def deferrable(self) -> bool:
        """Whether changes can be deferred."""
        return bool(self.changes_now)

    @property
    def true_membership(self) -> str:
        """A query for membership as derived from the records: id, sources, records."""
        return f"""SELECT {self.id}, bit_or(1::bigint << source) AS sources, count(*) AS records
            FROM {self.records_of} GROUP BY {self.id}"""

    def true_regions(self, true_membership: str) -> str:
        """A query for the counts as derived from the records: sources, customers, records. `true_membership` is the
        name of that query's result."""
        return f"""SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records FROM (
                SELECT sources, count(*), 0 FROM {true_membership} GROUP BY {BY_REGION}
                UNION ALL SELECT 1::bigint << source, 0, count(*) FROM {self.records_of} GROUP BY source
            ) AS part (sources, customers, records) GROUP BY {BY_REGION}"""


CUSTOMERS = Counted(
    "customer_membership",
    "region_change",
    "customer_id",
    "record",
    membership_now="membership_now",
    changes_now="change_now",
)


def gain(counted: Counted, incoming: str) -> str:
    """`changed`, where customers gain sources. `incoming`: a query for the id and sources of each, once, and the number
    of new records where those are counted.

    Rows are locked in id order, so that concurrent uploads wait for one another in one direction and never deadlock."""
    columns, more, where = f"{counted.id}, sources", "", "WHERE m.sources | excluded.sources <> m.sources"
    if counted.counts_records:
        columns, more, where = f"{columns}, records", ", records = m.records + excluded.records", ""
    return f"""changed AS (
            INSERT INTO {counted.membership} AS m ({columns})
            SELECT {columns} FROM ({incoming}) AS incoming ORDER BY {counted.id}
            ON CONFLICT ({counted.id}) DO UPDATE
                SET previous = m.sources, sources = m.sources | excluded.sources{more} {where}
            RETURNING sources, previous
        )"""


def lose(counted: Counted, lost: str) -> str:
    """`changed`, where customers lose sources. `lost`: the name of a query's result with the id of each, the sources
    that no longer have it, and the number of records that leave where those are counted. Rows without a source stay
    until remove_empty()."""
    more = ", records = m.records - lost.records" if counted.counts_records else ""
    return f"""changed AS (
            UPDATE {counted.membership} AS m SET previous = m.sources, sources = m.sources & ~lost.sources{more}
            FROM {lost} AS lost WHERE m.{counted.id} = lost.{counted.id} RETURNING m.sources, m.previous
        )"""


def count_changes(counted: Counted, records: str = NO_CHANGES) -> str:
    """`counted`: appends the changes of `changed`, and those of the records: a query for sources (one bit), 0, and how
    many records came or, negative, went."""
    return f"""counted AS (
            INSERT INTO {counted.changes} (sources, customers, records)
            SELECT sources, sum(customers), sum(records) FROM (
                SELECT sources, 1, 0 FROM changed WHERE sources <> 0
                UNION ALL SELECT previous, -1, 0 FROM changed WHERE previous <> 0
                UNION ALL {records}
            ) AS change (sources, customers, records) GROUP BY {BY_REGION}
        )"""


def remove_empty(connection: Connection, counted: Counted) -> None:
    """Deletes the membership of customers that no source has any more."""
    connection.run(f"DELETE FROM {counted.membership} WHERE sources = 0")


def compact(connection: Connection, counted: Counted) -> None:
    """Replaces the changes of each region by their sum. Rows that another compaction holds are left to it."""
    changes = counted.changes
    connection.run(
        f"""WITH taken AS (
            DELETE FROM {changes} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {changes} FOR UPDATE SKIP LOCKED))
            RETURNING sources, customers, records
        )
        INSERT INTO {changes} SELECT sources, sum(customers), sum(records) FROM taken
        GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0"""
    )


def recount(connection: Connection, counted: Counted) -> None:
    """Derives membership and counts from the records again. The caller keeps writers out."""
    columns = f"{counted.id}, sources{', records' if counted.counts_records else ''}"
    connection.run(
        f"""DELETE FROM {counted.membership};
            INSERT INTO {counted.membership} ({columns}) SELECT {columns} FROM ({counted.true_membership}) AS t
            ORDER BY {counted.id};
            DELETE FROM {counted.changes};
            INSERT INTO {counted.changes} (sources, customers, records)
            {counted.true_regions(counted.membership)}"""
    )


def compare_with_records(connection: Connection, counted: Counted) -> tuple[int, int, int, int]:
    """How many records and customers there are, how many customers' membership is wrong, and how many region counts
    are."""
    kept_columns = "sources, records" if counted.counts_records else "sources"
    true_values, kept_values = (
        ", ".join(f"{alias}.{column}" for column in kept_columns.split(", ")) for alias in ("t", "k")
    )
    # The counts first, then the records, then membership: clear() locks these tables in this order.
    [[records, customers, wrong_customers, wrong_regions]] = connection.run(
        f"""WITH kept_regions AS MATERIALIZED (
            SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records
            FROM {counted.changes_now or counted.changes}
            GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0
        ), true_membership AS MATERIALIZED ({counted.true_membership}),
        true_regions AS ({counted.true_regions("true_membership")})
        SELECT
            (SELECT coalesce(sum(records), 0)::bigint FROM true_regions),
            (SELECT count(*) FROM true_membership),
            (SELECT count(*) FROM true_membership t
             FULL JOIN {counted.membership_now or counted.membership} k USING ({counted.id})
             WHERE ({true_values}) IS DISTINCT FROM ({kept_values})),
            (SELECT count(*) FROM true_regions t FULL JOIN kept_regions k USING (sources)
             WHERE (t.customers, t.records) IS DISTINCT FROM (k.customers, k.records))"""
    )
    return records, customers, wrong_customers, wrong_regions
