"""Runs of the matching, entities and decisions, on real PostgreSQL and DuckDB."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import combinations
from itertools import count as numbers
from types import ModuleType
from typing import Any

import boto3
import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.api.models.entities import LookupRecord
from dedup.aws import queues
from dedup.errors import Busy, Conflict, KeyReused, NoRun, Superseded
from dedup.matching.golden import golden
from dedup.matching.rules import IDENTITY, survivorship_of
from dedup.matching.settings import Settings
from dedup.records import Fields, Record
from dedup.services.lookup import look_up
from dedup.sets import EVERYBODY, count
from dedup.settings import settings
from dedup.store import Store, snapshots
from dedup.store.matching import decisions, successors
from dedup.store.matching import entities as store_entities
from dedup.store.matching import runs as store_runs
from dedup.store.matching.entities import SHOWN
from dedup.store.matching.resolving import Tables
from dedup.store.matching.run_tables import MEMBER_COLUMNS, all_runs, is_representative
from dedup.store.matching.runs import Results, RunAttempt, Snapshot
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs.matching import resolver, runs
from jobs.matching.model import Model
from tests.conftest import ROOT, api_event, budget
from tests.integration.test_functions import AFTER_A_RUN
from tests.resolving import resolve

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
PEOPLE = json.loads((ROOT / "samples" / "people.json").read_text())["customers"]
RULES = {"methods": ["rules"]}
"""Settings of runs that only have to be runs: the model takes most of the time."""


def people() -> list[Fields]:
    return [Record(**one).fields() for one in PEOPLE]


def person(customer_id: int, source: str, **fields: Any) -> Fields:
    plain = {"name": f"Person{customer_id} Family{customer_id}", "email": f"p{customer_id}@example.com"}
    return Record(**{"customer_id": customer_id, "source": source, **plain, **fields}).fields()


def matched(store: Store, **asked: Any) -> int:
    run, _ = store.runs.create(asked, None, "")
    assert runs.run(run, store) == "done", store.runs.get(run)
    return run


def members(store: Store) -> dict[int, set[int]]:
    """The records of every entity."""
    found: dict[int, set[int]] = {}
    last = None
    while True:
        page = store.entities.page(EVERYBODY, last, 1000, 1)
        for entity in page.entities:
            found[entity["id"]] = {one["id"] for one in entity["records"]}
            last = entity["id"]
        if not page.more:
            return found


def together(store: Store) -> set[frozenset[int]]:
    return {frozenset(records) for records in members(store).values()}


def agrees(store: Store) -> None:
    """Membership, counts and members are what the records say."""
    found = store.maintenance.verify()
    assert found.agreed, found
    assert count(store.questions.counts("entity")) == found.entities == len(members(store))


def agrees_with_a_full_run(store: Store) -> None:
    """The same, and the entities are those that a run with the model version of the active one finds, which replaces
    it."""
    agrees(store)
    resolved = together(store)
    run, _ = store.runs.create({}, None, "", model_of=store.runs.require_active())
    assert runs.run(run, store) == "done", store.runs.get(run)
    assert together(store) == resolved
    agrees(store)


# Records that repeat others

MANY = 61
"""More than any constraint allows records that share a value."""


def test_a_record_that_comes_every_night_stays_one_person(store: Store) -> None:
    """In a run, and in what comes after it, however it comes; and whoever shares its email still finds it."""
    ada = person(1, "hubspot", name="Ada Quarterman", email="ada@example.com")
    store.records.add([ada] * MANY)
    matched(store, **RULES)
    assert together(store) == {frozenset(range(1, MANY + 1))}

    store.records.add([ada] * MANY)
    store.records.add([ada])
    store.records.add([person(9, "salesforce", name="Ada Quarterman", email="ada@example.com")])
    resolve(store)
    last = 2 * MANY + 2
    assert together(store) == {frozenset(range(1, last + 1))}
    agrees_with_a_full_run(store)


@pytest.mark.parametrize("count", [15, MANY, 300])
def test_as_many_records_as_there_are_of_one_person_are_one_in_a_run_and_after_it(store: Store, count: int) -> None:
    """Those that say the same under ids of their own, and those of one customer that all say something else."""

    def same(first: int) -> list[Fields]:
        said = {"name": "Ada Quarterman", "email": "ada@example.com"}
        return [person(n, "hubspot", **said) for n in range(first, first + count)]

    def changing(first: int) -> list[Fields]:
        otto = {"name": "Otto Sato", "city": "Rome"}
        return [person(7, "internal", email=f"otto{n}@example.com", **otto) for n in range(first, first + count)]

    def people() -> set[frozenset[str]]:
        return {frozenset(one["name"] for one in store.entities.records([entity])[entity]) for entity in members(store)}

    store.records.add([*same(100), *changing(100)])
    matched(store)
    assert (len(members(store)), people()) == (2, {frozenset({"Ada Quarterman"}), frozenset({"Otto Sato"})})

    store.records.add([*same(1000), *changing(1000)])
    store.records.add(same(2000)[:1])
    store.records.add([person(7, "internal", name="Otto Sato", email="new@example.com")])
    store.records.add([person(1, "salesforce", name="Ada Quarterman", email="ada@example.com", city="Oslo")])
    resolve(store)
    assert (len(members(store)), people()) == (2, {frozenset({"Ada Quarterman"}), frozenset({"Otto Sato"})})
    agrees(store)
    asked = LookupRecord(customer_id=7, source="internal", name="Nobody Known", email="nobody@example.com")
    assert [match["rule"] for match in look_up(asked.model_dump(), store)] == ["same_id"]

    store.decisions.decide([1, 2], "different", None, "me")
    resolve(store)
    assert len(members(store)) == 3
    agrees_with_a_full_run(store)


def test_exact_duplicate_is_found_among_very_many_records_of_one_email_and_name(store: Store) -> None:
    """So many that a rule says nothing of any two of them."""
    crowd = [
        person(n, "hubspot", name="Ada Quarterman", email="ada@example.com", city=f"Town {n}")
        for n in range(1, 5 * MANY)
    ]
    store.records.add(crowd[:1])
    matched(store, **RULES)
    store.records.add(crowd[1:])
    last = len(crowd)

    store.records.add([{**crowd[n], "customer_id": 1000 + n} for n in (0, last // 2, last - 1)])
    resolve(store)

    pairs = {frozenset({first, last + n}) for n, first in enumerate((1, last // 2 + 1, last), 1)}
    assert {records for records in together(store) if len(records) > 1} == pairs
    agrees_with_a_full_run(store)


def test_of_very_many_records_those_that_say_something_and_the_latest_are_shown(functions: Call, store: Store) -> None:
    ada = person(1, "hubspot", name="Ada Quarterman", email="ada@example.com")
    store.records.add([ada])
    store.records.add([person(9, "salesforce", name="Ada Quarterman", email="ada@example.com", city="Paris")])
    matched(store, **RULES)
    store.records.add([ada] * (SHOWN + 100))
    resolve(store)
    [entity] = members(store)

    path = f"/api/v1/entities/{entity}"
    answer = functions("show_entity", api_event("GET", path, parameters={"entity_id": str(entity)}))

    whole = json.loads(answer["body"])
    last = SHOWN + 102
    assert whole["total_records"] == last
    assert [record["id"] for record in whole["records"]] == [1, 2, *range(last - SHOWN + 3, last + 1)]
    assert whole["golden"]["city"]["value"] == "Paris"
    answer = functions("list_entities", api_event("GET", "/api/v1/entities"))
    [summary] = json.loads(answer["body"])
    assert (summary["records"], summary["customer_ids"]) == (last, [1, 9])


def test_a_page_of_entities_with_very_many_records_ends_earlier(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.records.add([person(n, "hubspot") for n in range(1, 6)] * 4)
    matched(store, **RULES)
    every = sorted(members(store))
    monkeypatch.setattr(store_entities, "PAGE_RECORDS", 11)

    pages, last, more = [], None, True
    while more:
        page = store.entities.page(EVERYBODY, last, 1000, 1)
        pages.append([entity["id"] for entity in page.entities])
        last, more = pages[-1][-1], page.more

    assert pages == [every[:2], every[2:4], every[4:]]


def test_an_answer_that_lambda_does_not_give_is_refused_with_the_reason(
    functions: Call, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.records.add(people())
    matched(store, **RULES)
    monkeypatch.setattr("dedup.api.app.MAX_BODY_BYTES", 2_000)
    answer = functions("list_entities", api_event("GET", "/api/v1/entities", query={"limit": "30"}))
    assert answer["statusCode"] == 422
    assert json.loads(answer["body"])["detail"][0]["loc"] == ["query", "limit"]
    assert functions("list_entities", api_event("GET", "/api/v1/entities", query={"limit": "2"}))["statusCode"] == 200


def test_exact_duplicate_remains_when_its_representative_is_removed(store: Store) -> None:
    first = person(1, "hubspot", name="Ada Quarterman", email="ada@example.com")
    store.records.add([first])
    store.records.add([person(9, "salesforce", name="Ada Quarterman", email="ada@example.com")])
    matched(store, **RULES)
    store.records.add([first] * 3)
    resolve(store)

    [*_, upload] = store.uploads.page(None, 10)
    store.uploads.delete(upload.id)
    resolve(store)

    assert together(store) == {frozenset({2, 3, 4, 5})}
    store.records.add([person(7, "internal", name="Ada Quarterman", email="ada@example.com"), first])
    resolve(store)
    assert together(store) == {frozenset({2, 3, 4, 5, 6, 7})}
    agrees_with_a_full_run(store)


def test_decision_splits_exact_duplicates(store: Store) -> None:
    store.records.add([person(1, "hubspot")] * 4)
    matched(store, **RULES)

    store.decisions.decide([1, 3], "different", None, "me")
    resolve(store)

    assert together(store) == {frozenset({1, 2, 4}), frozenset({3})}
    agrees_with_a_full_run(store)


def test_entity_keeps_its_id_where_most_of_its_records_are_as_in_a_run(store: Store) -> None:
    ann = {"name": "Ann Lee", "email": "ann@example.com"}
    store.records.add([person(1, "hubspot", **ann)] + [person(7, "internal", **ann)] * 3)
    matched(store, **RULES)
    [entity] = members(store)

    made = store.decisions.decide([1, 2], "different", None, "me")
    resolve(store)

    assert members(store)[entity] == {2, 3, 4}
    before = members(store)
    matched(store, **RULES)
    assert members(store) == before
    store.decisions.revoke(made["id"], "me")
    resolve(store)
    assert members(store) == {entity: {1, 2, 3, 4}}
    agrees(store)


def test_run_without_match_rules_joins_by_no_rule(store: Store) -> None:
    store.records.add([person(1, "hubspot"), person(1, "hubspot")])
    matched(store, methods=["model"], thresholds={"match": 900, "confident": 900})
    store.records.add([person(1, "hubspot")])
    resolve(store)
    assert together(store) == {frozenset({1}), frozenset({2}), frozenset({3})}


# Runs


def test_before_the_first_run_there_are_no_entities(store: Store) -> None:
    store.records.add(people())
    for ask in (lambda: store.questions.counts("entity"), lambda: store.review.page(1), lambda: store.entities.get(1)):
        with pytest.raises(NoRun):
            ask()
    assert store.maintenance.verify().agreed


def test_a_run_finds_who_is_one_and_counts_them(store: Store) -> None:
    store.records.add(people())
    run = matched(store)
    told = store.runs.get(run)
    assert told is not None
    found = members(store)
    assert (told["status"], told["active"], told["engine"], told["progress"]) == ("done", True, "duckdb", 1)
    assert (told["records"], told["entities"]) == (60, len(found))
    assert told["model"]["version"]
    assert sum(bar["pairs"] for bar in told["histogram"]) == told["pairs"]
    assert set().union(*found.values()) == set(range(1, 61))
    assert len(found) < len({record["customer_id"] for record in people()})
    agrees(store)


def test_the_same_people_keep_their_ids_in_the_next_run(store: Store) -> None:
    store.records.add(people())
    first = matched(store)
    before = members(store)
    second = matched(store)
    assert members(store) == before
    changes = store.runs.changes(second, first)
    assert changes == {"merged": [], "split": [], "merged_count": 0, "split_count": 0}


DEFAULTS = Settings.over(RULES).model_dump(mode="json")
MODEL = Model.load().model_dump(mode="json")


def load(
    store: Store, claim: RunAttempt, *members: tuple[int, int, str], slow: Callable[[], None] = lambda: None
) -> None:
    """Loads a run that found members: record, entity and source, of customer 1."""

    class Lines(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            slow()
            return super().readinto(buffer)

    known = len(("record_id", "entity_id", *IDENTITY, "given"))
    blank = "," * (len(MEMBER_COLUMNS) - known)
    rows = [f"{record},{entity},{source},1,given{blank}\n" for record, entity, source in members]
    tables = Tables(Lines("".join(rows).encode()), *(io.BytesIO() for _ in range(4)))
    store.runs.load(claim, tables, Results(DEFAULTS, MODEL, "duckdb", 0, [], []))


def begun(store: Store) -> tuple[RunAttempt, Snapshot]:
    run, _ = store.runs.create(RULES, None, "")
    claim = store.runs.claim(run, 60)
    assert claim
    return claim, store.runs.read_records(io.BytesIO(), io.BytesIO())


def test_a_run_that_began_earlier_replaces_none(store: Store) -> None:
    store.records.add([person(1, "hubspot")])
    claim, reading = begun(store)
    late = matched(store, **RULES)
    before = members(store)

    load(store, claim, (1, 999, "hubspot"))
    store.runs.finish(claim, reading)

    [one, other] = store.runs.page(None, 2)
    assert (one["id"], one["active"]) == (late, True)
    assert (other["id"], other["status"], other["active"]) == (claim.id, "done", False)
    assert members(store) == before
    agrees(store)


def test_a_lease_is_renewed_while_a_run_is_loaded(store: Store) -> None:
    store.records.add([person(1, "hubspot")])
    claim, _ = begun(store)
    beside = store.with_own_connection()
    load(store, claim, (1, 999, "hubspot"), slow=lambda: beside.runs.progress(claim, "load", 0.9, None))
    beside.close()
    assert [told["progress"] for told in store.runs.page(None, 1)] == [pytest.approx(0.9)]


def test_an_attempt_that_was_overtaken_while_it_loads_leaves_nothing(store: Store) -> None:
    store.records.add([person(1, "hubspot")])
    claim, _ = begun(store)
    beside = store.with_own_connection()

    def overtake() -> None:
        beside.tasks.queues_lost(workers=True)
        assert beside.runs.claim(claim.id, 60)

    with pytest.raises(Superseded):
        load(store, claim, (1, 999, "hubspot"), slow=overtake)
    beside.close()
    assert store._database.read(all_runs) == []


def test_record_added_during_a_run_keeps_its_entity(store: Store) -> None:
    store.records.add([person(1, "hubspot")])
    matched(store, **RULES)
    [first] = members(store)
    claim, reading = begun(store)
    store.records.add([person(2, "hubspot"), person(3, "internal"), person(2, "hubspot")])
    resolve(store)
    before = members(store)

    load(store, claim, (1, first, "hubspot"))
    resolver.follow(store, claim.id, lambda: 900)
    store.runs.finish(claim, reading)

    assert store.runs.require_active() == claim.id
    assert members(store) == before
    agrees(store)


def test_a_decision_that_a_run_just_missed_holds_in_it(
    new_store: Callable[..., Store], after_a_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made before the run reads, and committed after that."""
    other, original = new_store(), decisions.set_pairs
    claims: list[tuple[RunAttempt, Snapshot]] = []

    def meanwhile(*args: Any) -> None:
        claims.append(begun(other))
        original(*args)

    monkeypatch.setattr(decisions, "set_pairs", meanwhile)
    after_a_run.decisions.decide([1, 2], "different", None, "ops")
    [(claim, reading)] = claims
    one = after_a_run.entities.of_records([4])[4]
    load(other, claim, *[(record, one, "hubspot") for record in (1, 2, 3, 4)])
    other.runs.finish(claim, reading)
    resolve(other)

    found = after_a_run.entities.of_records([1, 2])
    assert found[1] != found[2]


