"""How far entities are resolved: what answers say about it, and requests that wait for the resolver."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.errors import NoRun
from dedup.settings import settings
from dedup.store import Store, change_log, open_store
from dedup.store.locks import CHANGE_LOG_LOCK_EXCLUSIVE
from dedup.store.matching import freshness
from dedup.store.matching.run_tables import RunTables

from tests.conftest import api_event, connect, record, sample_records
from tests.integration.test_matching import Call, matched

NewStore = Callable[..., Store]
EVERYTHING = 1_000_000
DEDUPLICATION = "/api/v1/deduplication"
RECORD = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
OBJECTS = [("analyze", "analyze"), ("compare", "compare-sources"), ("select_customers", "customers")]
"""Questions by customer or entity that are answered with an object: functions and paths."""


@pytest.fixture
def active(store: Store) -> str:
    """The consumer of the active run. It has consumed everything: the sample's records."""
    store.records.add(sample_records())
    consumer = RunTables(matched(store, methods=["rules"])).consumer
    store.change_log.register(consumer)
    consume(store, consumer)
    return consumer


def consume(store: Store, consumer: str, limit: int = EVERYTHING) -> None:
    """Moves a consumer as the resolver does."""
    batch = store.change_log.read(consumer, limit)
    store._database.write(lambda connection: change_log.commit(connection, consumer, batch), repeatable=False)


def run_sql(store: Store, sql: str) -> Any:
    return store._database.write(lambda connection: connection.run(sql), repeatable=False)


def lag(store: Store, consumer: str) -> int:
    [records] = [lag.records for lag in store.change_log.lags() if lag.consumer == consumer]
    return records


@pytest.fixture
def resolver(new_store: NewStore, active: str) -> Iterator[None]:
    """Consumes everything, again and again, on a connection of its own."""
    store, done = new_store(), threading.Event()

    def follow() -> None:
        while not done.wait(0.02):
            consume(store, active)

    thread = threading.Thread(target=follow)
    thread.start()
    yield
    done.set()
    thread.join()


# The status


def test_status_counts_what_is_not_resolved_also_within_a_long_entry(store: Store, active: str) -> None:
    before = store.freshness.status()
    assert (before.unresolved_records, before.oldest_seconds, before.rate) == (0, 0, None)
    assert f"run-{before.run}" == active
    store.records.add([record(n, "hubspot") for n in range(10)])
    store.records.add([record(1, "internal")])

    new = store.freshness.status()
    assert (new.as_of, new.unresolved_records) == (before.as_of, 11)
    assert 0 < new.oldest_seconds < 600
    consume(store, active, 4)
    within = store.freshness.status()
    assert (within.as_of, within.unresolved_records) == (before.as_of, 7)
    consume(store, active, 6)
    assert (store.freshness.status().as_of, store.freshness.status().unresolved_records) == (before.as_of + 1, 1)
    consume(store, active)
    after = store.freshness.status()

    assert (after.as_of, after.unresolved_records, after.oldest_seconds) == (before.as_of + 2, 0, 0)


def test_lag_is_the_sum_of_what_follows_also_of_scattered_ids_and_other_consumers(store: Store, active: str) -> None:
    store.change_log.register("other")
    store.records.add([record(n, "hubspot") for n in range(200, 300)])
    for n in range(200, 300, 3):
        store.customers.erase(n)
    store.records.add([record(1, "internal")])
    left = 100 + 34 + 1
    while left:
        batch = store.change_log.read(active, 7)
        changed = sum(last - first + 1 for _, _, first, last in batch.changes)
        left -= changed
        consume(store, active, 7)
        assert store.freshness.status().unresolved_records == lag(store, active) == left
        assert lag(store, "other") == 135


