"""Region counts and set questions: what is answered from membership and counts, whatever the number of records."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pg8000.native import Connection

from dedup import sets
from dedup.sets import Region, Regions, SetQuery
from dedup.store.connection import Database
from dedup.store.matching.run_tables import require_active_run
from dedup.store.region_counts import CUSTOMERS, Counted
from dedup.store.sql import BY_REGION, bigints

MERGED_REGIONS = 100
"""Regions up to which each has an index scan of its own in a query, and PostgreSQL merges them. The planner takes 25 µs
for each, more from some 200 on, and from some 9,000 on its stack is exceeded."""

NO_REGIONS: Mapping[int, Region] = MappingProxyType({})

_FIRST_ID, _LAST_ID = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Page:
    """Ids in ascending order, as the text of a JSON array; the last of them, None if there is none; and whether more
    follow."""

    json: str
    last: int | None
    more: bool

    @classmethod
    def of(cls, array: str, limit: int) -> "Page":
        """The first `limit` ids of the text of PostgreSQL's array. They stay text: to read, check and write them as
        numbers in Python takes longer than finding them."""
        ids = array[1:-1]
        more = ids.count(",") >= limit
        if more:
            ids = ids.rpartition(",")[0]
        return cls(f"[{ids}]", int(ids.rpartition(",")[2]) if ids else None, more)


@dataclass(frozen=True)
class Selection:
    """One state of the database: the regions and their customers, the number of records, and for each named question
    one page of customer ids."""

    regions: Regions
    records: int
    pages: Mapping[str, Page]

    def next_positions(self, after: Mapping[str, int]) -> dict[str, int] | None:
        """What the next page comes after, list by list; None if no list has more."""
        if not any(page.more for page in self.pages.values()):
            return None
        return {**after, **{name: page.last for name, page in self.pages.items() if page.last is not None}}


@dataclass(frozen=True)
class RegionPage:
    """Regions, each with its sources and its count, the largest first; how many regions there are in all, and what the
    next page comes after: the count of the last region here and the bits of its sources. None if this is the last."""

    regions: list[tuple[list[str], int]]
    total: int
    last: tuple[int, int] | None


@dataclass(frozen=True)
class State:
    """One state of what is counted: the customers (or entities) of each region that has any, the bits that stand for
    it, the number of records, and whether any change is deferred. `names`: the sources by their bits' values."""

    counted: Counted
    regions: dict[Region, int]
    masks: dict[Region, int]
    records: int
    deferred: bool
    names: Mapping[int, str]

    @property
    def membership(self) -> str:
        """The table, or the view with deferred changes, that says which sources each customer has."""
        return self.counted.membership_now if self.deferred else self.counted.membership


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
        return RegionPage(page, len(ordered), (page[-1][1], state.masks[frozenset(page[-1][0])]) if more else None)

    def select(
        self, queries: Mapping[str, SetQuery], after: Mapping[str, int], limit: int, by: str = "customer"
    ) -> Selection:
        """A page for each named question: at most `limit` customer ids above `after[name]`. The whole answer is of one
        state of the database. `by`: "customer", or "entity" for the entities of the active run. Raises NoRun if there
        is none."""

        def work(connection: Connection) -> Selection:
            counted = counted_by(connection, by)

            def pages(masks: Mapping[Region, int], deferred: bool) -> list[str]:
                return [
                    _ids_query(counted, query.select(masks), masks, after.get(name), limit + 1, deferred)
                    for name, query in queries.items()
                ]

            # The regions seldom change: the pages of those seen last are read together with the counts.
            expected = self._masks.get(by, {})
            known = {sources: region for region, sources in expected.items()}
            state, arrays = _ask(connection, counted, pages(expected, deferred=False), known)
            if state.deferred or state.masks != expected:
                [arrays] = connection.run(f"SELECT {', '.join(pages(state.masks, state.deferred))}")
            self._masks[by] = {} if state.deferred else state.masks
            found = (Page.of(array, limit) for array in arrays)
            return Selection(state.regions, state.records, dict(zip(queries, found, strict=True)))

        return self._database.read(work)


