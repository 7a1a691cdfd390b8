"""Records are the truth; membership and region counts are kept beside them in the same transaction, so that a set
question is answered from a few dozen rows however many records there are."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from pg8000.native import Connection

from dedup import sets
from dedup.errors import KeyReused, Unavailable
from dedup.records import KNOWN, Record, known_fields
from dedup.sets import Region, Regions
from dedup.store import entities
from dedup.store.base import (
    BY_REGION,
    COMPACT_EVERY,
    CUSTOMERS,
    MAX_DEFERRED,
    TRY_MERGE_LOCK,
    UNKNOWN,
    WAIT_FOR_MERGE_LOCK,
    Base,
    Counted,
    alone,
    bigints,
    copy_text,
    iso,
    merge_changes,
    note,
    text,
)

PAGE_BYTES = 2_000_000
"""UTF-8 bytes of one page of records. Lambda's limit of 6 MB counts the body as a JSON string, in which a quote is two
bytes and an escaped character up to three times its UTF-8."""

MERGED_REGIONS = 100
"""Regions up to which each has an index scan of its own in a query, and PostgreSQL merges them. The planner takes 25 µs
for each, more from some 200 on, and from some 9,000 on its stack is exceeded."""

NO_REGIONS: Mapping[int, Region] = MappingProxyType({})

_FIRST_ID, _LAST_ID = -(2**63), 2**63 - 1


def counted_by(connection: Connection, by: str) -> Counted:
    """What is counted for a question by "customer" or by "entity". Raises NoRun."""
    return CUSTOMERS if by == "customer" else entities.require_active_run(connection).counted


def record_text(rows: str) -> str:
    """A query for the id of each record of `rows` (a query for rows of the table record) and its JSON text, `line`:
    what every record has, and what is known."""
    # Joined from its parts: row_to_json looks up each column's type for each row, which takes twice as long.
    times = "".join(
        f""" || ',"{column}":' || coalesce('"' || {iso(f"r.{column}")} || '"', 'null')"""
        for column in ("created_at", "updated_at")
    )
    known = " || ".join(f"""coalesce(',"{field}":' || to_json(r.{field})::text, '')""" for field in KNOWN)
    any_known = f"num_nonnulls({', '.join(f'r.{field}' for field in KNOWN)}) > 0"
    return f"""SELECT r.id, '{{"id":' || r.id || ',"customer_id":' || r.customer_id
            || ',"name":' || to_json(r.name)::text || ',"email":' || to_json(r.email)::text
            || ',"source":' || to_json(s.name)::text{times}
            || CASE WHEN {any_known} THEN {known} ELSE '' END || '}}' AS line
        FROM ({rows}) AS r JOIN source s ON s.bit = r.source"""


@dataclass(frozen=True)
class Upload:
    """What is known of one accepted upload. `repeated`: it had been accepted before, and nothing was written now."""

    id: int
    accepted: int
    record_id: int | None
    created_at: str
    repeated: bool


@dataclass(frozen=True)
class Page:
    """Ids in ascending order, as the text of a JSON array; the last of them, None where there is none; and whether more
    follow."""

    json: str
    last: int | None
    more: bool

    @classmethod
    def of(cls, array: str, limit: int) -> "Page":
        """The first `limit` ids of the text of PostgreSQL's array. They stay text: as numbers in Python they would be
        read, checked and written, which takes longer than finding them."""
        ids = array[1:-1]
        more = ids.count(",") >= limit
        if more:
            ids = ids.rpartition(",")[0]
        return cls(f"[{ids}]", int(ids.rpartition(",")[2]) if ids else None, more)


@dataclass(frozen=True)
class Selection:
    """One state of the database: the regions and their customers, the records in all, and for each named set of
    customers one page of its ids."""

    regions: Regions
    records: int
    pages: Mapping[str, Page]

    def next_positions(self, after: Mapping[str, int]) -> dict[str, int] | None:
        """What the next page comes after, list by list; None where no list has more."""
        if not any(page.more for page in self.pages.values()):
            return None
        return {**after, **{name: page.last for name, page in self.pages.items() if page.last is not None}}


@dataclass(frozen=True)
class RegionPage:
    """Regions, each with its sources and its count, the largest first; how many regions there are in all, and what the
    next page comes after: the count of the last region here and the bits of its sources. None when this is the last."""

    regions: list[tuple[list[str], int]]
    total: int
    last: tuple[int, int] | None


@dataclass(frozen=True)
class State:
    """One state of what is counted: the customers (or entities) of each region that has any, the bits that stand for
    it, the records in all, and whether anything of it is pending. `names`: the sources by their bits' values."""

    counted: Counted
    regions: dict[Region, int]
    masks: dict[Region, int]
    records: int
    pending: bool
    names: Mapping[int, str]


