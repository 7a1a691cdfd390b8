"""Set questions, pages, exports and the report where 63 sources make many thousands of regions.

One database for all tests here. Its statistics are old: they say that all customers are in one region."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from dedup.api.pagination import cursor_question, encode_cursor
from dedup.matching.settings import Settings
from dedup.services import exports
from dedup.sets import Region
from dedup.settings import settings
from dedup.store import Store, open_store
from dedup.store.change_log import logged
from dedup.store.matching.run_tables import RunTables
from dedup.store.region_counts import CUSTOMERS, INTEGERS, Counted, count_changes, gain
from dedup.store.set_questions import _ids_query, state_of
from dedup.store.sql import BY_REGION

from local.postgres import Postgres
from local.postgres import Settings as DatabaseSettings
from tests.conftest import api_event, budget, connect, lambda_context, load_function, record
from tests.integration.test_pending import MERGE
from tests.integration.test_report import Page, from_csv

SOURCES = [f"source_{number:02}" for number in range(63)]
REGIONS = budget(20_000, 50_000)
"""With 10,000, a grouping by sets whose hashes are equal fits in memory (see BY_REGION)."""
LARGE = 10_000
"""Customers of the first region beyond its first; each of the others has one customer."""

ONE = SOURCES[5]
API = "/api/v1/deduplication"


def _regions_of() -> dict[int, Region]:
    """The region of each customer: sets of up to four sources, each once, and that of all sources."""
    chance, found = random.Random(63), {frozenset(SOURCES): None}
    while len(found) < REGIONS:
        found[frozenset(chance.sample(SOURCES, chance.randint(1, 4)))] = None
    regions = list(found)
    chance.shuffle(regions)
    return {who: regions[who - 1 if who <= REGIONS else 0] for who in range(1, REGIONS + LARGE + 1)}


@pytest.fixture(scope="module")
def region_of() -> dict[int, Region]:
    return _regions_of()


@pytest.fixture(scope="module")
def filled(postgres: Postgres, region_of: Mapping[int, Region]) -> Iterator[DatabaseSettings]:
    database = postgres.create_database("many_regions")
    with pytest.MonkeyPatch.context() as environment:
        _lead_to(database, environment)
        open_store().schema.migrate()
        open_store().close()
    with closing(database.connect()) as owner:
        _fill(owner, region_of)
    yield database
    settings.cache_clear()
    open_store.cache_clear()


def _lead_to(database: DatabaseSettings, environment: pytest.MonkeyPatch) -> None:
    for name, value in {**database.environment(), "SOURCES": ",".join(SOURCES)}.items():
        environment.setenv(name, value)
    settings.cache_clear()
    open_store.cache_clear()


def _fill(owner: Any, region_of: Mapping[int, Region]) -> None:
    tables = RunTables(1)
    tables.create(owner)
    owner.run("BEGIN")
    bits = {source: bit for bit, source in enumerate(SOURCES)}
    owner.run(f"INSERT INTO source VALUES {', '.join(f'({bit}, {source!r})' for source, bit in bits.items())}")
    rows = (
        f"{who}\t{bits[source]}\t1\tCustomer {who}\tc{who}@example.com\n"
        for who, region in region_of.items()
        for source in sorted(region)
    )
    owner.run("COPY record (customer_id, source, upload_id, name, email) FROM STDIN", stream=["".join(rows).encode()])
    owner.run(
        f"""INSERT INTO {tables.member} (record_id, entity_id, source, customer_id)
            SELECT id, customer_id, source, customer_id FROM record"""
    )
    owner.run(f"WITH {logged('inserted', 'record')} SELECT")
    owner.run("INSERT INTO customer_membership SELECT DISTINCT customer_id, 1 FROM record")
    owner.run(f"INSERT INTO {tables.membership.table} SELECT customer_id, 1, 0, count(*) FROM record GROUP BY 1")
    owner.run(
        f"""ALTER TABLE {tables.member} ADD PRIMARY KEY (record_id);
            CREATE INDEX ON {tables.member} (entity_id);
            CREATE INDEX ON {tables.membership.table} (sources, entity_id); ANALYZE"""
    )
    for counted in (CUSTOMERS, tables.counted):
        membership = counted.memberships[0]
        owner.run(f"ALTER TABLE {membership.table} SET (autovacuum_enabled = off)")
        owner.run(
            f"""UPDATE {membership.table} AS m SET sources = r.sources FROM (
                    SELECT customer_id, bit_or(1::bigint << source) AS sources FROM record GROUP BY 1
                ) AS r WHERE r.customer_id = m.{membership.id}"""
        )
        owner.run(
            f"""INSERT INTO {counted.changes} SELECT sources, count(*), 0 FROM {membership.table} GROUP BY {BY_REGION}
                UNION ALL SELECT 1::bigint << source, 0, count(*) FROM record GROUP BY 1"""
        )
    told = json.dumps(Settings.over({"methods": ["rules"]}).model_dump(mode="json"))
    owner.run(
        f"""INSERT INTO upload (origin, status, rows, accepted) SELECT 'api', 'done', count(*), count(*) FROM record;
            INSERT INTO match_run (status, engine, settings, model, kept, finished_at)
            VALUES ('done', 'duckdb', '{told}', '{{"waived": []}}', true, now());
            UPDATE match_state SET active_run = 1"""
    )
    owner.run("COMMIT")


@pytest.fixture
def many(environment: pytest.MonkeyPatch, filled: DatabaseSettings) -> Iterator[Store]:
    _lead_to(filled, environment)
    yield open_store()
    open_store().close()


@pytest.fixture
def get(many: Store) -> Callable[..., dict[str, Any]]:
    def get(function: str, path: str, **query: Any) -> dict[str, Any]:
        event = api_event("GET", f"{API}/{path}", query=query)
        answer: dict[str, Any] = load_function(function).handler(event, lambda_context(function))
        assert answer["statusCode"] == 200, answer["body"][:500]
        return answer

    return get


def link(answer: dict[str, Any]) -> str | None:
    links = answer["multiValueHeaders"].get("Link")
    return links[0].split("cursor=")[1].split(">")[0] if links else None


QUESTIONS: dict[str, Callable[[Region], bool]] = {
    "in": lambda region: ONE in region,
    "not_in": lambda region: ONE not in region,
}


@pytest.mark.parametrize(
    ("question", "limit", "by"),
    [("not_in", 1_000, "customer"), ("not_in", 10_000, "entity"), ("in", 7, "entity"), ("in", 300, "customer")],
)
def test_set_question_of_many_regions_lists_every_customer_in_order(
    get: Any, region_of: Mapping[int, Region], question: str, limit: int, by: str
) -> None:
    expected = [who for who, region in region_of.items() if QUESTIONS[question](region)]
    assert len({region_of[who] for who in expected}) > REGIONS // 30
    query = {question: ONE, "limit": limit, "by": by}

    first = get("select_customers", "customers", **query)
    second = get("select_customers", "customers", **query, cursor=link(first))

    found = [json.loads(answer["body"]) for answer in (first, second)]
    assert [page["customer_ids"] for page in found] == [expected[:limit], expected[limit : 2 * limit]]
    assert {page["count"] for page in found} == {len(expected)}


def statement(store: Store, counted: Counted, chosen: Callable[[Region], bool], after: int | None, limit: int) -> str:
    """The statement by which a page of a set question's ids is read."""
    by = "customer" if counted is CUSTOMERS else "entity"
    masks = store._database.read(lambda connection: state_of(connection, by)).masks
    return _ids_query(counted.memberships[0], [r for r in masks if chosen(r)], masks, after, limit, False)


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A node of a plan and all below it."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def rows_of(node: Mapping[str, Any]) -> int:
    """The rows that a node read."""
    return int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


