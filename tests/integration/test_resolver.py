"""The resolver, on real PostgreSQL and DuckDB: what it writes is what a full run with the same model version finds."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import boto3
import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.aws import queues
from dedup.errors import Conflict
from dedup.records import Fields, Record
from dedup.settings import settings as database_settings
from dedup.store import Store, change_log
from dedup.store.matching.resolving import Resolving
from dedup.store.matching.run_tables import EDGE_COLUMNS, MEMBER_COLUMNS, REVIEW_COLUMNS, RunTables
from dedup.store.sql import text
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jobs.matching import resolver, runs
from jobs.matching.resolver import Resolver, work
from tests.conftest import FULL, budget
from tests.integration.test_faults import FAULTS, until_done
from tests.integration.test_incremental import BIRTHS, EMAILS, NAMES, PHONES, POSTCODES, TIGHT
from tests.integration.test_matching import RULES, matched, people, person
from tests.proxy import Proxy
from tests.resolving import resolve

Found = dict[str, Any]


def found(store: Store, run: int) -> Found:
    """What the tables of a run say, without the ids of entities."""
    tables = RunTables(run)

    def rows(table: str, columns: tuple[str, ...]) -> list[Any]:
        asked = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(columns)}"
        result: list[Any] = store._database.read(lambda connection: connection.run(asked))
        return result

    together = defaultdict(set)
    for record, entity in rows(tables.member, ("record_id", "entity_id")):
        together[entity].add(record)
    return {
        "partition": sorted(map(sorted, together.values())),
        "members": rows(tables.member, tuple(column for column in MEMBER_COLUMNS if column != "entity_id")),
        "edges": rows(tables.edge, EDGE_COLUMNS),
        "review": rows(tables.review, REVIEW_COLUMNS),
        "decisions": rows(tables.decision, ("record_a", "record_b", "verdict")),
    }


def full_run(store: Store, model_of: int) -> int:
    run, _ = store.runs.create({}, None, "", model_of=model_of, activate=False)
    assert runs.run(run, store) == "done", store.runs.get(run)
    return run


def of_customer(customer_id: int) -> Any:
    return st.fixed_dictionaries(
        {
            "customer_id": st.just(customer_id),
            "source": st.sampled_from(["salesforce", "hubspot"]),
            "name": st.sampled_from([name or "Unknown" for name in NAMES]),
            "email": st.sampled_from([email or "none@x.example" for email in EMAILS]),
        },
        optional={
            "phone": st.sampled_from([phone for phone in PHONES if phone]),
            "date_of_birth": st.sampled_from([birth for birth in BIRTHS if birth]),
            "postcode": st.sampled_from([code for code in POSTCODES if code]),
        },
    )


record = st.integers(1, 5).flatmap(of_customer)
numbers = st.integers(0, 20)
step = st.one_of(
    st.tuples(st.just("upload"), st.lists(record, min_size=1, max_size=6)),
    st.tuples(st.just("change"), st.tuples(numbers, record)),
    st.tuples(st.just("delete"), numbers),
    st.tuples(st.just("erase"), st.integers(1, 5)),
    st.tuples(st.just("decide"), st.tuples(numbers, numbers, st.sampled_from(["same", "different"]))),
    st.tuples(st.just("revoke"), numbers),
    st.tuples(st.just("resolve"), st.integers(1, 5)),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("clear"), st.none()),
)


class History:
    """Does the steps of a history to a store, whose active run is resolved by one resolver that may be killed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.resolver = Resolver(store)

    def ids(self, asked: str) -> list[int]:
        rows = self.store._database.read(lambda connection: connection.run(asked))
        return [one for [one] in rows]

    def one(self, asked: str, number: int) -> int | None:
        ids = self.ids(asked)
        return ids[number % len(ids)] if ids else None

    def upload(self, rows: list[dict[str, Any]]) -> None:
        self.store.records.add([Record(**row).fields() for row in rows])

    def change(self, what: tuple[int, dict[str, Any]]) -> None:
        """As a snapshot changes a record."""
        changed = self.one("SELECT id FROM record ORDER BY id", what[0])
        fields: Fields = Record(**what[1]).fields()
        columns = ("name", "email", "phone", "date_of_birth", "postcode")
        values = ", ".join(f"{column} = {text(fields.get(column) and str(fields[column]))}" for column in columns)

        def work(connection: Any) -> None:
            connection.run(
                f"""WITH changed AS (UPDATE record SET {values} WHERE id = {changed} RETURNING id),
                    {change_log.logged_one("updated", "changed")} SELECT"""
            )

        if changed:
            self.store._database.write(work, repeatable=False)

    def delete(self, number: int) -> None:
        upload = self.one("SELECT DISTINCT upload_id FROM record ORDER BY 1", number)
        if upload:
            self.store.uploads.delete(upload)

    def erase(self, customer_id: int) -> None:
        self.store.customers.erase(customer_id)

    def decide(self, what: tuple[int, int, str]) -> None:
        both = {self.one("SELECT id FROM record ORDER BY id", number) for number in what[:2]} - {None}
        if len(both) == 2:
            self.store.decisions.decide([one for one in both if one], what[2], None, "me")

    def revoke(self, number: int) -> None:
        decision = self.one("SELECT id FROM decision ORDER BY id", number)
        with suppress(Conflict):
            if decision:
                self.store.decisions.revoke(decision, "me")

    def resolve(self, batch: int) -> None:
        resolver.BATCH = batch
        run = self.store.runs.active()
        assert run
        self.resolver.step(run)

    def resolve_all(self) -> None:
        resolver.BATCH = 10_000
        run = self.store.runs.active()
        assert run
        while self.resolver.step(run):
            pass

    def kill(self, _: None) -> None:
        self.resolver.close()

    def clear(self, _: None) -> None:
        self.store.records.clear()