@dataclass(frozen=True)
class Verification:
    """What `verify` found: customers, entities of the active run, and regions of both, whose kept values were not
    those of the records, now mended."""

    records: int
    customers: int
    wrong_customers: int
    wrong_regions: int
    entities: int = 0
    wrong_entities: int = 0
    wrong_entity_regions: int = 0

    @property
    def agreed(self) -> bool:
        """Whether membership and counts were those of the records."""
        wrong = self.wrong_customers + self.wrong_regions + self.wrong_entities + self.wrong_entity_regions
        return wrong == 0


class Records(Base):
    """Records, membership and counts in one database. Raises errors.Unavailable where that is not to be had."""

    # Writing

    def add(
        self, records: Sequence[Record], *, key: str | None = None, digest: str = "", principal: str = UNKNOWN
    ) -> Upload:
        """Stores the records as one upload of `principal`, all or none; what it became.

        With a `key` it is stored once: a repeat gets the first upload's answer, at the same moment on another
        connection too. Raises KeyReused when the key came with another digest."""
        bits = self._bits_of({record.source for record in records})

        def work(connection: Connection) -> tuple[Upload, bool]:
            upload, may_merge, pending = _begin_upload(connection, key, digest, len(records), principal)
            if upload.repeated or not records:
                return upload, False
            if not may_merge and pending > MAX_DEFERRED:
                connection.run(f"SELECT {WAIT_FOR_MERGE_LOCK}")
                may_merge = True
            record_id = _store_records(connection, upload.id, records, bits)
            _count_in(connection, records, bits, may_merge)
            entities.attach(connection, upload.id, wait=may_merge)
            return Upload(upload.id, len(records), record_id, upload.created_at, repeated=False), pending > 0

        upload, drains = self._database.write(work, repeatable=key is not None)
        # The upload is committed: what goes wrong from here on is no fault of it.
        with suppress(Unavailable):
            if drains:
                self.drain(batches=1)
            if not upload.repeated and upload.id % COMPACT_EVERY == 0:
                self.compact()
        return upload

    def clear(self, principal: str = UNKNOWN) -> int:
        """Deletes every record, as `principal` asked; how many there were.

        Uploads keep their keys: a repeat still writes nothing. Decisions are kept, without their notes."""

        def work(connection: Connection) -> int:
            alone(connection)
            connection.run(f"SELECT {entities.ALONE}")
            [[records]] = connection.run("SELECT coalesce(sum(records), 0)::bigint FROM region_change")
            # Readers and verify() lock these in this order too, so none of them can deadlock with it.
            connection.run("TRUNCATE region_change, deferred_membership, customer_membership, record")
            entities.clear(connection)
            connection.run("UPDATE decision SET note = NULL WHERE note IS NOT NULL")
            connection.run(f"INSERT INTO clearing VALUES (clock_timestamp(), {records})")
            note(connection, "clear", principal, records=records)
            return int(records)

        return self._database.write(work, repeatable=False)

    def verify(self) -> Verification:
        """Recomputes membership and counts from the records and mends what differs; what was found."""
        self.sweep()
        self.drain()
        found = self._database.read(_compare_with_records)
        if not found.agreed:
            found = self._database.write(_mend, repeatable=True)
        return found

    # Reading

    def regions(self, by: str = "customer") -> Regions:
        """How many customers, or entities, are in each region that has any. Raises NoRun."""
        return self._database.read(lambda connection: state_of(connection, by).regions)

    def region_page(self, after: tuple[int, int] | None, limit: int, by: str = "customer") -> RegionPage:
        """The regions that have any customers, or entities, the largest first and equal ones by their sources: at most
        `limit` of them, from below the last of a page before. Raises NoRun."""
        state = self._database.read(lambda connection: state_of(connection, by))
        ordered = sets.largest_first(state.regions)
        first = 0
        if after:
            count, sources = after
            place = (-count, sorted(_named(sources, state.names)))
            first = bisect_right(ordered, place, key=lambda region: (-region[1], region[0]))
        page = ordered[first : first + limit]
        more = first + limit < len(ordered)
        return RegionPage(page, len(ordered), (page[-1][1], state.masks[frozenset(page[-1][0])]) if more else None)

    def select(
        self,
        choose: Callable[[Regions], Mapping[str, Collection[Region]]],
        after: Mapping[str, int],
        limit: int,
        by: str = "customer",
    ) -> Selection:
        """Asks `choose` which regions make up each named set of customers, and reads a page of each: at most `limit`
        ids above `after[name]`. Everything in the answer is of one state of the database. `by`: "customer", or "entity"
        for the entities of the active run instead. Raises NoRun where none is."""

        def work(connection: Connection) -> Selection:
            counted = counted_by(connection, by)

            def pages(masks: Mapping[Region, int], pending: bool) -> list[str]:
                return [
                    _ids_query(
                        counted,
                        [masks[region] for region in chosen],
                        len(chosen) == len(masks),
                        after.get(name),
                        limit + 1,
                        pending,
                    )
                    for name, chosen in choose(masks).items()
                ]

            # Which regions there are seldom changes: the pages of those that were there last come with the counts.
            expected = self._masks.get(by, {})
            known = {sources: region for region, sources in expected.items()}
            state, arrays = _ask(connection, counted, pages(expected, pending=False), known)
            if state.pending or state.masks != expected:
                [arrays] = connection.run(f"SELECT {', '.join(pages(state.masks, state.pending))}")
            self._masks[by] = {} if state.pending else state.masks
            found = (Page.of(array, limit) for array in arrays)
            return Selection(state.regions, state.records, dict(zip(choose(state.regions), found, strict=True)))

        return self._database.read(work)

    def records_page(self, after: int | None, limit: int, source: str | None = None) -> tuple[str, int | None]:
        """A page of stored records in id order, above id `after`, as the text of a JSON array; and the id that the
        next page comes after, or None when this is the last. A page ends early at PAGE_BYTES."""
        of_source = f"AND source = (SELECT bit FROM source WHERE name = {text(source)})" if source else ""
        query = records_query(f"id > {after or 0} {of_source} ORDER BY id", limit)
        [[page, last, more]] = self._database.read(lambda connection: connection.run(query))
        return page, int(last) if more else None


