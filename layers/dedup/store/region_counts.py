"""Membership and region counts: which sources have each customer (or entity), and how many are in each region.

Both are kept in the transaction that changes the records, for every Counted: customers, and the entities of each run.
A region's count is the sum of its rows in the table of changes. A change appends rows; compact() sums them up.

The functions here return parts of a WITH, so that one statement changes membership and counts together:
`incoming` looks up the customers that will gain sources, `changed` has the sources of each customer whose membership
changed, now and before, and `counted` appends the changes.
"""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.sql import BY_REGION

NO_CHANGES = "SELECT 0, 0, 0 WHERE false"
"""No rows of changes."""


@dataclass(frozen=True)
class Membership:
    """The table that says which sources have each customer (or entity) of one kind. `id`: the column of the id, here
    and in the table of records, and its `type`. `counts_records`: whether it has the number of records, too."""

    table: str
    id: str
    type: str = "bigint"
    counts_records: bool = False
    now: str = ""
    """The view with deferred changes applied, where there can be any."""
    moves: str = ""
    """The view of the customers that have deferred changes."""

    @property
    def order(self) -> str:
        """What to order by, whatever the collation of the database."""
        return f'{self.id} COLLATE "C"' if self.type == "text" else self.id

    @property
    def columns(self) -> str:
        """What is derived from the records."""
        return f"{self.id}, sources{', records' if self.counts_records else ''}"


@dataclass(frozen=True)
class Counted:
    """What is counted, by the names of its tables. `records_of` is the table with the source and the customer (or
    entity) of each record: membership and counts are derived from it."""

    memberships: tuple[Membership, ...]
    changes: str
    records_of: str
    changes_now: str = ""
    """The changes with the deferred ones, where there can be any."""

    @property
    def deferrable(self) -> bool:
        """Whether changes can be deferred."""
        return bool(self.changes_now)

    def true_membership(self, membership: Membership) -> str:
        """A query for membership as derived from the records: id, sources, records."""
        return f"""SELECT {membership.id}, bit_or(1::bigint << source) AS sources, count(*) AS records
            FROM {self.records_of} WHERE {membership.id} IS NOT NULL GROUP BY {membership.id}"""

    def true_regions(self, *true_memberships: str) -> str:
        """A query for the counts as derived from the records: sources, customers, records. `true_memberships` are the
        names of the results of true_membership()."""
        customers = " UNION ALL ".join(
            f"SELECT sources, count(*), 0 FROM {true_membership} GROUP BY {BY_REGION}"
            for true_membership in true_memberships
        )
        return f"""SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records FROM (
                {customers}
                UNION ALL SELECT 1::bigint << source, 0, count(*) FROM {self.records_of} GROUP BY source
            ) AS part (sources, customers, records) GROUP BY {BY_REGION}"""


INTEGERS = Membership("customer_membership", "customer_id", now="membership_now", moves="deferred_move")
"""The customers whose id is an integer."""

TEXTS = Membership("text_membership", "text_id", "text", now="text_membership_now", moves="deferred_text_move")
"""The customers whose id is a text."""

CUSTOMERS = Counted((INTEGERS, TEXTS), "region_change", "record", "change_now")


def incoming(membership: Membership, rows: str) -> str:
    """`incoming`: the customers with one kind of id in staged rows (what follows FROM), each once, with their sources
    after these rows are added, and before (`previous`, null if unknown); and whether the customer is new to a source
    (`is_added`) and to all sources (`is_new`), with the deferred changes applied."""
    customer = membership.id
    return f"""staged AS MATERIALIZED (
            SELECT {customer}, bit_or(1::bigint << source) AS sources FROM {rows}
            WHERE {customer} IS NOT NULL GROUP BY {customer}
        ), deferred AS MATERIALIZED (
            SELECT {customer}, bit_or(sources) AS sources FROM deferred_membership
            WHERE {customer} IS NOT NULL GROUP BY {customer}
        ), incoming AS MATERIALIZED (
            SELECT s.{customer}, s.sources | coalesce(m.sources, 0) AS sources, m.sources AS previous,
                s.sources & ~(coalesce(m.sources, 0) | coalesce(d.sources, 0)) <> 0 AS is_added,
                coalesce(m.sources, 0) | coalesce(d.sources, 0) = 0 AS is_new
            FROM staged AS s
            LEFT JOIN {membership.table} AS m USING ({customer})
            LEFT JOIN deferred AS d USING ({customer})
        )"""


