"""Region counts and set questions: what is answered from membership and counts, whatever the number of records."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pg8000.native import Connection

from dedup import sets
from dedup.customer_ids import LARGEST, LAST_TEXT, SMALLEST, CustomerId
from dedup.sets import Region, Regions, SetQuery
from dedup.store.connection import Database
from dedup.store.customer_columns import literal
from dedup.store.matching.freshness import AsOf, as_of
from dedup.store.matching.run_tables import RunTables, require_active_run
from dedup.store.region_counts import CUSTOMERS, TEXTS, Counted, Membership
from dedup.store.sql import BY_REGION, PAGE_BYTES, bigints

MERGED_REGIONS = 100
"""Regions up to which each has an index scan of its own in a query, and PostgreSQL merges them. The planner takes 25 µs
for each, more from some 200 on, and from some 9,000 on its stack is exceeded."""

NO_REGIONS: Mapping[int, Region] = MappingProxyType({})


@dataclass(frozen=True)
class Page:
    """Ids in the order of customer_ids.order(), as the text of a JSON array; the last of them, None if there is none;
    and whether more follow."""

    json: str
    last: CustomerId | None
    more: bool

    @classmethod
    def of(cls, array: str, limit: int) -> "Page":
        """The first `limit` ids of the text of PostgreSQL's array of integers. They stay text: to read, check and write
        them as numbers in Python takes longer than finding them."""
        ids = array[1:-1]
        more = ids.count(",") >= limit
        if more:
            ids = ids.rpartition(",")[0]
        return cls(f"[{ids}]", int(ids.rpartition(",")[2]) if ids else None, more)

    @property
    def count(self) -> int:
        """The number of ids, if all of them are integers."""
        return self.json.count(",") + (self.last is not None)

    def with_texts(self, ids: str | None, last: str | None, more: bool) -> "Page":
        """The page with text ids after its own: JSON strings separated by commas."""
        if not ids:
            return replace(self, more=more)
        return Page(f"{self.json[:-1]}{',' if self.last is not None else ''}{ids}]", last, more)


@dataclass(frozen=True)
class Selection:
    """One state of the database: the regions and their customers, the number of records, and for each named question
    one page of customer ids; and how far entities are resolved, if these are what is counted."""

    regions: Regions
    records: int
    pages: Mapping[str, Page]
    resolved: AsOf | None

    def next_positions(self, after: Mapping[str, CustomerId]) -> dict[str, CustomerId] | None:
        """What the next page comes after, list by list; None if no list has more."""
        if not any(page.more for page in self.pages.values()):
            return None
        return {**after, **{name: page.last for name, page in self.pages.items() if page.last is not None}}


@dataclass(frozen=True)
class RegionPage:
    """Regions, each with its sources and its count, the largest first; how many regions there are in all, and what the
    next page comes after: the count of the last region here and the bits of its sources. None if this is the last.
    `resolved`: as in State."""

    regions: list[tuple[list[str], int]]
    total: int
    last: tuple[int, int] | None
    resolved: AsOf | None


@dataclass(frozen=True)
class State:
    """One state of what is counted: the customers (or entities) of each region that has any, the bits that stand for
    it, the number of records, and whether any change is deferred. `names`: the sources by their bits' values. `texts`:
    whether any customer id in the database is a text. `resolved`: how far entities are resolved, None for
    customers."""

    counted: Counted
    regions: dict[Region, int]
    masks: dict[Region, int]
    records: int
    deferred: bool
    names: Mapping[int, str]
    texts: bool
    resolved: AsOf | None


class Questions:
    """Set questions about the customers, or the entities of the active run, of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._masks: dict[str, Mapping[Region, int]] = {}

    def counts(self, by: str = "customer") -> Regions:
        """How many customers, or entities, are in each region that has any. Raises NoRun."""
        return self._database.read(lambda connection: state_of(connection, by).regions)

    def region_page(self, after: tuple[int, int] | None, limit: int, by: str = "customer") -> RegionPage:
        """The regions that have any customers, or entities, the largest first, regions of equal size by their sources:
        at most `limit`, after the last one of the page before. Raises NoRun."""
        state = self._database.read(lambda connection: state_of(connection, by))
        ordered = sets.largest_first(state.regions)
        first = 0
        if after:
            count, sources = after
            position = (-count, sorted(_named(sources, state.names)))
            first = bisect_right(ordered, position, key=lambda region: (-region[1], region[0]))
        page = ordered[first : first + limit]
        more = first + limit < len(ordered)
        last = (page[-1][1], state.masks[frozenset(page[-1][0])]) if more else None
        return RegionPage(page, len(ordered), last, state.resolved)

    def select(
        self, queries: Mapping[str, SetQuery], after: Mapping[str, CustomerId], limit: int, by: str = "customer"
    ) -> Selection:
        """A page for each named question: at most `limit` customer ids after `after[name]`, and about PAGE_BYTES of
        text ids in all. The whole answer is of one state of the database. `by`: "customer", or "entity" for the
        entities of the active run. Raises NoRun if there is none."""

        def work(connection: Connection) -> Selection:
            run = counted_by(connection, by)
            [numbers, *others] = (run.counted if run else CUSTOMERS).memberships

            def pages(masks: Mapping[Region, int], deferred: bool) -> list[str]:
                return [
                    "'{}'"
                    if isinstance(position, str)
                    else _array(_ids_query(numbers, query.select(masks), masks, position, limit + 1, deferred))
                    for query, position in asked
                ]

            asked = [(query, after.get(name)) for name, query in queries.items()]
            # The regions seldom change: the pages of those seen last are read together with the counts.
            expected = self._masks.get(by, {})
            known = {sources: region for region, sources in expected.items()}
            state, arrays = _ask(connection, run, pages(expected, deferred=False), known)
            if state.deferred or state.masks != expected:
                [arrays] = connection.run(f"SELECT {', '.join(pages(state.masks, state.deferred))}")
            self._masks[by] = {} if state.deferred else state.masks
            found = [Page.of(array, limit) for array in arrays]
            if state.texts and others:
                found = _with_texts(connection, others[0], state, asked, found, limit)
            return Selection(state.regions, state.records, dict(zip(queries, found, strict=True)), state.resolved)

        return self._database.read(work)