def records_query(chosen: str, limit: int) -> str:
    """A query for the records that `chosen` names, conditions and order in SQL: the text of a JSON array of at most
    `limit` of them and at most PAGE_BYTES, the last one's id, and whether more follow."""
    # Materialized, or the text of each record would be made once for its length and once for itself.
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
    connection: Connection, key: str | None, digest: str, accepted: int, principal: str
) -> tuple[Upload, bool, int]:
    """The upload, whether it may fold in what it brings, and about how many rows are pending."""
    created_at = iso("created_at")
    # A concurrent upload with the same key makes this wait for it, and then find its row.
    rows = connection.run(
        f"""WITH begun AS (
            INSERT INTO upload (key, digest, rows, accepted, origin, status, started_at, finished_at)
            VALUES (salted({text(key)}), salted({text(digest if key else None)}), {accepted}, {accepted}, 'api', 'done',
                now(), clock_timestamp())
            ON CONFLICT (key) DO NOTHING RETURNING id, {created_at} AS at
        ), noted AS (
            INSERT INTO audit (action, principal, upload_id, records)
            SELECT 'upload', {text(principal)}, id, {accepted} FROM begun
        ) SELECT id, at, {TRY_MERGE_LOCK}, (SELECT coalesce(max(id) - min(id) + 1, 0) FROM deferred_membership)
            + (SELECT count(*) FROM deferred_match) FROM begun"""
    )
    if rows:
        [[upload_id, at, may_merge, pending]] = rows
        return Upload(upload_id, accepted, None, at, repeated=False), may_merge, pending
    [[upload_id, same, first_accepted, record_id, at]] = connection.run(
        f"""SELECT id, digest = salted({text(digest)}), accepted, record_id, {created_at}
            FROM upload WHERE key = salted({text(key)})"""
    )
    if not same:
        raise KeyReused
    return Upload(upload_id, first_accepted, record_id, at, repeated=True), False, 0


def _store_records(
    connection: Connection, upload_id: int, records: Sequence[Record], bits: Mapping[str, int]
) -> int | None:
    known = known_fields(records)
    columns = ", ".join(("customer_id", "name", "email", "source", "upload_id", *known))
    if len(records) == 1:
        [record] = records
        values = "".join(f", {text(getattr(record, field))}" for field in known)
        [[record_id]] = connection.run(
            f"""WITH stored AS (
                INSERT INTO record ({columns})
                VALUES ({record.customer_id}, {text(record.name)}, {text(record.email)},
                        {bits[record.source]}, {upload_id}{values}) RETURNING id
            ) UPDATE upload SET record_id = stored.id FROM stored WHERE upload.id = {upload_id} RETURNING record_id"""
        )
        return int(record_id)
    # COPY's text format. Tabs and line breaks were refused with the other control characters.
    rows = [
        f"{r.customer_id}\t{copy_text(r.name)}\t{copy_text(r.email)}\t{bits[r.source]}\t{upload_id}" for r in records
    ]
    for field in known:
        rows = [f"{row}\t{copy_text(getattr(r, field))}" for row, r in zip(rows, records, strict=True)]
    rows.append("")
    # One message: a generator of rows is four times slower, and one that raised would hang the connection.
    connection.run(f"COPY record ({columns}) FROM STDIN", stream=["\n".join(rows).encode()])
    return None