@settings(
    max_examples=budget(3, 300),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(step, min_size=5, max_size=25), trained=st.lists(record, min_size=1, max_size=8))
def test_any_history_leads_to_what_a_full_run_finds(
    store: Store, monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, Any]], trained: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(resolver, "BATCH", resolver.BATCH)
    store.records.clear()
    history = History(store)
    history.upload(trained)
    active = matched(store, **TIGHT)

    for name, what in steps:
        getattr(history, name)(what)
    if not history.ids("SELECT id FROM record LIMIT 1"):
        # A run needs records.
        history.upload(trained)
    # The run moves decisions about records that are gone to others of their customers.
    whole = full_run(store, active)
    history.resolve_all()

    resolved = found(store, active)
    assert resolved == found(store, whole)
    verified = store.maintenance.verify()
    assert verified.agreed, verified
    # A new process makes the same state of what is stored.
    history.resolver.close()
    change_all = store._database.write(
        lambda connection: change_log.append_updated(connection, range(1, 200)), repeatable=True
    )
    assert change_all is None
    history.resolve_all()
    assert found(store, active) == resolved
    history.resolver.close()


@pytest.fixture
def proxy(environment: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made = Proxy(database_settings().db_host, database_settings().db_port)
    yield made
    made.close()


@pytest.mark.parametrize("turn", range(len(FAULTS)) if FULL else [0])
def test_resolver_cut_at_every_step_loses_and_doubles_nothing(
    new_store: Callable[..., Store], proxy: Proxy, turn: int
) -> None:
    """Each time with a state that is made anew, and with a resolver that goes on or dies."""
    direct = new_store()
    direct.records.add(people()[:20])
    active = matched(direct, **RULES)
    for step in count(turn, 1 if FULL else 11):
        proxied = new_store(db_port=proxy.port)
        direct.records.add(
            [person(step, "hubspot"), person(step, "salesforce"), person(1, "internal", name=f"N{step}")]
        )
        if step % 2:
            direct.customers.erase(step - 1)
        proxy.plan(step, FAULTS[step % len(FAULTS)])
        with Resolver(proxied) as one:
            until_done(partial(exhaust, one, active))
        happened = proxy.happened
        proxy.forget()
        proxied.close()
        exhaust(Resolver(direct), active)
        verified = direct.maintenance.verify()
        assert verified.agreed, (step, verified)
        assert [lag.records for lag in verified.consumers] == [0], step
        if not happened:
            assert step > 30
            break

    assert found(direct, active) == found(direct, full_run(direct, active))


def test_change_that_a_clear_overtakes_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.records.add(people()[:20])
    active = matched(store, **RULES)
    store.records.add(people()[20:])
    write, clears = Resolving.write, [store.records.clear]

    def after_a_clear(self: Resolving, *found: Any) -> None:
        if clears:
            clears.pop()()
        write(self, *found)
        assert store.maintenance.verify().agreed

    monkeypatch.setattr(Resolving, "write", after_a_clear)
    with Resolver(store) as one:
        assert one.step(active) == 40
        assert found(store, active)["members"] == []
        store.records.add(people()[:7])
        exhaust(one, active)

    assert found(store, active) == found(store, full_run(store, active))


def exhaust(one: Resolver, run: int) -> None:
    while one.step(run):
        pass


@pytest.fixture
def enqueued(s3: Any, environment: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Takes the runs from the queue of runs."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="matches")["QueueUrl"]
    environment.setenv("MATCH_QUEUE", url)
    database_settings.cache_clear()
    queues.client.cache_clear()

    def enqueued() -> list[int]:
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"])["run"] for message in messages]

    return enqueued


def worked(store: Store) -> int:
    """What the function does, by how many records it resolved."""
    return work(store, lambda: 900.0).records


def test_first_run_needs_nobody_and_another_follows_when_the_records_have_doubled(
    store: Store, enqueued: Callable[[], list[int]], environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(resolver, "AWAKE_SECONDS", 0.0)
    worked(store)
    assert enqueued() == []

    store.records.add(people()[:10])
    worked(store)
    worked(store)
    [first] = enqueued()
    assert runs.run(first, store) == "done"
    shown = store.runs.get(first)
    assert shown
    assert (shown["active"], shown["automatic"], shown["records"]) == (True, True, 10)
    assert worked(store) == 0

    store.records.add(people()[10:19])
    assert (worked(store), enqueued()) == (9, [])
    store.records.add(people()[19:20])
    assert worked(store) == 1
    [second] = enqueued()
    assert not store.freshness.wait(store.freshness.head(), 0)
    assert runs.run(second, store) == "done"
    assert store.freshness.wait(store.freshness.head(), 0)

    # A run that somebody made active stays.
    store.runs.activate(first)
    store.records.add(people()[20:])
    assert worked(store) == 40
    assert enqueued() == []
    assert found(store, first)["partition"] == found(store, full_run(store, first))["partition"]


def test_many_records_need_somebody_who_starts_the_first_run(store: Store, enqueued: Callable[[], list[int]]) -> None:
    store.records.add([person(n, "hubspot") for n in range(database_settings().automatic_run_below)])
    worked(store)
    assert enqueued() == []


def test_large_backlog_is_left_to_a_run_with_the_same_model_version(
    store: Store, enqueued: Callable[[], list[int]], environment: pytest.MonkeyPatch
) -> None:
    for name, value in {"BATCH": 5, "WHOLE_FROM": 20, "AWAKE_SECONDS": 0.0}.items():
        environment.setattr(resolver, name, value)
    store.records.add(people()[:20])
    active = matched(store)

    store.records.add(people()[20:])
    assert worked(store) == 0
    assert worked(store) == 0
    [run] = enqueued()
    assert runs.run(run, store) == "done"

    shown = store.runs.get(run)
    assert shown
    assert (shown["active"], shown["model_of"], shown["records"]) == (True, active, 60)
    assert worked(store) == 0
    assert enqueued() == []


def test_only_one_process_resolves_at_a_time(new_store: Callable[..., Store]) -> None:
    one, other = new_store(), new_store()
    assert one.resolving.take_lease("one")
    assert not other.resolving.take_lease("other")
    assert one.resolving.take_lease("one")
    one.records.add(people()[:4])
    matched(one, **RULES)
    one.records.add(people()[4:8])
    assert worked(other) == 0
    assert other.resolving.backlog().records == 4

    one.resolving.release_lease("other")
    assert not other.resolving.take_lease("other")
    one.resolving.release_lease("one")
    assert worked(other) == 4


def test_decisions_that_contradict_each_other_are_reported(store: Store) -> None:
    store.records.add([person(n, "hubspot") for n in (1, 2, 3)])
    a, b, c = (one["id"] for one in json.loads(store.records.page(None, 10)[0]))
    store.decisions.decide([a, b], "same", None, "me")
    assert [one["applied"] for one in store.decisions.page(None, 10)] == [None]
    matched(store, **RULES)
    store.decisions.decide([b, c], "same", None, "me")
    store.decisions.decide([a, c], "different", None, "me")
    assert [one["applied"] for one in store.decisions.page(None, 10)] == [True, False, True]

    resolve(store)

    apart, *same = [one["applied"] for one in store.decisions.page(None, 10)]
    assert (apart, sorted(same)) == (True, [False, True])
    for decision in store.decisions.page(None, 10):
        if decision["applied"] is False:
            store.decisions.revoke(decision["id"], "me")
    resolve(store)
    assert [one["applied"] for one in store.decisions.page(None, 10) if not one["revoked_at"]] == [True, True]