def _with_texts(
    connection: Connection,
    membership: Membership,
    state: State,
    asked: Sequence[tuple[SetQuery, CustomerId | None]],
    pages: Sequence[Page],
    limit: int,
) -> list[Page]:
    """The pages of integers, filled up with text ids."""
    scalars = []
    for (query, position), page in zip(asked, pages, strict=True):
        chosen = query.select(state.masks)
        if page.more or not chosen:
            scalars.append("NULL")
            continue
        left = limit - page.count
        after = position if isinstance(position, str) else None
        ids = _ids_query(membership, chosen, state.masks, after, left + 1, state.deferred)
        most = max(PAGE_BYTES // len(pages) - len(page.json), 0)
        scalars.append(_text_page(membership, ids, left, most, at_least=0 if page.count else 1))
    [texts] = connection.run(f"SELECT {', '.join(scalars)}")
    return [page.with_texts(*found) if found else page for page, found in zip(pages, texts, strict=True)]


def counted_by(connection: Connection, by: str) -> RunTables | None:
    """The run whose entities a question by "entity" counts; None for one by "customer". Raises NoRun."""
    return None if by == "customer" else require_active_run(connection)


def state_of(connection: Connection, by: str) -> State:
    """The state of what is counted by "customer" or by "entity". Raises NoRun."""
    return _ask(connection, counted_by(connection, by), [])[0]


def _ask(
    connection: Connection, run: RunTables | None, scalars: Sequence[str], known: Mapping[int, Region] = NO_REGIONS
) -> tuple[State, list[str]]:
    """The state of customers, or of the entities of a run, and the values of `scalars` (in SQL) in the same round trip.
    `known`: regions seen before, by their bits, so that tens of thousands of them are not built again."""
    counted, resolved = (run.counted, as_of(run)) if run else (CUSTOMERS, "NULL")
    [[changes, names, moving, texts, found, *values]] = connection.run(
        _state_query(counted.changes, TEXTS.table, [resolved, *scalars])
    )
    # Whoever defers a change counts its records, so there is a row of changes.
    deferred = counted.deferrable and moving and bool(changes)
    if deferred:
        [[changes, _, _, texts]] = connection.run(_state_query(counted.changes_now, TEXTS.now, []))
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
        deferred,
        names,
        texts,
        AsOf.of(found) if run else None,
    )
    return state, values


def _named(sources: int, names: Mapping[int, str]) -> Region:
    # A frozenset made of a set is copied into half of the memory that the set has grown to.
    return frozenset({name for bit, name in names.items() if sources & bit})


def _state_query(changes: str, texts: str, scalars: Sequence[str]) -> str:
    # max(id) uses the index: until they are vacuumed away, rows that were merged are still in the table's pages.
    columns = [
        f"""(SELECT json_agg(json_build_array(sources, customers, records)) FROM (
            SELECT sources, sum(customers) AS customers, sum(records) AS records FROM {changes} GROUP BY {BY_REGION}
        ) AS change)""",
        "(SELECT json_object_agg(bit, name) FROM source)",
        "(SELECT max(id) FROM deferred_membership) IS NOT NULL",
        f"EXISTS (SELECT FROM {texts})",
        *scalars,
    ]
    return f"SELECT {', '.join(columns)}"