def _count_in(connection: Connection, records: Sequence[Record], bits: Mapping[str, int], may_merge: bool) -> None:
    """Adds the records' customers to membership, or to what is pending, and counts the records."""
    sources_of: defaultdict[int, int] = defaultdict(int)
    for record in records:
        sources_of[record.customer_id] |= 1 << bits[record.source]
    customers, sources = zip(*sorted(sources_of.items()), strict=True)
    per_source = Counter(record.source for record in records)
    incoming = f"SELECT * FROM unnest({bigints(customers)}, {bigints(sources)}) AS t (customer_id, sources)"
    counts = f"VALUES {', '.join(f'({1 << bits[source]}, 0, {n})' for source, n in per_source.items())}"
    if may_merge:
        connection.run(f"WITH {merge_changes(incoming, counts)} SELECT")
    else:
        connection.run(
            f"""WITH counted AS (INSERT INTO region_change {counts})
                INSERT INTO deferred_membership (customer_id, sources) {incoming}"""
        )


def state_of(connection: Connection, by: str) -> State:
    """The state of what is counted by "customer" or by "entity". Raises NoRun."""
    return _ask(connection, counted_by(connection, by), [])[0]


def _ask(
    connection: Connection, counted: Counted, scalars: Sequence[str], known: Mapping[int, Region] = NO_REGIONS
) -> tuple[State, list[str]]:
    """The state, and the values of `scalars` (in SQL) in the same round trip. `known`: regions by their bits that were
    there before, so that tens of thousands of them are not made anew."""
    [[changes, names, moving, *values]] = connection.run(_state_query(counted.changes, scalars))
    # Whoever makes something pending counts its records, so there is a change. Entities are never pending.
    pending = counted is CUSTOMERS and moving and bool(changes)
    if pending:
        [[changes, *_]] = connection.run(_state_query("change_now", []))
    names = {1 << int(bit): name for bit, name in (names or {}).items()}
    named = [
        (known.get(sources) or _named(sources, names), sources, customers)
        for sources, customers, _ in changes or ()
        if customers
    ]
    state = State(
        counted,
        {region: customers for region, _, customers in named},
        {region: sources for region, sources, _ in named},
        sum(records for *_, records in changes or ()),
        pending,
        names,
    )
    return state, values


def _named(sources: int, names: Mapping[int, str]) -> Region:
    # By way of a set: it is copied into half of the memory that it has grown to.
    return frozenset({name for bit, name in names.items() if sources & bit})


def _state_query(changes: str, scalars: Sequence[str]) -> str:
    # By the index on id: until they are vacuumed away, rows that were drained are still in the table's pages.
    columns = [
        f"""(SELECT json_agg(json_build_array(sources, customers, records)) FROM (
            SELECT sources, sum(customers) AS customers, sum(records) AS records FROM {changes} GROUP BY {BY_REGION}
        ) AS change)""",
        "(SELECT json_object_agg(bit, name) FROM source)",
        "(SELECT max(id) FROM deferred_membership) IS NOT NULL",
        *scalars,
    ]
    return f"SELECT {', '.join(columns)}"


def _ids_query(
    counted: Counted, selected: Collection[int], everything: bool, after: int | None, limit: int, pending: bool
) -> str:
    """A scalar: the text of the array of the first `limit` ids above `after` in the selected regions."""
    if not selected:
        return "'{}'"
    above = "" if after is None else f"AND {counted.id} > '{after}'::bigint"
    unmoved = (
        "AND NOT EXISTS (SELECT FROM deferred_membership AS p WHERE p.customer_id = m.customer_id)" if pending else ""
    )
    moved = [f"deferred_move WHERE sources = ANY ({bigints(selected)}) {above}"] if pending else []
    if everything:
        scans = [f"{counted.table} AS m WHERE true {above} {unmoved}", *moved]
    elif len(selected) <= MERGED_REGIONS:
        # One ordered index scan per region, merged: a page costs the same at any depth and of any region.
        scans = [*(f"{counted.table} AS m WHERE sources = {sources} {above} {unmoved}" for sources in selected), *moved]
    else:
        scans = [f"({_of_many_regions(counted, selected, after, limit, unmoved)}) AS m WHERE true", *moved]
    # Each scan names its order and limit: without them PostgreSQL reads them whole and sorts.
    union = " UNION ALL ".join(
        f"(SELECT {counted.id} FROM {scan} ORDER BY {counted.id} LIMIT {limit})" for scan in scans
    )
    # As an array and then as text: joining as many strings in SQL takes half as long again.
    return f"ARRAY(SELECT {counted.id} FROM ({union}) AS scans ORDER BY {counted.id} LIMIT {limit})::text"


