"""What a file would do, read from the table of differences between its rows and the records; nothing is written."""

from dataclasses import dataclass

from pg8000.native import Connection

from dedup.store.region_counts import CUSTOMERS, NEWCOMERS, Membership, incoming
from dedup.store.snapshots import DIFFERENCES, added_rows, count_differences
from dedup.store.sql import bigints
from dedup.store.staging import HASHED_CONTENT
from dedup.store.uploads import CustomerChanges, RecordChanges


@dataclass(frozen=True)
class Comparison:
    """A file that was compared with the records: the table of its rows, how many of these are not left out, and of how
    many records and customers it says that they are there. `source_bit`: the source of a snapshot or an upsert;
    `replaced`: the condition on the records that a snapshot replaces. `remark`: which rows are left out, and why;
    `fingerprint`: of both before the comparison, for a preview."""

    staged: str
    accepted: int
    records: int
    customers: int
    source_bit: int | None = None
    replaced: str | None = None
    remark: str | None = None
    fingerprint: str | None = None


def figures(connection: Connection, compared: Comparison) -> tuple[CustomerChanges, RecordChanges]:
    """Returns what the file would do to customers and records."""
    added, changed, removed = count_differences(connection)
    counts = [_customers_added(connection, compared.staged, membership) for membership in CUSTOMERS.memberships]
    customers, new = map(sum, zip(*counts, strict=True))
    gone = customers_removed(connection, compared)
    return (
        CustomerChanges(customers, gone, compared.customers - customers, new),
        RecordChanges(added, changed, removed, compared.records - added - changed),
    )


def customers_removed(connection: Connection, compared: Comparison) -> int:
    """Returns how many customers the source of a snapshot or an upsert would no longer have."""
    if compared.source_bit is None:
        return 0
    [[customers]] = connection.run(f"SELECT count(*) FROM ({_lost_customers(compared.source_bit)}) AS lost")
    return int(customers)


def _lost_customers(source_bit: int) -> str:
    """A query for the customers of a source of whom every record would be deleted.

    A full join, which is never carried out as nested loops, whatever the planner expects."""
    return f"""SELECT FROM (SELECT id, customer_id, text_id FROM record WHERE source = {source_bit}) AS r
        FULL JOIN (SELECT record_id FROM {DIFFERENCES} WHERE staged IS NULL) AS d ON d.record_id = r.id
        GROUP BY customer_id, text_id HAVING bool_and(d.record_id IS NOT NULL)"""


def _customers_added(connection: Connection, staged: str, membership: Membership) -> tuple[int, int]:
    """The customers with one kind of id that are new to a source, and those that are new to all sources."""
    [[added, new]] = connection.run(f"WITH {incoming(membership, added_rows(staged))} SELECT {NEWCOMERS} FROM incoming")
    return added, new


def fingerprint(connection: Connection, compared: Comparison, upload_id: int) -> str:
    """Returns a text that is the same if the staged rows of an upload are, and what its sources have beside the
    records of the upload: records, which count with the upload that last changed them, and what upserts state."""
    of_row = f"hash_record_extended(ROW(customer_id, text_id, source, {HASHED_CONTENT}), 0)"
    of_record = "hash_record_extended(ROW(id, upload_id, updated_at), 0)"
    staged, sources = compared.staged, [compared.source_bit]
    if compared.source_bit is None:
        sources = [source for [source] in connection.run(f"SELECT DISTINCT source FROM {staged} ORDER BY source")]
    of_stated = "hash_record_extended(ROW(customer_id, text_id, source, upload_id), 0)"
    [parts] = connection.run(
        f"""SELECT s.rows, s.hash::text, r.rows, r.hash::text,
                (SELECT sum({of_stated})::text FROM stated_customer WHERE source = ANY ({bigints(sources)}))
            FROM (SELECT count(*) AS rows, sum({of_row}) AS hash FROM {staged}) AS s,
                (SELECT count(*) AS rows, sum({of_record}) AS hash FROM record
                WHERE source = ANY ({bigints(sources)}) AND upload_id <> {upload_id}) AS r"""
    )
    return " ".join(map(str, [*parts, *sources]))