def _ids_query(
    membership: Membership,
    chosen: Collection[Region],
    masks: Mapping[Region, int],
    after: CustomerId | None,
    limit: int,
    deferred: bool,
) -> str:
    """A query for the first `limit` ids after `after` in the chosen regions, of those in `masks`, in order."""
    customer = membership.id
    if not chosen:
        return f"SELECT {customer} FROM {membership.table} WHERE false"
    selected = [masks[region] for region in chosen]
    above = "" if after is None else f"AND {customer} > {literal(after)}"
    unmoved = (
        f"AND NOT EXISTS (SELECT FROM deferred_membership AS p WHERE p.{customer} = m.{customer})" if deferred else ""
    )
    moved = [f"{membership.moves} WHERE sources = ANY ({bigints(selected)}) {above}"] if deferred else []
    if len(chosen) == len(masks):
        scans = [f"{membership.table} AS m WHERE true {above} {unmoved}", *moved]
    elif len(selected) <= MERGED_REGIONS:
        # One ordered index scan per region, merged: a page costs the same at any depth and for any region.
        scans = [*(f"{membership.table} AS m WHERE sources = {mask} {above} {unmoved}" for mask in selected), *moved]
    else:
        scans = [f"({_of_many_regions(membership, selected, after, limit, unmoved)}) AS m WHERE true", *moved]
    # Each scan names its order and limit: without them PostgreSQL reads it whole and sorts.
    union = " UNION ALL ".join(f"(SELECT {customer} FROM {scan} ORDER BY {customer} LIMIT {limit})" for scan in scans)
    return f"SELECT {customer} FROM ({union}) AS scans ORDER BY {customer} LIMIT {limit}"


def _array(ids: str) -> str:
    """A scalar: the integers that a query finds, as the text of an array."""
    # As an array and then as text: joining as many strings in SQL takes half as long again.
    return f"ARRAY({ids})::text"


def _text_page(membership: Membership, ids: str, limit: int, most: int, at_least: int) -> str:
    """A scalar: a JSON array with what Page.with_texts() takes, for the first of the text ids that a query finds: at
    most `limit`, and `most` bytes, but `at_least` so many."""
    customer = membership.id
    return f"""(WITH page AS MATERIALIZED ({ids}), measured AS (
            SELECT {customer}, to_json({customer})::text AS line, row_number() OVER w AS place,
                sum(octet_length(to_json({customer})::text) + 1) OVER w AS bytes
            FROM page WINDOW w AS (ORDER BY {customer})
        ), fitting AS (
            SELECT * FROM measured WHERE place <= {limit} AND (bytes <= {most} OR place <= {at_least})
        )
        SELECT json_build_array(string_agg(line, ',' ORDER BY {customer}), max({customer}),
            (SELECT count(*) FROM page) > count(*)) FROM fitting)"""


def _of_many_regions(
    membership: Membership, selected: Collection[int], after: CustomerId | None, limit: int, condition: str
) -> str:
    """A query for the first `limit` ids after `after` in so many regions that their scans can't be merged.

    A few ids of each region tell the last id that the page can have; then each region is read up to that id. So it
    reads about twice the page, not a page of each region, even if one region has most of the customers."""
    customer = membership.id
    first, final = (literal(bound) for bound in (("", LAST_TEXT) if membership is TEXTS else (SMALLEST, LARGEST)))

    def scan(last: str, most: int) -> str:
        # Compares rows of (sources, id), an order that only one index has: with old statistics PostgreSQL would walk
        # another one from end to end for each region.
        key = f"(m.sources, m.{customer})"
        above = f">= (mask, {first})" if after is None else f"> (mask, {literal(after)})"
        return f"""SELECT m.{customer} FROM {membership.table} AS m
            WHERE {key} {above} AND {key} <= (mask, {last}) {condition}
            ORDER BY m.sources, m.{customer} LIMIT {most}"""

    few = 2 * -(-limit // len(selected))
    return f"""WITH chosen AS MATERIALIZED (
            SELECT unnest({bigints(selected)}) AS mask
        ), few AS MATERIALIZED (
            SELECT i.{customer} AS id FROM chosen CROSS JOIN LATERAL ({scan(final, few)}) AS i
        ), last AS MATERIALIZED (
            SELECT coalesce((SELECT id FROM few ORDER BY id OFFSET {limit - 1} LIMIT 1), {final}) AS id
        )
        SELECT i.{customer} FROM chosen CROSS JOIN LATERAL ({scan("(SELECT id FROM last)", limit)}) AS i"""