@pytest.mark.parametrize("counted", [CUSTOMERS, RunTables(1).counted], ids=["customers", "entities"])
@pytest.mark.parametrize("after", [None, REGIONS // 2])
def test_page_of_many_regions_reads_twice_the_page_by_the_index_on_regions(
    many: Store, region_of: Mapping[int, Region], counted: Counted, after: int | None
) -> None:
    limit, chosen = 1_000, QUESTIONS["not_in"]
    query = statement(many, counted, chosen, after, limit)

    rows = many._database.read(lambda connection: connection.run(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"))

    read = [node for node in nodes(rows[0][0][0]["Plan"]) if "Relation Name" in node]
    assert {node["Node Type"] for node in read} == {"Index Only Scan"}
    regions = len({region for region in region_of.values() if chosen(region)})
    # Its rows are means of all loops, with two digits.
    assert sum(map(rows_of, read)) <= 2 * regions + 3 * limit


def test_deferred_customers_are_in_the_pages_of_many_regions(
    get: Any, many: Store, region_of: Mapping[int, Region]
) -> None:
    new, moved = REGIONS + LARGE + 1, next(who for who, region in region_of.items() if ONE not in region)
    with closing(connect()) as outside:
        outside.run("BEGIN")
        outside.run(f"SELECT pg_advisory_xact_lock({MERGE})")
        upload = many.records.add([record(new, "source_01"), record(moved, ONE)])
        outside.run("ROLLBACK")
    expected = [who for who, region in region_of.items() if ONE not in region and who != moved] + [new]

    try:
        near = encode_cursor(
            {"ids": REGIONS + 5}, cursor_question(f"customers in [] not in {[ONE]} region []", "customer")
        )
        last = get("select_customers", "customers", not_in=ONE, limit=10_000, cursor=near)
        first = get("select_customers", "customers", **{"in": ONE, "limit": 10})
    finally:
        many.uploads.delete(upload.id)

    assert json.loads(last["body"])["count"] == len(expected)
    assert json.loads(last["body"])["customer_ids"] == [who for who in expected if who > REGIONS + 5]
    assert json.loads(first["body"])["customer_ids"][0] == moved


@pytest.mark.parametrize("by", ["customer", "entity"])
def test_analyze_and_compare_count_every_region(get: Any, region_of: Mapping[int, Region], by: str) -> None:
    analysis = json.loads(get("analyze", "analyze", limit=100, by=by)["body"])
    comparison = json.loads(get("compare", "compare-sources", limit=100, by=by)["body"])

    assert analysis["total_records"] == sum(map(len, region_of.values()))
    assert analysis["unique_customers"] == len(region_of)
    assert analysis["unique_customer_ids"] == list(range(1, 101))
    for source in SOURCES:
        assert comparison[f"{source}_count"] == sum(source in region for region in region_of.values())
        assert comparison[f"only_in_{source}"] == [who for who, region in region_of.items() if region == {source}]
    assert comparison["in_all_sources"] == [who for who, region in region_of.items() if len(region) == len(SOURCES)]


def test_pages_of_regions_give_each_region_once_the_largest_first(get: Any, region_of: Mapping[int, Region]) -> None:
    counts = Counter(region_of.values())
    expected = sorted(((sorted(region), count) for region, count in counts.items()), key=lambda r: (-r[1], r[0]))

    first = [get("regions", "regions", by=by) for by in ("customer", "entity")]
    walked = [get("regions", "regions", limit=REGIONS // 5)]
    while cursor := link(walked[-1]):
        walked.append(get("regions", "regions", limit=REGIONS // 5, cursor=cursor))

    def listed(answer: dict[str, Any]) -> list[tuple[list[str], int]]:
        return [(one["sources"], one["count"]) for one in json.loads(answer["body"])]

    assert [listed(answer) for answer in first] == [expected[:1_000]] * 2
    assert [region for page in walked for region in listed(page)] == expected
    assert {page["multiValueHeaders"]["X-Total-Count"][0] for page in [*first, *walked]} == {str(REGIONS)}


@pytest.mark.parametrize("by", ["customer", "entity"])
def test_export_of_many_regions_has_every_record(
    many: Store,
    s3: Any,
    environment: pytest.MonkeyPatch,
    filled: DatabaseSettings,
    region_of: Mapping[int, Region],
    by: str,
) -> None:
    _lead_to(filled, environment)
    export, _ = many.exports.create(json.dumps({"not_in": [ONE], "by": by}), "ndjson")

    assert exports.write(export, many, lambda: 900.0) == "done"

    body = s3.get_object(Bucket="uploads", Key=f"exports/export-{export}.ndjson")["Body"].read()
    rows = [json.loads(line) for line in body.splitlines()]
    expected = [(who, source) for who, region in region_of.items() if ONE not in region for source in sorted(region)]
    assert [(row["customer_id"], row["source"]) for row in rows] == expected
    assert all(row["sources"] == sorted(region_of[row["customer_id"]]) for row in rows)


def test_report_of_many_regions_shows_the_largest_and_the_sum_of_the_others(
    get: Any, many: Store, region_of: Mapping[int, Region]
) -> None:
    many.reports.keep_baseline()
    kept = many.reports.baseline()

    page = Page(get("report", "report", format="html")["body"])
    lines = from_csv(get("report", "report", format="csv"))

    others = f"{REGIONS - 1_000:,} other regions"
    for title, counted in (("Overlap", "Customers"), ("Overlap by person", "People")):
        rows = page.tables[title][1:]
        assert [int(row[1].replace(",", "")) for row in rows] == [LARGE + 1, *[1] * 999, REGIONS - 1_000]
        assert rows[-1] == [others, f"{REGIONS - 1_000:,}", f"{(REGIONS - 1_000) / len(region_of):.1%}", "0"]
        assert (lines[title, others, counted], lines[title, others, "Change"]) == (str(REGIONS - 1_000), "0")
    assert kept
    assert kept.regions == kept.people == Counter(region_of.values())
    [[size]] = many._database.read(lambda connection: connection.run("SELECT length(figures::text) FROM report"))
    assert size < 80 * REGIONS


def test_verify_of_many_regions_finds_that_they_agree(many: Store, region_of: Mapping[int, Region]) -> None:
    found = many.maintenance.verify()

    assert found.agreed
    assert (found.customers, found.entities) == (len(region_of), len(region_of))


def test_customers_of_many_regions_that_move_are_counted_in_memory(many: Store) -> None:
    """PostgreSQL's hash takes many sets of 63 sources for one: a grouping by it made 16,000 batches, in 40 s."""
    incoming = f"SELECT customer_id, {1 << 62}::bigint AS sources FROM {INTEGERS.table}"
    with closing(connect()) as outside:
        outside.run("SET statement_timeout = '60s'; BEGIN")
        changes = f"{gain(INTEGERS, incoming)}, {count_changes(CUSTOMERS)}"
        rows = outside.run(f"EXPLAIN (ANALYZE, FORMAT JSON) WITH {changes} SELECT")
        outside.run("ROLLBACK")

    found = [node for node in nodes(rows[0][0][0]["Plan"]) if node["Node Type"] == "Aggregate"]
    assert max(node["Actual Rows"] for node in found) > REGIONS
    assert max(node.get("HashAgg Batches", 1) for node in found) < 20