def test_cleared_entry_has_no_records_and_moves_the_position(store: Store, active: str) -> None:
    before = store.freshness.status().as_of
    store.records.add([record(1, "hubspot")])
    store.records.clear()

    assert store.freshness.status().unresolved_records == lag(store, active) == 1
    assert not store.freshness.wait(store.freshness.head(), 0)
    consume(store, active, 1)
    assert store.freshness.status().unresolved_records == 0
    assert store.freshness.status().oldest_seconds > 0
    consume(store, active)

    assert (store.freshness.status().as_of, store.freshness.status().oldest_seconds) == (before + 2, 0)


def test_status_has_the_rate_of_the_latest_batch(store: Store, active: str) -> None:
    run_sql(store, "UPDATE match_state SET resolver_records = 900, resolver_seconds = 0.5, resolver_at = now()")
    assert store.freshness.status().rate == 1_800
    run_sql(store, "UPDATE match_state SET resolver_seconds = 0")
    assert store.freshness.status().rate is None


def test_status_function_says_the_same(functions: Call, store: Store, active: str) -> None:
    store.records.add([record(1, "internal")])
    answer = functions("matching_status", api_event("GET", "/api/v1/matching/status"))

    status = json.loads(answer["body"])
    assert list(status) == ["run", "model_version", "as_of", "unresolved_records", "oldest_seconds", "rate"]
    version = (store.runs.get(status["run"]) or {})["model"]["version"]
    assert (status["model_version"], status["unresolved_records"], status["rate"]) == (version, 1, None)


def test_without_a_run_there_is_no_status_and_nobody_waits(functions: Call, store: Store) -> None:
    answer = functions("matching_status", api_event("GET", "/api/v1/matching/status"))
    assert answer["statusCode"] == 409
    with pytest.raises(NoRun):
        store.freshness.as_of()
    store.records.add([record(n, "internal") for n in range(settings().automatic_run_below)])

    assert not store.freshness.wait(store.freshness.head(), 600, sleep=never)

    answer = functions("create_customer", api_event("POST", "/api/v1/customers", RECORD, headers={"Prefer": "wait=20"}))
    assert (answer["statusCode"], applied(answer)) == (201, None)


def test_who_waits_before_the_first_run_waits_for_the_one_that_the_resolver_starts(store: Store) -> None:
    assert not store.freshness.wait(store.freshness.head(), 600, sleep=never)
    store.records.add([record(1, "internal")])
    waited: list[float] = []

    assert not store.freshness.wait(store.freshness.head(), 0.05, sleep=waited.append)

    assert waited


def never(seconds: float) -> None:
    raise AssertionError("it must not wait")


# What it costs


def rows_read(plan: dict[str, Any]) -> int:
    """The rows that a plan reads from the change log."""
    own = plan["Actual Rows"] * plan["Actual Loops"] if plan.get("Relation Name") == "record_change" else 0
    return int(own) + sum(map(rows_read, plan.get("Plans", [])))


