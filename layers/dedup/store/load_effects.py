"""What a load does to the records: the last part of its transaction, in which the staged rows become records and are
counted. Rows that newer files make out of date are left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pg8000.native import Connection

from dedup.store import previews, snapshots, upserts
from dedup.store.change_log import logged
from dedup.store.differences import Comparison, fingerprint
from dedup.store.load_attempt import Load
from dedup.store.locks import MERGE_LOCK_EXCLUSIVE
from dedup.store.region_counts import (
    CUSTOMERS,
    INTEGERS,
    NEWCOMERS,
    NO_CHANGES,
    TEXTS,
    Membership,
    count_changes,
    incoming,
)
from dedup.store.staging import insert_records
from dedup.store.uploads import CustomerChanges, RecordChanges
from dedup.traces import Hashes


class Outdated(Exception):
    """Newer snapshots of all sources in the file are loaded. The text names their uploads."""


class RowsLost(Exception):
    """Staged rows are gone because PostgreSQL crashed and restarted: the file has to be read again."""


@dataclass(frozen=True)
class Effect:
    """What a load did. `remark`: which rows it left out, and why."""

    accepted: int
    customers: CustomerChanges
    records: RecordChanges
    remark: str | None = None


def write_rows(
    connection: Connection, load: Load, expected: int, source_bit: int | None, hashes: Hashes, max_removed: int
) -> Effect | None:
    """Makes records of the staged rows and counts them. None if the upload is previewed or held instead. `expected`:
    how many rows were staged; `source_bit`: the source of a snapshot or an upsert; `max_removed`: see
    suspicions.find(). The caller has analysed the staging table and holds LONG_WRITE_LOCK_SHARED.

    Raises RowsLost, Outdated, and previews.Changed."""
    if load.mode == "add":
        source_bit = None
        if not load.dry_run:
            return _add(connection, load, expected)
    compared = _compare(connection, load, expected, source_bit)
    if previews.ends_without_loading(connection, load, compared, hashes, max_removed):
        return None
    if source_bit is None:
        return _add(connection, load, expected)
    return _write_differences(connection, load, compared, source_bit)


def _add(connection: Connection, load: Load, expected: int) -> Effect:
    """Makes records of the staged rows. Raises RowsLost, Outdated."""
    # The table is unlogged: a server that crashed and restarted has emptied it.
    if insert_records(connection, load.table, load.id) != expected:
        raise RowsLost
    # From here to the commit, changes through the API are deferred. Other files wait.
    connection.run(f"SELECT {MERGE_LOCK_EXCLUSIVE}")
    left_out, remark = _leave_out_outdated(connection, load, expected)
    added, new, customers = _count_in(connection, load.table)
    accepted = expected - left_out
    return Effect(accepted, CustomerChanges(added, 0, customers - added, new), RecordChanges(accepted, 0, 0, 0), remark)


def _compare(connection: Connection, load: Load, expected: int, source_bit: int | None) -> Comparison:
    """Compares the staged rows of a snapshot or an upsert of a source, or of a file that is previewed, with the
    records. Raises RowsLost, Outdated."""
    # Under the lock, so that nobody adds to the records or deletes any while they are compared.
    connection.run(f"SELECT {MERGE_LOCK_EXCLUSIVE}")
    for bit, name, upload_id in _newer_snapshots(connection, load):
        if bit == source_bit:
            raise Outdated(previews.in_place(name, upload_id))
    rows, customers = _count_staged(connection, load)
    if rows != expected:
        raise RowsLost
    compared = Comparison(load.table, rows, rows, customers, source_bit)
    if source_bit is None:
        return _compare_added(connection, load, compared)
    if load.mode == "replace":
        return _compare_snapshot(connection, load, compared, source_bit)
    compared = _marked(connection, load, compared)
    chosen = upserts.choose(connection, load.table, source_bit, _newer_uploads(connection, load))
    return replace(
        compared,
        accepted=rows - chosen.left_out,
        records=chosen.stated,
        customers=chosen.stated,
        remark=chosen.remark,
    )


def _compare_added(connection: Connection, load: Load, compared: Comparison) -> Comparison:
    compared = _marked(connection, load, compared)
    # When it is applied, this is left to _add().
    left_out, remark = (0, None) if load.decision else _leave_out_outdated(connection, load, compared.accepted)
    if left_out:
        rows, customers = _count_staged(connection, load)
        compared = replace(compared, accepted=rows, records=rows, customers=customers, remark=remark)
    snapshots.add_all(connection, load.table)
    return compared


def _compare_snapshot(connection: Connection, load: Load, compared: Comparison, source_bit: int) -> Comparison:
    left_out, upsert = upserts.leave_out_stated(connection, load.table, load.id)
    if left_out and upsert:
        rows, customers = _count_staged(connection, load)
        remark = f"{left_out} rows were left out. {upserts.remark(upsert)}"
        compared = replace(compared, accepted=rows, records=rows, customers=customers, remark=remark)
    compared = _marked(connection, load, compared)
    spared = upserts.is_stated_later() if upsert else "false"
    replaced = snapshots.compared_records(source_bit, _newer_uploads(connection, load, source_bit), spared)
    records, of_customers = snapshots.size_of_source(connection, source_bit)
    repeats = compared.records != compared.customers or records != of_customers
    snapshots.compare_source(connection, load.table, replaced, repeats=repeats)
    return replace(compared, replaced=replaced)


def _marked(connection: Connection, load: Load, compared: Comparison) -> Comparison:
    """The same with a fingerprint, if it is a preview. This is before the comparison, and after it when the preview is
    applied: records that the API adds meanwhile differ."""
    if not load.dry_run or load.decision:
        return compared
    return replace(compared, fingerprint=fingerprint(connection, compared, load.id))


def _count_staged(connection: Connection, load: Load) -> tuple[int, int]:
    """The number of staged rows, and of their customers."""
    [[rows, customers]] = connection.run(
        f"SELECT count(*), count(DISTINCT customer_id) + count(DISTINCT text_id) FROM {load.table}"
    )
    return rows, customers


def _write_differences(connection: Connection, load: Load, compared: Comparison, source_bit: int) -> Effect:
    """Writes what a snapshot or an upsert changes, and counts the records that it adds."""
    done = snapshots.write(connection, load.table, load.id)
    if load.mode == "replace":
        upserts.forget_stated(connection, source_bit, load.id)
    else:
        upserts.remember_stated(connection, load.id, source_bit)
    added, new, _ = _count_in(connection, snapshots.added_rows(load.table))
    return Effect(
        compared.accepted,
        CustomerChanges(added, done.customers_removed, compared.customers - added, new),
        RecordChanges(done.added, done.changed, done.removed, compared.records - done.added - done.changed),
        compared.remark,
    )


def _newer_uploads(connection: Connection, load: Load, source_bit: int | None = None) -> list[int]:
    """The newer files that are loaded; only those that records of a source are from, if one is given."""
    from_source = f"AND EXISTS (SELECT FROM record r WHERE r.upload_id = n.id AND r.source = {source_bit})"
    found = connection.run(
        f"""SELECT n.id FROM upload u JOIN upload n ON n.object_at > u.object_at
            WHERE u.id = {load.id} AND n.status = 'done' {"" if source_bit is None else from_source}"""
    )
    return [upload for [upload] in found]


def _count_in(connection: Connection, rows: str) -> tuple[int, int, int]:
    """Adds the customers of staged rows (what follows FROM) to membership, and counts them and their records; returns
    how many customers are new to a source, how many are new to all sources, and how many there are."""
    records = f"SELECT 1::bigint << source, 0, count(*) FROM {rows} GROUP BY source"
    counts = [_count_kind(connection, rows, INTEGERS, records), _count_kind(connection, rows, TEXTS, NO_CHANGES)]
    added, new, customers = map(sum, zip(*counts, strict=True))
    return added, new, customers


def _count_kind(connection: Connection, rows: str, membership: Membership, records: str) -> tuple[int, int, int]:
    """Does this for the customers with one kind of id, and adds the changes of `records`. The caller has membership to
    itself, so no customer can be inserted meanwhile: a plain INSERT takes half of the time of gain()."""
    customer = membership.id
    [[added, new, customers]] = connection.run(
        f"""WITH {incoming(membership, rows)}, changed AS (
            SELECT {customer}, sources, coalesce(previous, 0) AS previous FROM incoming
            WHERE sources IS DISTINCT FROM previous
        ), inserted AS (
            INSERT INTO {membership.table} ({customer}, sources)
            SELECT {customer}, sources FROM changed WHERE previous = 0 ORDER BY {customer}
        ), updated AS (
            UPDATE {membership.table} AS m SET sources = c.sources, previous = c.previous
            FROM changed AS c WHERE m.{customer} = c.{customer} AND c.previous <> 0
        ), {count_changes(CUSTOMERS, records)}
        SELECT {NEWCOMERS}, count(*) FROM incoming"""
    )
    return added, new, customers


def _newer_snapshots(connection: Connection, load: Load) -> Sequence[tuple[int, str, int]]:
    """The sources that have a newer snapshot: their bit, name and the snapshot's upload, in the order of names."""
    found: Sequence[tuple[int, str, int]] = connection.run(
        f"""SELECT s.bit, s.name, max(n.id)
            FROM upload u JOIN upload n ON n.object_at > u.object_at JOIN source s ON s.name = n.source
            WHERE u.id = {load.id} AND n.mode = 'replace' AND n.status = 'done'
                AND NOT EXISTS (SELECT FROM clearing WHERE cleared_at > n.finished_at)
            GROUP BY s.bit, s.name ORDER BY s.name"""
    )
    return found


def _leave_out_outdated(connection: Connection, load: Load, records: int) -> tuple[int, str | None]:
    """Deletes the records of sources that have a newer snapshot from the `records` of the upload, and those of
    customers that newer upserts state; returns how many, and why. Raises Outdated if all were."""
    left_out, reasons, conditions = 0, [], []
    for bit, name, upload_id in _newer_snapshots(connection, load):
        connection.run(f"DELETE FROM {load.table} WHERE source = {bit}")
        if connection.row_count:
            left_out += connection.row_count
            reasons.append(previews.in_place(name, upload_id))
            conditions.append(f"source = {bit}")
    stated, upsert = upserts.leave_out_stated(connection, load.table, load.id)
    if stated and upsert:
        left_out += stated
        reasons.append(upserts.remark(upsert))
        conditions.append(upserts.is_stated_later())
    for condition in conditions:
        gone = f"DELETE FROM record WHERE upload_id = {load.id} AND {condition} RETURNING id"
        connection.run(f"WITH gone AS ({gone}), {logged('deleted', 'gone')} SELECT")
    remark = ". ".join(reasons)
    if 0 < left_out == records:
        raise Outdated(remark)
    return left_out, f"{left_out} rows were left out. {remark}" if left_out else None