def counted_by(connection: Connection, by: str) -> Counted:
    """What a question by "customer" or by "entity" counts. Raises NoRun."""
    return CUSTOMERS if by == "customer" else require_active_run(connection).counted


def state_of(connection: Connection, by: str) -> State:
    """The state of what is counted by "customer" or by "entity". Raises NoRun."""
    return _ask(connection, counted_by(connection, by), [])[0]


def _ask(
    connection: Connection, counted: Counted, scalars: Sequence[str], known: Mapping[int, Region] = NO_REGIONS
) -> tuple[State, list[str]]:
    """The state, and the values of `scalars` (in SQL) in the same round trip. `known`: regions seen before, by their
    bits, so that tens of thousands of them are not built again."""
    [[changes, names, moving, *values]] = connection.run(_state_query(counted.changes, scalars))
    # Whoever defers a change counts its records, so there is a row of changes.
    deferred = counted.deferrable and moving and bool(changes)
    if deferred:
        [[changes, *_]] = connection.run(_state_query(counted.changes_now, []))
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
    )
    return state, values


def _named(sources: int, names: Mapping[int, str]) -> Region:
    # A frozenset made of a set is copied into half of the memory that the set has grown to.
    return frozenset({name for bit, name in names.items() if sources & bit})


def _state_query(changes: str, scalars: Sequence[str]) -> str:
    # max(id) uses the index: until they are vacuumed away, rows that were merged are still in the table's pages.
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
    counted: Counted,
    chosen: Collection[Region],
    masks: Mapping[Region, int],
    after: int | None,
    limit: int,
    deferred: bool,
) -> str:
    """A scalar: the text of the array of the first `limit` ids above `after` in the chosen regions, of those in
    `masks`."""
    if not chosen:
        return "'{}'"
    selected = [masks[region] for region in chosen]
    above = "" if after is None else f"AND {counted.id} > '{after}'::bigint"
    unmoved = (
        "AND NOT EXISTS (SELECT FROM deferred_membership AS p WHERE p.customer_id = m.customer_id)" if deferred else ""
    )
    moved = [f"deferred_move WHERE sources = ANY ({bigints(selected)}) {above}"] if deferred else []
    if len(chosen) == len(masks):
        scans = [f"{counted.membership} AS m WHERE true {above} {unmoved}", *moved]
    elif len(selected) <= MERGED_REGIONS:
        # One ordered index scan per region, merged: a page costs the same at any depth and for any region.
        scans = [*(f"{counted.membership} AS m WHERE sources = {mask} {above} {unmoved}" for mask in selected), *moved]
    else:
        scans = [f"({_of_many_regions(counted, selected, after, limit, unmoved)}) AS m WHERE true", *moved]
    # Each scan names its order and limit: without them PostgreSQL reads it whole and sorts.
    union = " UNION ALL ".join(
        f"(SELECT {counted.id} FROM {scan} ORDER BY {counted.id} LIMIT {limit})" for scan in scans
    )
    # As an array and then as text: joining as many strings in SQL takes half as long again.
    return f"ARRAY(SELECT {counted.id} FROM ({union}) AS scans ORDER BY {counted.id} LIMIT {limit})::text"


def _of_many_regions(counted: Counted, selected: Collection[int], after: int | None, limit: int, condition: str) -> str:
    """A query for the first `limit` ids above `after` in so many regions that their scans can't be merged.

    A few ids of each region tell the last id that the page can have; then each region is read up to that id. So it
    reads about twice the page, not a page of each region, even if one region has most of the customers."""

    def scan(last: str, most: int) -> str:
        # Compares rows of (sources, id), an order that only one index has: with old statistics PostgreSQL would walk
        # another one from end to end for each region.
        key = f"(m.sources, m.{counted.id})"
        above = f">= (mask, '{_FIRST_ID}'::bigint)" if after is None else f"> (mask, '{after}'::bigint)"
        return f"""SELECT m.{counted.id} FROM {counted.membership} AS m
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