NEWCOMERS = "count(*) FILTER (WHERE is_added), count(*) FILTER (WHERE is_new)"
"""What to select from `incoming`: how many customers are new to a source, and how many to all sources."""


def gain(membership: Membership, incoming: str) -> str:
    """`changed`, where customers gain sources. `incoming`: a query for the id and sources of each, once, and the number
    of new records where those are counted.

    Rows are locked in id order, so that concurrent uploads wait for one another in one direction and never deadlock."""
    columns, more, where = membership.columns, "", "WHERE m.sources | excluded.sources <> m.sources"
    if membership.counts_records:
        more, where = ", records = m.records + excluded.records", ""
    return f"""changed AS (
            INSERT INTO {membership.table} AS m ({columns})
            SELECT {columns} FROM ({incoming}) AS incoming ORDER BY {membership.order}
            ON CONFLICT ({membership.id}) DO UPDATE
                SET previous = m.sources, sources = m.sources | excluded.sources{more} {where}
            RETURNING sources, previous
        )"""


def lose(membership: Membership, lost: str) -> str:
    """`changed`, where customers lose sources. `lost`: the name of a query's result with the id of each, the sources
    that no longer have it, and the number of records that leave where those are counted. Rows without a source stay
    until remove_empty()."""
    more = ", records = m.records - lost.records" if membership.counts_records else ""
    return f"""changed AS (
            UPDATE {membership.table} AS m SET previous = m.sources, sources = m.sources & ~lost.sources{more}
            FROM {lost} AS lost WHERE m.{membership.id} = lost.{membership.id} RETURNING m.sources, m.previous
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
    for membership in counted.memberships:
        connection.run(f"DELETE FROM {membership.table} WHERE sources = 0")


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
    for membership in counted.memberships:
        columns = membership.columns
        connection.run(
            f"""DELETE FROM {membership.table};
                INSERT INTO {membership.table} ({columns})
                SELECT {columns} FROM ({counted.true_membership(membership)}) AS t ORDER BY {membership.id}"""
        )
    connection.run(
        f"""DELETE FROM {counted.changes};
            INSERT INTO {counted.changes} (sources, customers, records)
            {counted.true_regions(*(membership.table for membership in counted.memberships))}"""
    )


def compare_with_records(connection: Connection, counted: Counted) -> tuple[int, int, int, int]:
    """How many records and customers there are, how many customers' membership is wrong, and how many region counts
    are."""
    names = {f"true_{membership.table.replace('.', '_')}": membership for membership in counted.memberships}
    true = "".join(
        f"{name} AS MATERIALIZED ({counted.true_membership(membership)}), " for name, membership in names.items()
    )
    # The counts first, then the records, then membership: clear() locks these tables in this order.
    [[records, customers, wrong_customers, wrong_regions]] = connection.run(
        f"""WITH kept_regions AS MATERIALIZED (
            SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records
            FROM {counted.changes_now or counted.changes}
            GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0
        ), {true} true_regions AS ({counted.true_regions(*names)})
        SELECT
            (SELECT coalesce(sum(records), 0)::bigint FROM true_regions),
            {" + ".join(f"(SELECT count(*) FROM {name})" for name in names)},
            {" + ".join(_wrong(name, membership) for name, membership in names.items())},
            (SELECT count(*) FROM true_regions t FULL JOIN kept_regions k USING (sources)
             WHERE (t.customers, t.records) IS DISTINCT FROM (k.customers, k.records))"""
    )
    return records, customers, wrong_customers, wrong_regions


def _wrong(true_membership: str, membership: Membership) -> str:
    """A scalar: how many rows of a membership differ from the true ones."""
    true_values, kept_values = (
        ", ".join(f"{alias}.{column}" for column in membership.columns.split(", ")[1:]) for alias in ("t", "k")
    )
    return f"""(SELECT count(*) FROM {true_membership} t
            FULL JOIN {membership.now or membership.table} k USING ({membership.id})
            WHERE ({true_values}) IS DISTINCT FROM ({kept_values}))"""
