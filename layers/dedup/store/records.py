"""Records: adding them through the API, and reading them. Records are the truth; membership and region counts are
changed in the same transaction."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.errors import KeyReused, Unavailable
from dedup.records import Fields, known_fields
from dedup.store import change_log, examples, samples
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.customer_columns import array, id_columns, id_values, literal, membership_of
from dedup.store.locks import (
    ENTITIES_LOCK_EXCLUSIVE,
    MERGE_LOCK_SHARED,
    TRY_MERGE_LOCK_SHARED,
    stop_writers,
)
from dedup.store.maintenance import Maintenance
from dedup.store.matching import forgetting
from dedup.store.record_columns import all_written, members, written
from dedup.store.region_counts import CUSTOMERS, INTEGERS, NO_CHANGES, TEXTS, Membership, count_changes, gain
from dedup.store.sources import Sources
from dedup.store.sql import PAGE_BYTES, bigints, copy_columns, iso, text

COMPACT_EVERY = 128
"""Uploads between two compactions of region_change: it has a few hundred rows at most, which sum up in 0.1 ms."""

_COPIED_AT_ONCE = 1_000
"""Records that are sent together, so that the server stores them while the next ones are written."""

MAX_DEFERRED = 1_000_000
"""Deferred rows that are allowed: readers go through all of them. Beyond it uploads wait for the lock."""


@dataclass(frozen=True)
class Accepted:
    """One accepted upload. `repeated`: it had been accepted before, and nothing was written now."""

    id: int
    accepted: int
    record_id: int | None
    created_at: str
    repeated: bool


@dataclass(frozen=True)
class _Begun:
    """An upload that begins: whether it may change membership at once, about how many deferred rows there are, and
    change_log.LAST_ID before it stored many records."""

    upload: Accepted
    may_merge: bool = False
    deferred: int = 0
    last_id: int = 0


class Records:
    """The records of one database."""

    def __init__(self, database: Database, sources: Sources, maintenance: Maintenance) -> None:
        self._database = database
        self._sources = sources
        self._maintenance = maintenance

    def add(
        self, records: Sequence[Fields], *, key: str | None = None, digest: str = "", principal: str = UNKNOWN
    ) -> Accepted:
        """Stores the records as one upload of `principal`, all or none.

        With a `key` it is stored once: a repeat gets the first upload's answer, even if both arrive at the same moment.
        Raises KeyReused if the key came with another digest."""
        bits = self._sources.bits({record["source"] for record in records})

        def work(connection: Connection) -> tuple[Accepted, bool]:
            begun = _begin_upload(connection, key, digest, records, bits, principal)
            upload, may_merge = begun.upload, begun.may_merge
            if upload.repeated or not records:
                return upload, False
            if not may_merge and begun.deferred > MAX_DEFERRED:
                connection.run(f"SELECT {MERGE_LOCK_SHARED}")
                may_merge = True
            if len(records) == 1:
                counting = _counting(records, bits, may_merge)
            else:
                counting = _copy(connection, begun, records, bits, may_merge)
            [[*is_logged], *_] = connection.run("; ".join(counting)) or [[]]
            if is_logged == [False]:
                change_log.append_scattered(connection, begun.last_id, upload.id)
            return upload, begun.deferred > 0

        upload, merges = self._database.write(work, repeatable=key is not None)
        # The upload is committed: what fails from here on must not fail it.
        with suppress(Unavailable):
            if merges:
                self._maintenance.merge_deferred(batches=1)
            if not upload.repeated and upload.id % COMPACT_EVERY == 0:
                self._maintenance.compact()
        return upload

    def clear(self, principal: str = UNKNOWN) -> int:
        """Deletes every record, as `principal` asked; returns how many there were.

        Uploads keep their keys: a repeat still writes nothing. Decisions are kept, without their notes."""

        def work(connection: Connection) -> int:
            stop_writers(connection)
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            [[records]] = connection.run("SELECT coalesce(sum(records), 0)::bigint FROM region_change")
            # Readers and verify() lock these in this order too, so that none of them deadlocks with it.
            connection.run(
                "TRUNCATE region_change, deferred_membership, customer_membership, text_membership, record, "
                "stated_customer"
            )
            change_log.append_cleared(connection)
            forgetting.clear(connection)
            connection.run("UPDATE decision SET note = NULL WHERE note IS NOT NULL")
            samples.forget_all(connection)
            examples.forget_all(connection)
            connection.run(f"INSERT INTO clearing (cleared_at, records) VALUES (clock_timestamp(), {records})")
            record_action(connection, "clear", principal, records=records)
            return int(records)

        return self._database.write(work, repeatable=False)

    def page(self, after: int | None, limit: int, source: str | None = None) -> tuple[str, int | None]:
        """A page of records in id order, above id `after`, as the text of a JSON array; and the id that the next page
        comes after, None if this is the last. A page ends early at PAGE_BYTES."""
        of_source = f"AND source = (SELECT bit FROM source WHERE name = {text(source)})" if source else ""
        query = records_query(f"id > {after or 0} {of_source} ORDER BY id", limit)
        [[page, last, more]] = self._database.read(lambda connection: connection.run(query))
        return page, int(last) if more else None


def record_text(rows: str, *, brief: bool = False) -> str:
    """A query for the id of each record of `rows` (a query for rows of the table record) and its JSON text, `line`:
    the fields that every record states, and the optional ones that are known. `brief`: without those that may be
    long."""
    # Joined from its parts: row_to_json looks up each column's type for each row, which takes twice as long.
    times = "".join(
        f""" || ',"{column}":' || coalesce('"' || {iso(f"r.{column}")} || '"', 'null')"""
        for column in ("created_at", "updated_at")
    )
    return f"""SELECT r.id, '{{"id":' || r.id
            || ',"customer_id":' || coalesce(r.customer_id::text, to_json(r.text_id)::text)
            || ',"name":' || coalesce(to_json(r.name)::text, 'null')
            || ',"email":' || coalesce(to_json(r.email)::text, 'null')
            || ',"source":' || to_json(s.name)::text{times}
            || {members("r", brief=brief)} || '}}' AS line
        FROM ({rows}) AS r JOIN source s ON s.bit = r.source"""


def records_query(chosen: str, limit: int) -> str:
    """A query for the records that `chosen` selects (conditions and order in SQL): the text of a JSON array of at most
    `limit` records and PAGE_BYTES, the id of the last one, and whether more follow."""
    # Materialized, or the text of each record would be made twice: for its length and for itself.
    return f"""
        WITH page AS MATERIALIZED (
            {record_text(f"SELECT * FROM record WHERE {chosen} LIMIT {limit + 1}")}
        ), measured AS (
            SELECT id, line, row_number() OVER w AS place, sum(octet_length(line) + 1) OVER w AS bytes
            FROM page WINDOW w AS (ORDER BY id)
        ), fitting AS (
            SELECT * FROM measured WHERE place <= {limit} AND (bytes <= {PAGE_BYTES} OR place = 1)
        )
        SELECT '[' || coalesce(string_agg(line, ',' ORDER BY id), '') || ']', max(id),
               (SELECT count(*) FROM measured) > count(*) FROM fitting"""


def _begin_upload(
    connection: Connection,
    key: str | None,
    digest: str,
    records: Sequence[Fields],
    bits: Mapping[str, int],
    principal: str,
) -> _Begun:
    """Creates the upload. A single record is stored and logged, too."""
    created_at, accepted = iso("created_at"), len(records)
    stored, record_id = "", "NULL"
    if accepted == 1:
        [record] = records
        # Taken before, so that the upload is not updated to name its record.
        record_id = "nextval(pg_get_serial_sequence('record', 'id'))"
        columns, values = zip(*_columns(record, bits).items(), strict=True)
        stored = f"""stored AS (
            INSERT INTO record (id, upload_id, {", ".join(columns)}) OVERRIDING SYSTEM VALUE
            SELECT record_id, id, {", ".join(values)} FROM created RETURNING id
        ), {change_log.logged_one("inserted", "stored")},"""
    # A concurrent upload with the same key makes this wait for it, and then find its row.
    rows = connection.run(
        f"""WITH created AS (
            INSERT INTO upload (key, digest, rows, accepted, origin, status, started_at, finished_at, record_id)
            VALUES (salted({text(key)}), salted({text(digest if key else None)}), {accepted}, {accepted}, 'api', 'done',
                now(), clock_timestamp(), {record_id})
            ON CONFLICT (key) DO NOTHING RETURNING id, record_id, {created_at} AS at
        ), {stored} audited AS (
            INSERT INTO audit (action, principal, upload_id, records)
            SELECT 'upload', {text(principal)}, id, {accepted} FROM created
        ) SELECT id, record_id, at, {TRY_MERGE_LOCK_SHARED},
            (SELECT coalesce(max(id) - min(id) + 1, 0) FROM deferred_membership),
            {change_log.LAST_ID if accepted > 1 else 0} FROM created"""
    )
    if rows:
        [[upload_id, record, at, may_merge, deferred, last_id]] = rows
        return _Begun(Accepted(upload_id, accepted, record, at, repeated=False), may_merge, deferred, last_id)
    [[upload_id, same, first_accepted, record, at]] = connection.run(
        f"""SELECT id, digest = salted({text(digest)}), accepted, record_id, {created_at}
            FROM upload WHERE key = salted({text(key)})"""
    )
    if not same:
        raise KeyReused
    return _Begun(Accepted(upload_id, first_accepted, record, at, repeated=True))


def _columns(record: Fields, bits: Mapping[str, int]) -> dict[str, str]:
    """The columns of a record that have a value, and the values as literals."""
    known = {field: text(written(field, record.get(field))) for field in known_fields([record])}
    return {
        membership_of(record["customer_id"]).id: literal(record["customer_id"]),
        "name": text(record["name"]),
        "email": text(record["email"]),
        "source": str(bits[record["source"]]),
        **known,
    }


def _copy(
    connection: Connection, begun: _Begun, records: Sequence[Fields], bits: Mapping[str, int], may_merge: bool
) -> list[str]:
    """Stores the records; returns the statements of _counting(). The first of them also appends to the change log, and
    returns whether it did."""
    known = known_fields(records)
    ids = id_columns(record["customer_id"] for record in records)
    bit_of, upload = {source: str(bit) for source, bit in bits.items()}, str(begun.upload.id)
    logged = change_log.logged_together(begun.last_id, len(records))
    counting: list[str] = []

    def parts() -> Iterator[bytes]:
        # One message for many rows: one for each is four times slower. It must not raise: the server would wait for
        # the rest.
        for start in range(0, len(records), _COPIED_AT_ONCE):
            part = records[start : start + _COPIED_AT_ONCE]
            yield copy_columns(
                [
                    *id_values([r["customer_id"] for r in part], ids),
                    [r["name"] for r in part],
                    [r["email"] for r in part],
                    [bit_of[r["source"]] for r in part],
                    [upload] * len(part),
                    *(all_written(field, [r.get(field) for r in part]) for field in known),
                ]
            )
        # Now, while the server stores the rows.
        counting.extend(_counting(records, bits, may_merge, logged))

    columns = ", ".join((*ids, "name", "email", "source", "upload_id", *known))
    connection.run(f"COPY record ({columns}) FROM STDIN", stream=parts())
    return counting


def _counting(
    records: Sequence[Fields], bits: Mapping[str, int], may_merge: bool, logged: str | None = None
) -> list[str]:
    """The statements that add the records' customers to membership, or to the deferred changes, and count the records.
    `logged`: a part of a WITH, for the first statement, which then returns whether it has a row."""
    sources_of: dict[Membership, defaultdict[CustomerId, int]] = {m: defaultdict(int) for m in CUSTOMERS.memberships}
    integers = sources_of[INTEGERS]
    for record in records:
        customer_id = record["customer_id"]
        of_kind = integers if type(customer_id) is int else sources_of[TEXTS]
        of_kind[customer_id] |= 1 << bits[record["source"]]
    per_source = Counter(record["source"] for record in records)
    counts = f"VALUES {', '.join(f'({1 << bits[source]}, 0, {n})' for source, n in per_source.items())}"
    statements = []
    for membership, found in sources_of.items():
        if not found:
            continue
        customers, sources = zip(*sorted(found.items()), strict=True)
        columns = f"{membership.id}, sources"
        incoming = f"SELECT * FROM unnest({array(membership, customers)}, {bigints(sources)}) AS t ({columns})"
        if may_merge:
            steps = [gain(membership, incoming), count_changes(CUSTOMERS, counts)]
        else:
            steps = [
                f"counted AS (INSERT INTO region_change (sources, customers, records) {counts})",
                f"deferred AS (INSERT INTO deferred_membership ({columns}) {incoming})",
            ]
        if logged:
            statements.append(f"WITH {', '.join([*steps, logged])} SELECT EXISTS (SELECT FROM logged)")
        else:
            statements.append(f"WITH {', '.join(steps)} SELECT")
        counts, logged = NO_CHANGES, None
    return statements