def test_long_backlog_costs_an_answer_no_more_rows(store: Store, active: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "MAX_COUNTED", 10)
    entry = "INSERT INTO record_change (operation, size, records) SELECT 'updated', 1, '{[1,2)}' FROM"
    run_sql(store, f"{entry} generate_series(1, 3000)")
    store.freshness.head()
    run_sql(store, f"{entry} generate_series(1, 40)")
    run_sql(store, "ANALYZE record_change")
    query = f"SELECT {freshness.as_of(RunTables(int(active.removeprefix('run-'))))}"

    [[[plan]]] = run_sql(store, f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")

    assert rows_read(plan["Plan"]) <= 11
    assert store.freshness.as_of().unresolved_records == 3_010
    assert lag(store, active) == 3_040
    store.freshness.head()
    assert store.freshness.as_of().unresolved_records == 3_040


# Waiting


def test_wait_ends_when_another_connection_has_reached_the_position(
    new_store: NewStore, store: Store, active: str
) -> None:
    other = new_store()
    store.records.add([record(n, "hubspot") for n in range(10)])
    held: list[Any] = []

    def sleep(seconds: float) -> None:
        # The end of a transaction that only read is not waited for.
        time.sleep(0.2)
        held.extend(
            run_sql(
                other,
                """SELECT a.state, l.locktype FROM pg_stat_activity a LEFT JOIN pg_locks l USING (pid)
                   WHERE datname = current_database() AND pid <> pg_backend_pid()
                   AND (a.state <> 'idle' OR l.locktype = 'advisory')""",
            )
        )
        consume(other, active, 6)

    assert store.freshness.wait(store.freshness.head(), 600, sleep)
    assert held == [], "a transaction or a lock was held while waiting"
    assert store.freshness.wait(store.freshness.head(), 600, never)


def test_wait_gives_up_after_its_time(store: Store, active: str) -> None:
    store.records.add([record(1, "internal")])
    begun = time.monotonic()

    assert not store.freshness.wait(store.freshness.head(), 0.2)

    assert time.monotonic() - begun >= 0.2


def test_position_counts_once_the_change_is_committed_and_includes_decisions_of_others(
    new_store: NewStore, store: Store, active: str
) -> None:
    """A transaction that is open when the head is asked for gets a later position."""
    head = store.freshness.head()
    database = new_store()._database

    def write(connection: Any) -> None:
        connection.run("INSERT INTO record_change (operation, size, records) VALUES ('updated', 1, '{[1,2)}')")
        assert store.freshness.head() == head

    database.write(write, repeatable=False)
    assert store.freshness.head() == head + 1


# Answers


def headers(answer: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, [value] in answer["multiValueHeaders"].items()}


def applied(answer: dict[str, Any]) -> str | None:
    return headers(answer).get("Preference-Applied")


@pytest.mark.parametrize(("name", "path"), OBJECTS)
def test_answer_by_entity_says_what_it_contains_and_one_by_customer_does_not(
    functions: Call, store: Store, active: str, name: str, path: str
) -> None:
    def ask(**query: str) -> Any:
        return json.loads(functions(name, api_event("GET", f"{DEDUPLICATION}/{path}", query=query))["body"])

    store.records.add([record(1, "internal"), record(2, "internal")])
    by_entity = ask(by="entity")

    assert (by_entity.pop("as_of"), by_entity.pop("unresolved_records")) == (store.freshness.status().as_of, 2)
    assert list(by_entity) == list(ask()) == list(ask(by="customer"))


def test_lists_say_it_in_headers(functions: Call, store: Store, active: str) -> None:
    store.records.add([record(1, "internal"), record(2, "internal")])
    regions = f"{DEDUPLICATION}/regions"
    names = {"X-As-Of", "X-Unresolved-Records"}

    for answer in (
        functions("regions", api_event("GET", regions, query={"by": "entity"})),
        functions("list_entities", api_event("GET", "/api/v1/entities")),
        functions("list_entities", api_event("GET", "/api/v1/entities", query={"in": "hubspot", "not_in": "hubspot"})),
    ):
        said = headers(answer)
        assert (said["X-As-Of"], said["X-Unresolved-Records"]) == (str(store.freshness.status().as_of), "2")
    assert not names & set(headers(functions("regions", api_event("GET", regions))))


def test_entity_and_lookup_say_it(functions: Call, store: Store, active: str) -> None:
    store.records.add([record(1, "internal"), record(2, "internal")])
    entity = store.entities.of_records([1])[1]
    path = f"/api/v1/entities/{entity}"
    shown = functions("show_entity", api_event("GET", path, parameters={"entity_id": str(entity)}))
    found = functions("look_up_entity", api_event("POST", "/api/v1/entities/lookup", {"email": "c101@example.com"}))

    for answer in (shown, found):
        body = json.loads(answer["body"])
        assert (body["as_of"], body["unresolved_records"]) == (store.freshness.status().as_of, 2)


def test_report_says_how_many_records_wait(functions: Call, store: Store, active: str) -> None:
    def report() -> str:
        return str(functions("report", api_event("GET", f"{DEDUPLICATION}/report"))["body"])

    assert "wait to be matched" not in report()
    store.records.add([record(1, "internal")])
    assert "Not included yet: 1 changed records, which wait to be matched." in report()


# Requests that wait


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(("name", "path"), [*OBJECTS, ("regions", "regions")])
def test_question_by_entity_waits_for_what_was_committed_before_it(
    functions: Call, store: Store, active: str, name: str, path: str
) -> None:
    def ask(**query: str) -> dict[str, Any]:
        return functions(
            name, api_event("GET", f"{DEDUPLICATION}/{path}", query=query, headers={"Prefer": "respond-async, wait=19"})
        )

    store.records.add([record(1, "internal")])
    answer = ask(by="entity")

    assert applied(answer) == "wait=19"
    assert store.freshness.status().unresolved_records == 0
    assert applied(ask()) is None


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(
    ("name", "method", "path", "body", "parameters"),
    [
        ("create_customer", "POST", "/api/v1/customers", RECORD, None),
        ("bulk_upload", "POST", "/api/v1/customers/bulk", {"customers": [RECORD]}, None),
        ("clear", "DELETE", "/api/v1/customers", None, None),
        ("erase_customer", "DELETE", "/api/v1/customers/101", None, {"customer_id": "101"}),
        ("delete_upload", "DELETE", "/api/v1/uploads/1", None, {"upload_id": "1"}),
        ("decide", "POST", "/api/v1/matching/decisions", {"record_ids": [1, 2], "verdict": "different"}, None),
    ],
)
def test_operation_that_writes_waits_until_it_is_resolved(
    functions: Call, store: Store, name: str, method: str, path: str, body: Any, parameters: Any
) -> None:
    event = api_event(method, path, body, headers={"prefer": "wait=30"}, parameters=parameters)

    answer = functions(name, event)

    assert (answer["statusCode"] < 300, applied(answer)) == (True, "wait=20")
    assert store.freshness.status().as_of == store.freshness.head()


def test_request_is_answered_when_the_time_is_over(functions: Call, store: Store, active: str) -> None:
    def ask(prefer: str) -> dict[str, Any]:
        event = api_event("POST", "/api/v1/customers/bulk", {"customers": [RECORD]}, headers={"Prefer": prefer})
        return functions("bulk_upload", event)

    plain, late = ask("wait=soon"), ask("wait=1")

    assert (late["statusCode"], applied(late), applied(plain)) == (201, None, None)
    assert json.loads(late["body"])["message"] == json.loads(plain["body"])["message"]
    asked = api_event("GET", f"{DEDUPLICATION}/analyze", query={"by": "entity"}, headers={"Prefer": "wait=1"})
    answer = functions("analyze", asked)
    assert (json.loads(answer["body"])["unresolved_records"], applied(answer)) == (2, None)


def test_refused_request_does_not_wait(functions: Call, store: Store, active: str) -> None:
    store.records.add([record(1, "internal")])
    prefer = {"Prefer": "wait=20"}
    for name, event in {
        "bulk_upload": api_event("POST", "/api/v1/customers/bulk", {"customers": 1}, headers=prefer),
        "analyze": api_event("GET", f"{DEDUPLICATION}/analyze", query={"By": "entity"}, headers=prefer),
    }.items():
        answer = functions(name, event)
        assert (answer["statusCode"], applied(answer)) == (422, None)

    assert run_sql(store, "SELECT count(*) FROM record_change WHERE position IS NULL") == [[1]]


def test_upload_is_answered_as_stored_if_the_database_fails_while_it_waits(
    functions: Call, store: Store, active: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DB_STATEMENT_TIMEOUT", "0.5")
    settings.cache_clear()
    open_store.cache_clear()
    event = api_event("POST", "/api/v1/customers", RECORD, headers={"Prefer": "wait=20"})
    with closing(connect()) as other:
        other.run(f"BEGIN; SELECT {CHANGE_LOG_LOCK_EXCLUSIVE}")
        answer = functions("create_customer", event)

    assert (answer["statusCode"], applied(answer)) == (201, None)
    assert len(json.loads(store.records.page(None, 100)[0])) == 13