def test_entities_that_a_decision_made_while_a_run_worked_keep_their_ids(
    new_store: Callable[..., Store], after_a_run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, original = new_store(), after_a_run.runs.load

    def meanwhile(*args: Any) -> None:
        other.decisions.decide([1, 2], "different", None, "ops")
        resolve(other)
        original(*args)

    monkeypatch.setattr(after_a_run.runs, "load", meanwhile)
    matched(after_a_run, **RULES)
    [run] = [told for told in after_a_run.runs.page(None, 10) if told["active"]]
    [[first]] = after_a_run._database.read(lambda c: c.run("SELECT min(id) FROM match_run"))
    made = after_a_run._database.read(
        lambda c: dict(c.run(f"SELECT record_id, entity_id FROM matching.member_{first} WHERE record_id IN (1, 2)"))
    )
    assert run["id"] != first
    assert len(set(made.values())) == 2
    assert after_a_run.entities.of_records([1, 2]) == made
    agrees(after_a_run)


def test_decision_is_applied_with_the_constraints_of_the_run(store: Store) -> None:
    """Where nobody shares a home, nothing keeps two given names apart: not in the run, and not in what comes after."""
    chain = [
        person(1, "hubspot", name="Ada Quarterman", phone="202 555 0101"),
        person(2, "internal", name="Quarterman,", phone="202 555 0101", company="Quarterman & Co"),
        person(3, "salesforce", name="Hugo Quarterman", company="Quarterman & Co"),
    ]
    homes = [
        person(
            n,
            source,
            name=f"Ingrid Family{n}",
            address=f"{n} Main Street",
            postcode="20001",
            date_of_birth="1950-02-03",
        )
        for n in range(4, 44)
        for source in ("hubspot", "internal")
    ]
    store.records.add([*chain, *homes])
    rules = [{"name": "phone", "equal": ["phone"]}, {"name": "company", "equal": ["company", "family"]}]
    matched(store, methods=["rules"], rules=rules)
    assert {1, 2, 3} in members(store).values()

    store.decisions.decide([1, 4], "same", None, "me")
    resolve(store)

    assert {1, 2, 3, 4} in members(store).values()
    agrees(store)


def test_two_runs_are_compared_by_merged_and_split_entities(store: Store) -> None:
    ann, bo = {"name": "Ann Lee", "email": "ann@example.com"}, {"name": "Bo Ek", "phone": "+1 202 555 0101"}
    cy = {"name": "Cy Fox", "email": "cy@example.com", "phone": "+1 202 555 0102"}
    store.records.add([person(n, "hubspot", **known) for n, known in enumerate((ann, ann, bo, bo, bo, cy, cy), 1)])
    first = matched(store, methods=["rules"], rules=[{"name": "email", "equal": ["email"]}])
    [one] = [entity for entity, records in members(store).items() if records == {1, 2}]
    second = matched(store, methods=["rules"], rules=[{"name": "phone", "equal": ["phone"]}])
    [other] = [entity for entity, records in members(store).items() if records == {3, 4, 5}]

    came, went = {"entity_id": other, "record_ids": [3, 4, 5]}, {"entity_id": one, "record_ids": [1, 2]}
    assert store.runs.changes(second, first) == {
        "merged": [came], "split": [went], "merged_count": 1, "split_count": 1,
    }  # fmt: skip
    assert store.runs.changes(first, second) == {
        "merged": [went], "split": [came], "merged_count": 1, "split_count": 1,
    }  # fmt: skip
    assert store.runs.changes(second, 99) is None


def test_a_run_whose_tables_are_dropped_meanwhile_is_not_there(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = new_store(), new_store()
    store.records.add([person(1, "hubspot")])
    first, second = matched(store, **RULES), matched(store, **RULES)
    original = store_runs._divided

    def meanwhile(*args: Any) -> Any:
        other.records.clear()
        return original(*args)

    monkeypatch.setattr(store_runs, "_divided", meanwhile)
    assert store.runs.changes(second, first) is None


def test_a_repeated_event_changes_nothing(store: Store) -> None:
    store.records.add(people())
    run = matched(store, **RULES)
    told = store.runs.get(run)
    assert runs.run(run, store) is None
    assert store.runs.get(run) == told
    assert runs.run(99, store) is None


def test_a_run_is_worked_on_by_one_at_a_time(new_store: Callable[..., Store]) -> None:
    store, other = new_store(), new_store()
    store.records.add(people())
    run, _ = store.runs.create({}, None, "")
    assert store.runs.claim(run, 60)
    with pytest.raises(Busy):
        runs.run(run, other)


def test_run_that_is_killed_at_any_step_leaves_the_last_run_active(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As SIGKILL: nothing is tidied up."""

    store.records.add(people())
    first = matched(store, **RULES)
    before = members(store)

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    for part, place in ((store.runs, "load"), (store.runs, "finish"), (store.maintenance, "sweep")):
        run, _ = store.runs.create(RULES, None, "")
        with monkeypatch.context() as patch:
            patch.setattr(part, place, die)
            with pytest.raises(Killed):
                runs.run(run, store)
        told = store.runs.get(run)
        assert told is not None
        if place == "sweep":
            assert (told["status"], told["active"]) == ("done", True)
            continue
        assert told["status"] == "running"
        assert members(store) == before
        assert store.runs.get(first)["active"]  # type: ignore[index]
        agrees(store)
        store._database.write(
            lambda connection: connection.run("UPDATE match_run SET lease_until = now() - interval '1 s'"),
            repeatable=True,
        )
        assert runs.run(run, store) == "done"
        first = run
    agrees(store)


def test_settings_that_are_no_longer_valid_fail_the_run_with_the_reason(store: Store) -> None:
    store.records.add(people())
    run, _ = store.runs.create({"thresholds": {"match": "high"}}, None, "")
    assert runs.run(run, store) == "failed"
    told = store.runs.get(run)
    assert told is not None
    assert told["status"] == "failed"
    assert "thresholds.match" in told["reason"]


def test_a_run_over_nothing_fails_with_the_reason(store: Store) -> None:
    run, _ = store.runs.create({}, None, "")
    assert runs.run(run, store) == "failed"
    assert store.runs.get(run)["reason"] == "There are no records"  # type: ignore[index]


def test_a_key_begins_one_run(store: Store) -> None:
    assert store.runs.create({}, "k", "d") == store.runs.create({}, "k", "d")
    with pytest.raises(KeyReused):
        store.runs.create({}, "k", "other")


def test_records_added_and_removed_during_a_run_are_in_it(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = new_store(), new_store()
    store.records.add(people())
    added = store.records.add([person(1, "hubspot", email="new@example.com")])
    original = store.runs.load

    def meanwhile(*args: Any) -> None:
        other.uploads.delete(added.id)
        other.records.add([Record(**{**PEOPLE[0], "source": "internal"}).fields()])
        other.decisions.decide([2, 20], "same", None, "me")
        original(*args)

    monkeypatch.setattr(store.runs, "load", meanwhile)
    matched(store)
    found = together(store)
    assert not any(61 in records for records in found)
    assert any({1, 62} <= records for records in found)
    assert any({2, 20} <= records for records in found)
    agrees(store)


# Uploads and deletions after a run


@pytest.fixture
def after_a_run(store: Store) -> Store:
    """With entities of four records: 1 and 2 are one person."""
    ann = {"name": "Ann Lee", "email": "ann@example.com"}
    store.records.add(
        [
            person(1, "salesforce", **ann),
            person(7, "hubspot", **ann),
            person(2, "salesforce", phone="+1 202 555 0101"),
            person(3, "internal", email="info@shop.example.com"),
        ]
    )
    matched(store, **RULES)
    assert together(store) == {frozenset({1, 2}), frozenset({3}), frozenset({4})}
    return store


def test_a_record_that_a_rule_joins_is_of_that_entity_when_it_is_resolved(after_a_run: Store) -> None:
    before = after_a_run.entities.of_records([1, 3])
    after_a_run.records.add([person(9, "internal", name="Ann Lee", email="Ann+x@example.com")])
    after_a_run.records.add([person(8, "hubspot", name="Person2 Family2", phone="(202) 555-0101")])
    assert after_a_run.entities.of_records([1, 3, 5, 6]) == before
    resolve(after_a_run)
    assert after_a_run.entities.of_records([5, 6]) == {5: before[1], 6: before[3]}
    assert set(after_a_run.questions.counts("entity")) == {
        frozenset({"salesforce", "hubspot", "internal"}),
        frozenset({"salesforce", "hubspot"}),
        frozenset({"internal"}),
    }
    agrees(after_a_run)


def test_short_name_matches_either_of_two_full_names_that_do_not_match_each_other(after_a_run: Store) -> None:
    home = {"email": "the.quartermans@example.com", "phone": "212-555-0142"}
    names = ("Patrick", "Patricia", "Trish", "Pat")
    after_a_run.records.add(
        [person(n, "hubspot", name=f"{name} Quarterman", **home) for n, name in enumerate(names, 70)]
    )
    resolve(after_a_run)

    patrick, patricia, trish, pat = range(5, 9)
    assert {one for one in together(after_a_run) if one & {patrick, patricia, trish, pat}} == {
        frozenset({patrick, pat}),
        frozenset({patricia, trish}),
    }
    agrees_with_a_full_run(after_a_run)
    matched(after_a_run)
    assert not any({patrick, patricia} <= one for one in together(after_a_run))
    agrees(after_a_run)


def test_records_of_one_upload_join_one_another(after_a_run: Store) -> None:
    new = {"name": "Bo Ek", "email": "bo@example.com"}
    after_a_run.records.add([person(20, "internal", **new), person(21, "hubspot", **new), person(22, "hubspot")])
    resolve(after_a_run)
    assert {frozenset({5, 6}), frozenset({7})} <= together(after_a_run)
    agrees(after_a_run)


def test_a_birth_date_that_differs_keeps_records_apart(after_a_run: Store) -> None:
    new = {"name": "Bo Ek", "email": "bo@example.com"}
    after_a_run.records.add([person(20, "internal", date_of_birth="1980-01-02", **new)])
    after_a_run.records.add([person(21, "hubspot", date_of_birth="1990-05-06", **new)])
    resolve(after_a_run)
    assert {frozenset({5}), frozenset({6})} <= together(after_a_run)


def test_what_leaves_the_records_leaves_the_entities(after_a_run: Store) -> None:
    upload = after_a_run.records.add([person(9, "internal", name="Ann Lee", email="ann@example.com")])
    resolve(after_a_run)
    after_a_run.uploads.delete(upload.id)
    resolve(after_a_run)
    assert frozenset({1, 2}) in together(after_a_run)
    agrees(after_a_run)
    after_a_run.customers.erase(7)
    resolve(after_a_run)
    assert frozenset({1}) in together(after_a_run)
    agrees(after_a_run)
    after_a_run.records.clear()
    assert members(after_a_run) == {}
    agrees(after_a_run)
    after_a_run.records.add([person(1, "hubspot")])
    resolve(after_a_run)
    assert len(members(after_a_run)) == 1
    agrees(after_a_run)


def test_record_that_bridges_two_entities_merges_them_and_splits_them_when_it_is_deleted(after_a_run: Store) -> None:
    before = members(after_a_run)
    bridge = {"name": "Ann Lee", "email": "ann@example.com", "phone": "+1 202 555 0102"}
    upload = after_a_run.records.add([person(9, "internal", **bridge)])
    after_a_run.records.add([person(8, "hubspot", name="Ann Lee", email="al@example.com", phone="202 555 0102")])
    resolve(after_a_run)
    assert frozenset({1, 2, 5, 6}) in together(after_a_run)
    agrees_with_a_full_run(after_a_run)

    after_a_run.uploads.delete(upload.id)
    resolve(after_a_run)

    found = members(after_a_run)
    [other] = found.keys() - before.keys()
    assert found == before | {other: {6}}
    agrees_with_a_full_run(after_a_run)


def test_verify_mends_entities(after_a_run: Store) -> None:
    entity = after_a_run.entities.of_records([1])[1]
    [[run]] = after_a_run._database.read(lambda c: c.run("SELECT active_run FROM match_state"))
    after_a_run._database.write(
        lambda c: c.run(
            f"""DELETE FROM matching.member_{run} WHERE record_id = 4;
                UPDATE matching.membership_{run} SET sources = 1 WHERE entity_id = {entity};
                INSERT INTO matching.change_{run} VALUES (1, 5, 5)"""
        ),
        repeatable=True,
    )
    found = after_a_run.maintenance.verify()
    assert not found.agreed
    assert found.wrong_entities
    assert found.wrong_entity_regions
    resolve(after_a_run)
    agrees(after_a_run)
    assert any(4 in records for records in together(after_a_run))


def damage(store: Store, statements: str) -> None:
    """Runs statements, in which _N is the end of the names of the active run's tables."""
    run = store.runs.require_active()
    store._database.write(lambda connection: connection.run(statements.replace("_N", f"_{run}")), repeatable=True)


@pytest.mark.parametrize(
    ("changed", "wrong", "wrong_regions"),
    [("source = 62", 2, True), ("customer_id = 99", 1, False)],
)
def test_verify_with_a_member_of_another_source_or_customer_than_its_record_mends_it(
    after_a_run: Store, changed: str, wrong: int, wrong_regions: bool
) -> None:
    before, by_their_customers = members(after_a_run), customers_of(after_a_run)
    damage(after_a_run, f"UPDATE matching.member_N SET {changed} WHERE record_id = 1")

    found = after_a_run.maintenance.verify()

    assert (found.agreed, found.wrong_entities, bool(found.wrong_entity_regions)) == (False, wrong, wrong_regions)
    resolve(after_a_run)
    agrees(after_a_run)
    assert (members(after_a_run), customers_of(after_a_run)) == (before, by_their_customers)
    after_a_run.records.add([person(1, "salesforce", name="Ann Lee", email="ann@work.example.com")])
    resolve(after_a_run)
    assert frozenset({1, 2, 5}) in together(after_a_run), "the rules find it as its record's again"


def test_verify_with_an_exact_duplicate_of_another_customer_than_its_record_mends_it(after_a_run: Store) -> None:
    after_a_run.records.add([person(7, "hubspot", name="Ann Lee", email="ann@example.com")])
    resolve(after_a_run)
    damage(after_a_run, "UPDATE matching.member_N SET customer_id = 99 WHERE record_id = 5")

    assert not after_a_run.maintenance.verify().agreed

    resolve(after_a_run)
    agrees(after_a_run)
    after_a_run.uploads.delete(after_a_run.uploads.page(None, 10)[-1].id)
    resolve(after_a_run)
    assert together(after_a_run) == {frozenset({5})}
    after_a_run.records.add([person(8, "internal", name="Ann Lee", email="ann@example.com")])
    resolve(after_a_run)
    assert together(after_a_run) == {frozenset({5, 6})}


def test_verify_with_a_record_that_is_no_member_and_has_no_upload_makes_it_one(after_a_run: Store) -> None:
    before = members(after_a_run)
    damage(
        after_a_run,
        "DELETE FROM upload; DELETE FROM matching.edge_N; DELETE FROM matching.member_N WHERE record_id IN (2, 4)",
    )

    assert not after_a_run.maintenance.verify().agreed

    resolve(after_a_run)
    agrees(after_a_run)
    assert together(after_a_run) == {frozenset(records) for records in before.values()}


# Decisions


def test_same_joins_in_the_active_run_and_in_the_next_run_and_can_be_taken_back(after_a_run: Store) -> None:
    made = after_a_run.decisions.decide([1, 3], "same", "She called", "ops")
    assert {key: made[key] for key in ("record_ids", "verdict", "note", "decided_by", "revoked_at")} == {
        "record_ids": [1, 3], "verdict": "same", "note": "She called", "decided_by": "ops", "revoked_at": None,
    }  # fmt: skip
    resolve(after_a_run)
    assert frozenset({1, 2, 3}) in together(after_a_run)
    agrees(after_a_run)
    matched(after_a_run, **RULES)
    assert frozenset({1, 2, 3}) in together(after_a_run)
    revoked = after_a_run.decisions.revoke(made["id"], "boss")
    assert revoked is not None
    assert (bool(revoked["revoked_at"]), revoked["revoked_by"]) == (True, "boss")
    resolve(after_a_run)
    assert {frozenset({1, 2}), frozenset({3})} <= together(after_a_run)
    agrees(after_a_run)
    with pytest.raises(Conflict):
        after_a_run.decisions.revoke(made["id"], "boss")
    assert after_a_run.decisions.revoke(99, "boss") is None


def test_different_parts_in_the_active_run_and_in_the_next_run(after_a_run: Store) -> None:
    made = after_a_run.decisions.decide([2, 1], "different", None, "ops")
    resolve(after_a_run)
    assert {frozenset({1}), frozenset({2})} <= together(after_a_run)
    agrees(after_a_run)
    matched(after_a_run, **RULES)
    assert {frozenset({1}), frozenset({2})} <= together(after_a_run)
    after_a_run.decisions.revoke(made["id"], "ops")
    resolve(after_a_run)
    assert frozenset({1, 2}) in together(after_a_run)
    assert [decision["id"] for decision in after_a_run.decisions.page(None, 10)] == [made["id"]]


def test_a_decision_about_a_record_that_is_not_there_is_refused(after_a_run: Store) -> None:
    with pytest.raises(LookupError, match="77, 78"):
        after_a_run.decisions.decide([1, 77, 78], "same", None, "ops")
    assert after_a_run.decisions.page(None, 10) == []


def test_decided_pairs_are_gone_from_the_review(store: Store) -> None:
    store.records.add(people())
    matched(store)
    pairs, _ = store.review.page(100)
    assert pairs
    first = pairs[0]
    ids = (first["record_a"]["id"], first["record_b"]["id"])
    made = store.decisions.decide(ids, "different", None, "ops")
    assert store.review.page(100)[0] == pairs[1:]
    resolve(store)
    assert first not in store.review.page(100)[0]
    store.decisions.revoke(made["id"], "ops")
    resolve(store)
    assert store.review.page(100)[0] == pairs


_times = numbers(1)


def snapshot(store: Store, source: str, records: list[Fields]) -> None:
    """Loads all of a source's records anew, in place of those that it has."""
    number = next(_times)
    at = datetime.fromtimestamp(1_700_000_000 + number, UTC)
    load = store.loads.claim(f"snapshot {number}", "incoming/all.csv", at, source, "replace", lease=600)
    assert load
    rows = [(one["customer_id"], one["name"], one["email"], one["source"], one.get("phone")) for one in records]
    store.loads.stage(load, rows, len(rows), 0, known=["phone"])
    store.loads.finish(load)


def customers_of(store: Store) -> dict[int, frozenset[tuple[str, int]]]:
    """The sources and customer ids of every entity's records."""
    page = store.entities.page(EVERYBODY, None, 1000, 1)
    return {
        entity["id"]: frozenset((one["source"], one["customer_id"]) for one in entity["records"])
        for entity in page.entities
    }


def by_customer(store: Store) -> set[frozenset[tuple[str, int]]]:
    """The entities, each as the sources and customer ids of its records."""
    return set(customers_of(store).values())


ANN, OTHER_ANN, TWO, THREE = ("salesforce", 1), ("hubspot", 7), ("salesforce", 2), ("internal", 3)


@pytest.fixture
def salesforce(after_a_run: Store) -> list[Fields]:
    """The records of salesforce, as a snapshot brings them again."""
    return [
        person(1, "salesforce", name="Ann Lee", email="ann@example.com"),
        person(2, "salesforce", phone="2025550101"),
    ]


def test_decisions_go_over_to_what_a_snapshot_brings_and_can_be_taken_back(
    after_a_run: Store, salesforce: list[Fields]
) -> None:
    apart = after_a_run.decisions.decide([1, 2], "different", None, "ops")
    one = after_a_run.decisions.decide([3, 4], "same", None, "ops")
    decided = {frozenset({ANN}), frozenset({OTHER_ANN}), frozenset({TWO, THREE})}

    for _ in range(2):
        snapshot(after_a_run, "salesforce", salesforce)
        resolve(after_a_run)
        assert by_customer(after_a_run) == decided
        agrees_with_a_full_run(after_a_run)
    there = after_a_run.entities.of_records(range(1, 20))
    assert all(set(said["record_ids"]) <= set(there) for said in after_a_run.decisions.page(None, 10))

    after_a_run.decisions.revoke(apart["id"], "ops")
    after_a_run.decisions.revoke(one["id"], "ops")
    snapshot(after_a_run, "salesforce", salesforce)
    matched(after_a_run, **RULES)
    assert by_customer(after_a_run) == {frozenset({ANN, OTHER_ANN}), frozenset({TWO}), frozenset({THREE})}


def test_a_decision_about_someone_who_is_gone_says_nothing_until_they_come_back(
    after_a_run: Store, salesforce: list[Fields]
) -> None:
    after_a_run.decisions.decide([3, 4], "same", None, "ops")
    snapshot(after_a_run, "salesforce", salesforce[:1])
    matched(after_a_run, **RULES)
    assert by_customer(after_a_run) == {frozenset({ANN, OTHER_ANN}), frozenset({THREE})}
    assert after_a_run.decisions.page(None, 1)[0]["record_ids"] == [3, 4]

    after_a_run.records.add(salesforce[1:])
    matched(after_a_run, **RULES)
    assert frozenset({TWO, THREE}) in by_customer(after_a_run)
    agrees(after_a_run)


# Decisions about two records of one customer

ANNE = person(7, "salesforce", name="Anne Quarterman", email="anne@example.com", phone="2025550101")
BEN = person(7, "salesforce", name="Ben Oyelaran", email="ben@example.com", phone="2025550102")
COUSIN = person(9, "internal", name="Cleo Vance", email="cleo@example.com")


@pytest.fixture
def one_customer(store: Store) -> Store:
    """One customer of salesforce is two people, as somebody decided, and one of them is in another source too."""
    store.records.add([ANNE, BEN, COUSIN])
    matched(store, **RULES)
    assert by_name(store) == {frozenset({"Anne Quarterman", "Ben Oyelaran"}), frozenset({"Cleo Vance"})}
    store.decisions.decide([1, 2], "different", None, "ops")
    store.decisions.decide([2, 3], "same", None, "ops")
    resolve(store)
    return store


def by_name(store: Store) -> set[frozenset[str]]:
    """The entities, each as the names of its records."""
    page = store.entities.page(EVERYBODY, None, 1000, 1)
    return {frozenset(one["name"] for one in entity["records"]) for entity in page.entities}


def dormant(store: Store) -> list[bool]:
    """Of each decision, the first first, whether it is dormant."""
    return [decision["dormant"] for decision in reversed(store.decisions.page(None, 10))]


DECIDED = {frozenset({"Anne Quarterman"}), frozenset({"Ben Oyelaran", "Cleo Vance"})}


@pytest.mark.parametrize(
    "comes",
    [
        [ANNE, BEN],
        [BEN, ANNE],
        [BEN, ANNE, ANNE, BEN],
        [{**BEN, "phone": None}, {**ANNE, "email": "new@example.com"}],
    ],
    ids=["as before", "in another order", "twice", "changed"],
)
def test_decision_about_two_records_of_one_customer_after_a_snapshot_holds(
    one_customer: Store, comes: list[Fields]
) -> None:
    assert by_name(one_customer) == DECIDED

    for _ in range(2):
        snapshot(one_customer, "salesforce", comes)
        resolve(one_customer)
        assert by_name(one_customer) == DECIDED
        assert dormant(one_customer) == [False, False]
    agrees_with_a_full_run(one_customer)


def test_decision_about_exact_duplicates_holds_after_a_snapshot(store: Store) -> None:
    store.records.add([ANNE, ANNE])
    matched(store, **RULES)
    store.decisions.decide([1, 2], "different", None, "ops")

    snapshot(store, "salesforce", [ANNE, ANNE])
    resolve(store)

    assert (len(members(store)), dormant(store)) == (2, [False])
    agrees_with_a_full_run(store)


@pytest.mark.parametrize("left", [ANNE, BEN])
def test_decision_about_two_records_of_which_a_snapshot_leaves_one_is_dormant_until_both_are_there(
    one_customer: Store, left: Fields
) -> None:
    snapshot(one_customer, "salesforce", [left])
    resolve(one_customer)

    expected = {frozenset({"Anne Quarterman"}), frozenset({"Cleo Vance"})} if left is ANNE else None
    assert by_name(one_customer) == (expected or {frozenset({"Ben Oyelaran", "Cleo Vance"})})
    assert dormant(one_customer) == [True, left is ANNE]
    agrees(one_customer)
    matched(one_customer, **RULES)
    assert dormant(one_customer) == [True, left is ANNE]

    snapshot(one_customer, "salesforce", [BEN, ANNE])
    resolve(one_customer)
    assert by_name(one_customer) == DECIDED
    assert dormant(one_customer) == [False, False]
    agrees_with_a_full_run(one_customer)


def test_decision_about_two_records_of_one_customer_whose_upload_is_deleted_applies_again_when_they_come(
    one_customer: Store,
) -> None:
    [upload] = one_customer.uploads.page(None, 10)
    one_customer.uploads.delete(upload.id)
    assert dormant(one_customer) == [True, True]

    one_customer.records.add([ANNE, BEN, COUSIN])
    matched(one_customer, **RULES)

    assert dormant(one_customer) == [False, False]
    assert by_name(one_customer) == DECIDED


def test_list_of_decisions_says_which_are_dormant(functions: Call, one_customer: Store) -> None:
    snapshot(one_customer, "salesforce", [ANNE])
    one_customer.decisions.revoke(1, "ops")

    answer = functions("list_decisions", api_event("GET", "/api/v1/matching/decisions"))

    assert {one["id"]: one["dormant"] for one in json.loads(answer["body"])} == {1: False, 2: True}


def test_a_decision_about_someone_who_was_erased_is_forgotten(after_a_run: Store, salesforce: list[Fields]) -> None:
    after_a_run.decisions.decide([3, 4], "same", None, "ops")
    after_a_run.customers.erase(2)
    after_a_run.records.add(salesforce[1:])
    matched(after_a_run, **RULES)
    assert {frozenset({TWO}), frozenset({THREE})} <= by_customer(after_a_run)


def test_what_a_snapshot_replaces_stays_joined_when_someone_decides(
    after_a_run: Store, salesforce: list[Fields]
) -> None:
    snapshot(after_a_run, "salesforce", salesforce)
    ids = {key: record for record in range(1, 10) for key in [whose(after_a_run, record)] if key}
    after_a_run.decisions.decide([ids[ANN], ids[THREE]], "same", None, "ops")
    resolve(after_a_run)
    assert frozenset({ANN, OTHER_ANN, THREE}) in by_customer(after_a_run)
    agrees(after_a_run)


def test_a_snapshot_while_a_run_works_leaves_decisions_in_it(
    new_store: Callable[..., Store], after_a_run: Store, salesforce: list[Fields], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_a_run.decisions.decide([1, 2], "different", None, "ops")
    after_a_run.decisions.decide([3, 4], "same", None, "ops")
    other, original = new_store(), after_a_run.runs.load

    def meanwhile(*args: Any) -> None:
        snapshot(other, "salesforce", salesforce)
        original(*args)

    monkeypatch.setattr(after_a_run.runs, "load", meanwhile)
    matched(after_a_run, **RULES)
    assert by_customer(after_a_run) == {frozenset({ANN}), frozenset({OTHER_ANN}), frozenset({TWO, THREE})}
    agrees(after_a_run)


@pytest.mark.parametrize(("module", "step"), [(snapshots, "delete_records"), (successors, "move_decisions")])
def test_an_upload_of_the_same_people_beside_a_snapshot_waits_for_nothing(
    new_store: Callable[..., Store],
    after_a_run: Store,
    salesforce: list[Fields],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    step: str,
) -> None:
    """Between what a snapshot adds and what it deletes, and while it keeps others from deciding."""
    other, original = new_store(db_statement_timeout=5), getattr(module, step)

    def meanwhile(*args: Any) -> Any:
        other.records.add([person(9, "internal", name="Ann Lee", email="ann@example.com")])
        return original(*args)

    monkeypatch.setattr(module, step, meanwhile)
    snapshot(after_a_run, "salesforce", [salesforce[0], person(5, "salesforce", name="Somebody New")])
    resolve(after_a_run)
    assert frozenset({ANN, OTHER_ANN, ("internal", 9)}) in by_customer(after_a_run)
    agrees(after_a_run)


def test_unchanged_snapshot_keeps_all_entities_and_counts_duplicates_once(after_a_run: Store) -> None:
    before = customers_of(after_a_run)
    ann = person(1, "salesforce", name="Ann Lee", email="ann@example.com")
    two = person(2, "salesforce", phone="+1 202 555 0101")
    for _ in range(3):
        snapshot(after_a_run, "salesforce", [two, ann, *[ann] * 25, two])
        resolve(after_a_run)
        assert customers_of(after_a_run) == before
        agrees(after_a_run)
        [[run]] = after_a_run._database.read(lambda c: c.run("SELECT active_run FROM match_state"))
        [[standing]] = after_a_run._database.read(
            lambda c: c.run(f"SELECT count(*) FROM matching.member_{run} m WHERE {is_representative('m')}")  # noqa: B023
        )
        assert standing == 4


def test_decision_about_a_record_that_is_not_resolved_yet_holds(after_a_run: Store) -> None:
    after_a_run.records.add([person(9, "internal", name="Ann Lee", email="ann@example.com")])
    after_a_run.decisions.decide([1, 5], "different", None, "ops")
    resolve(after_a_run)
    found = after_a_run.entities.of_records([1, 5])
    assert found[1] != found[5]
    agrees_with_a_full_run(after_a_run)


def test_records_of_one_customer_that_contradict_each_other_are_joined_and_keep_their_entity(
    after_a_run: Store,
) -> None:
    after_a_run.records.add([person(9, "hubspot", name="John Doe", date_of_birth="1980-01-02")])
    resolve(after_a_run)
    before = after_a_run.entities.of_records([5])
    mary = {"name": "Mary Doe", "email": "mary@example.com", "date_of_birth": "1991-05-06"}
    after_a_run.records.add([person(9, "hubspot", **mary)])
    after_a_run.decisions.decide([4, 5], "different", None, "ops")
    resolve(after_a_run)
    assert after_a_run.entities.of_records([5, 6]) == {5: before[5], 6: before[5]}
    agrees_with_a_full_run(after_a_run)


def whose(store: Store, record_id: int) -> tuple[str, int] | None:
    page, _ = store.records.page(record_id - 1, 1)
    found = [(one["source"], one["customer_id"]) for one in json.loads(page) if one["id"] == record_id]
    return found[0] if found else None


class Everything(RuleBasedStateMachine):
    """Uploads, deletions and decisions in any order, after a run: what holds of the entities when they are resolved."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.store.records.clear()
        for decision in self.store.decisions.page(None, 1000):
            if not decision["revoked_at"]:
                self.store.decisions.revoke(decision["id"], "test")
        self.uploads: dict[int, list[int]] = {}
        self.whose: dict[int, tuple[int, str]] = {}
        self.said: dict[int, tuple[frozenset[int], str]] = {}

    @property
    def records(self) -> list[int]:
        return [record for records in self.uploads.values() for record in records]

    @rule(
        who=st.lists(
            st.tuples(st.integers(1, 4), st.sampled_from(["hubspot", "internal", "salesforce"])), min_size=1, max_size=3
        )
    )
    def upload(self, who: list[tuple[int, str]]) -> None:
        upload = self.store.records.add([person(number, source) for number, source in who])
        page, _ = self.store.records.page(max(self.records, default=None), 100)
        new = [record["id"] for record in json.loads(page)]
        assert len(new) == len(who)
        self.uploads[upload.id] = new
        self.whose |= dict(zip(new, who, strict=True))

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        if self.uploads[upload][-1] == max(self.records):
            return  # or the next upload's records would be looked for below it
        self.store.uploads.delete(upload)
        del self.uploads[upload]

    @precondition(lambda self: len(self.records) > 1)
    @rule(data=st.data(), verdict=st.sampled_from(["same", "different"]))
    def decide(self, data: st.DataObject, verdict: str) -> None:
        pair = data.draw(st.lists(st.sampled_from(self.records), min_size=2, max_size=2, unique=True))
        made = self.store.decisions.decide(pair, verdict, None, "test")
        self.said[made["id"]] = (frozenset(pair), verdict)

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        decision = data.draw(st.sampled_from(sorted(self.said)))
        self.store.decisions.revoke(decision, "test")
        del self.said[decision]

    def overruled(self, decision: int) -> bool:
        """Whether one that came later says otherwise of the same records, or has gone over to them."""
        pair, verdict = self.said[decision]
        return any(
            later > decision
            and other != verdict
            and (about == pair or (not about <= set(self.records) and self.customers(about) == self.customers(pair)))
            for later, (about, other) in self.said.items()
        )

    def customers(self, records: frozenset[int]) -> set[tuple[int, str]]:
        return {self.whose[record] for record in records}

    @invariant()
    def nothing_is_wrong_before_it_is_resolved(self) -> None:
        found = self.store.maintenance.verify()
        assert found.agreed, found

    @rule()
    def resolve(self) -> None:
        resolve(self.store)
        self.entities_are_what_records_and_people_say()
        self.golden_records_are_of_the_entity()

    def teardown(self) -> None:
        self.resolve()
        if self.records:
            agrees_with_a_full_run(self.store)

    def entities_are_what_records_and_people_say(self) -> None:
        agrees(self.store)
        found = members(self.store)
        assert sorted(record for records in found.values() for record in records) == sorted(self.records)
        entity_of = {record: entity for entity, records in found.items() for record in records}
        verdicts = {verdict for _, verdict in self.said.values()}
        for decision, (pair, verdict) in self.said.items():
            if pair <= set(self.records) and not self.overruled(decision):
                found_in = {entity_of[record] for record in pair}
                if verdict == "different":
                    assert len(found_in) == 2
                elif "different" not in verdicts:
                    assert len(found_in) == 1

    def golden_records_are_of_the_entity(self) -> None:
        page = self.store.entities.page(EVERYBODY, None, 1000, 1)
        for entity in page.entities:
            by_id = {record["id"]: record for record in entity["records"]}
            for name, origin in golden(entity["records"], survivorship_of(page.settings)).items():
                assert by_id[origin.record_id][name] == origin.value


def test_entities_always_are_what_records_and_people_say(after_a_run: Store) -> None:
    machine = type("Machine", (Everything,), {"store": after_a_run})
    run_state_machine_as_test(
        machine, settings=hypothesis_settings(max_examples=budget(5, 30), stateful_step_count=12, deadline=None)
    )


# The functions


@pytest.mark.parametrize(
    ("asked", "field", "reason"),
    [
        ({"thresholds": {"match": "high"}}, ["thresholds", "match"], "valid number"),
        ({"thresholds": {"keep": 9}}, ["thresholds"], "expected keep <= review <= match <= confident"),
        ({"thresholds": {"match": -1024, "review": -1024, "keep": -1024}}, ["thresholds", "keep"], "equal to -1000"),
        ({"thresholds": {"match": 6, "confident": 1e308}}, ["thresholds", "confident"], "equal to 1000"),
        ({"training": {"weight_of_default": 1e308}}, ["training", "weight_of_default"], "less than or equal to"),
        ({"rules": [{"name": "x", "equal": ["shoe_size"]}]}, ["rules", 0, "equal", 0], "shoe_size"),
        ({"surprise": 1}, ["surprise"], "Unknown field 'surprise'"),
        ([], [], "valid dictionary"),
    ],
)
def test_settings_that_mean_nothing_are_refused_with_field_and_reason(
    functions: Call, store: Store, asked: Any, field: list[str | int], reason: str
) -> None:
    answer = functions("start_run", api_event("POST", "/api/v1/matching/runs", {"settings": asked}))
    assert answer["statusCode"] == 422
    fault, *_ = json.loads(answer["body"])["detail"]
    assert fault["loc"] == ["body", "settings", *field]
    assert reason in fault["msg"]
    assert store.runs.page(None, 10) == []


def test_every_sample_event_about_a_run_is_answered(functions: Call, s3: Any, store: Store, environment: Any) -> None:
    queues.client.cache_clear()
    environment.setenv("MATCH_QUEUE", boto3.client("sqs").create_queue(QueueName="matches")["QueueUrl"])
    settings.cache_clear()
    store.records.add(people())
    answers = {}
    for name in ("start_run", "match", "show_run", "list_entities", "show_entity", "look_up_entity", "review"):
        answers[name] = functions(name, json.loads((ROOT / "events" / f"{name}.json").read_text()))
    matched(store)
    for name in ("run_changes", "activate_run", "decide", "revoke_decision", "matching_status"):
        answers[name] = functions(name, json.loads((ROOT / "events" / f"{name}.json").read_text()))
    assert set(answers) == AFTER_A_RUN
    assert answers.pop("match") == {"batchItemFailures": []}
    for name, answer in answers.items():
        assert answer["statusCode"] in (200, 201, 202), (name, answer["body"])
    entity = json.loads(answers["show_entity"]["body"])
    resolved = {"as_of", "unresolved_records"}
    assert {"id", "total_records", "records", "golden", "edges", "decisions"} | resolved == set(entity)
    [best, *_] = json.loads(answers["look_up_entity"]["body"])["matches"]
    assert best["golden"]["name"]


OWN_COMPARISON = [{"name": "who", "columns": ["given"], "levels": [{"label": "same", "equal": ["given"]}]}]


@pytest.mark.parametrize(
    "asked", [RULES, {"comparisons": OWN_COMPARISON, "constraints": {"vetoes": [], "review_flags": []}}]
)
def test_a_lookup_answers_whatever_the_run_was_told(functions: Call, store: Store, asked: dict[str, Any]) -> None:
    store.records.add(people())
    matched(store, **asked)
    body = {"name": PEOPLE[0]["name"], "email": PEOPLE[0]["email"]}
    answer = functions("look_up_entity", api_event("POST", "/api/v1/entities/lookup", body))
    assert answer["statusCode"] == 200
    [best, *_] = json.loads(answer["body"])["matches"]
    assert (best["rule"], best["record_id"]) == ("same_email_and_name", 1)


@pytest.mark.parametrize("path", ["analyze", "compare-sources", "regions", "customers"])
def test_before_a_run_a_question_by_entity_is_a_conflict(functions: Call, path: str) -> None:
    name = {"compare-sources": "compare", "customers": "select_customers"}.get(path, path)
    answer = functions(name, api_event("GET", f"/api/v1/deduplication/{path}", query={"by": "entity"}))
    assert answer["statusCode"] == 409
    assert "No run" in json.loads(answer["body"])["detail"]


def test_questions_by_entity_have_ids_of_entities(functions: Call, after_a_run: Store) -> None:
    found = members(after_a_run)
    answer = functions("analyze", api_event("GET", "/api/v1/deduplication/analyze", query={"by": "entity"}))
    assert json.loads(answer["body"]).items() >= {
        "total_records": 4, "unique_customers": 3, "duplicates_found": 1, "unique_customer_ids": sorted(found),
    }.items()  # fmt: skip
    query = {"by": "entity", "in": "salesforce,hubspot"}
    answer = functions("select_customers", api_event("GET", "/api/v1/deduplication/customers", query=query))
    assert json.loads(answer["body"])["customer_ids"] == [after_a_run.entities.of_records([1])[1]]


def test_pairs_of_a_decision_are_all_pairs(after_a_run: Store) -> None:
    after_a_run.decisions.decide([1, 3, 4], "same", None, "ops")
    said = after_a_run.runs.read_records(io.BytesIO(), io.BytesIO()).decisions
    assert {(a, b) for a, b, _ in said} == set(combinations([1, 3, 4], 2))