def _of_many_regions(counted: Counted, selected: Collection[int], after: int | None, limit: int, condition: str) -> str:
    """A query for the first `limit` ids above `after` in so many regions that they can't be merged.

    A few of each region say which id the page ends with at the latest; then each region is read up to that id. So it
    reads about twice the page, and not a page of each region, also where one region has most of the customers."""

    def scan(last: str, most: int) -> str:
        # By rows of (sources, id), in whose order only one index is: with old statistics PostgreSQL would walk another
        # one from end to end for each region.
        key = f"(m.sources, m.{counted.id})"
        above = f">= (mask, '{_FIRST_ID}'::bigint)" if after is None else f"> (mask, '{after}'::bigint)"
        return f"""SELECT m.{counted.id} FROM {counted.table} AS m
            WHERE {key} {above} AND {key} <= (mask, {last}) {condition}
            ORDER BY m.sources, m.{counted.id} LIMIT {most}"""

    few = 2 * -(-limit // len(selected))
    return f"""WITH chosen AS MATERIALIZED (
            SELECT unnest({bigints(selected)}) AS mask
        ), few AS MATERIALIZED (
            SELECT i.{counted.id} AS id FROM chosen CROSS JOIN LATERAL ({scan(f"'{_LAST_ID}'::bigint", few)}) AS i
        ), last AS MATERIALIZED (
            SELECT coalesce((SELECT id FROM few ORDER BY id OFFSET {limit - 1} LIMIT 1), {_LAST_ID}) AS id
        )
        SELECT i.{counted.id} FROM chosen CROSS JOIN LATERAL ({scan("(SELECT id FROM last)", limit)}) AS i"""


_TRUE_MEMBERSHIP = "SELECT customer_id, bit_or(1::bigint << source) AS sources FROM record GROUP BY customer_id"
_TRUE_REGIONS = f"""
    SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records FROM (
        SELECT sources, count(*), 0 FROM true_membership GROUP BY {BY_REGION}
        UNION ALL SELECT 1::bigint << source, 0, count(*) FROM record GROUP BY source
    ) AS part (sources, customers, records) GROUP BY {BY_REGION}"""


def _compare_with_records(connection: Connection) -> Verification:
    # In the order in which clear() locks tables: two that lock in one order can't deadlock.
    [[records, customers, wrong_regions, wrong_customers]] = connection.run(
        f"""WITH kept AS MATERIALIZED (
            SELECT sources, sum(customers)::bigint AS customers, sum(records)::bigint AS records
            FROM change_now GROUP BY {BY_REGION} HAVING sum(customers) <> 0 OR sum(records) <> 0
        ), true_membership AS MATERIALIZED ({_TRUE_MEMBERSHIP}), true_regions AS ({_TRUE_REGIONS})
        SELECT
            (SELECT coalesce(sum(records), 0)::bigint FROM true_regions),
            (SELECT count(*) FROM true_membership),
            (SELECT count(*) FROM true_regions t FULL JOIN kept k USING (sources)
             WHERE (t.customers, t.records) IS DISTINCT FROM (k.customers, k.records)),
            (SELECT count(*) FROM true_membership t FULL JOIN membership_now m USING (customer_id)
             WHERE t.sources IS DISTINCT FROM m.sources)"""
    )
    return Verification(records, customers, wrong_customers, wrong_regions, *entities.wrong(connection))


def _mend(connection: Connection) -> Verification:
    alone(connection)
    found = _compare_with_records(connection)
    connection.run(
        f"""DELETE FROM deferred_membership;
            DELETE FROM customer_membership m WHERE NOT EXISTS (
                SELECT FROM record r WHERE r.customer_id = m.customer_id);
            INSERT INTO customer_membership AS m (customer_id, sources) {_TRUE_MEMBERSHIP}
            ON CONFLICT (customer_id) DO UPDATE SET previous = m.sources, sources = excluded.sources
            WHERE m.sources <> excluded.sources;
            DELETE FROM region_change;
            WITH true_membership AS MATERIALIZED ({_TRUE_MEMBERSHIP}) INSERT INTO region_change {_TRUE_REGIONS}"""
    )
    entities.mend(connection)
    return found
