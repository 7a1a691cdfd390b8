"""Runs that take a model version, and runs that are made active later, on real PostgreSQL and DuckDB."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.aws import queues
from dedup.errors import Conflict, NoRun
from dedup.records import Record
from dedup.settings import settings
from dedup.store import Store, maintenance
from dedup.store.matching import activation
from dedup.store.matching.forgetting import forget_missing
from dedup.store.matching.run_tables import RunTables

from jobs.matching import runs
from tests.conftest import api_event, connect
from tests.integration.test_matching import RULES, agrees, members, people, person, snapshot, together
from tests.resolving import resolve

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
ADA = {"name": "Ada Quarterman", "email": "ada@example.com", "phone": "+1 202 555 0199", "city": "Zzyzx"}


def run(store: Store, asked: dict[str, Any] | None = None, **options: Any) -> int:
    number, _ = store.runs.create(asked or {}, None, "", **options)
    assert runs.run(number, store) == "done", store.runs.get(number)
    return number


def shown(store: Store, number: int) -> dict[str, Any]:
    found = store.runs.get(number)
    assert found is not None
    return found


def rows(query: str) -> list[list[Any]]:
    with connect() as owner:
        found: list[list[Any]] = owner.run(query)
    return found


def partition(number: int) -> set[frozenset[int]]:
    """The records of each entity of a run, active or not."""
    grouped = rows(f"SELECT array_agg(record_id) FROM {RunTables(number).member} GROUP BY entity_id")
    return {frozenset(records) for [records] in grouped}


def table(name: str) -> list[list[Any]]:
    return sorted(rows(f"SELECT * FROM {name}"), key=repr)


@pytest.fixture
def sample(store: Store) -> Store:
    store.records.add(people())
    return store


@pytest.mark.parametrize("asked", [{}, {"methods": ["model"], "thresholds": {"match": 3}}, RULES])
def test_run_with_the_version_of_another_finds_the_same(sample: Store, asked: dict[str, Any]) -> None:
    first = run(sample, asked)

    second = run(sample, model_of=first)

    one, other = shown(sample, first), shown(sample, second)
    assert one["model"] == other["model"]
    assert (one["model_of"], other["model_of"], other["active"]) == (None, first, True)
    assert one["histogram"] == other["histogram"]
    for of in ("edge", "review", "term"):
        assert table(getattr(RunTables(first), of)) == table(getattr(RunTables(second), of)), of
    assert partition(first) == partition(second)
    assert sample.runs.model(first) == sample.runs.model(second)
    # And of a run that took a version itself.
    assert partition(run(sample, model_of=second)) == partition(first)
    agrees(sample)


def test_run_with_a_version_scores_new_records_with_it(sample: Store) -> None:
    first = run(sample)
    sample.records.add([person(n, "hubspot", name=f"Kate Moreau{n}", company=f"C{n}") for n in range(1000, 1020)])

    second = run(sample, model_of=first)

    assert shown(sample, second)["model"] == shown(sample, first)["model"]
    assert table(RunTables(first).term) == table(RunTables(second).term)
    assert shown(sample, run(sample))["model"] != shown(sample, first)["model"]


def test_run_that_is_not_activated_is_kept_for_comparison(sample: Store) -> None:
    first = run(sample, RULES)
    before = members(sample)

    second = run(sample, activate=False)

    assert shown(sample, second).items() >= {"status": "done", "active": False, "kept": True, "records": 60}.items()
    assert shown(sample, first)["active"]
    assert members(sample) == before
    changes = sample.runs.changes(second, first)
    assert changes is not None
    assert changes["merged_count"] > 0
    activated = sample.runs.activate(second, "ops")
    assert activated == shown(sample, second)
    assert activated["active"]
    assert together(sample) == partition(second)
    agrees(sample)
    # And back.
    sample.runs.activate(first)
    assert members(sample) == before
    agrees(sample)


def test_first_run_that_is_not_activated_answers_no_question_until_it_is(sample: Store) -> None:
    first = run(sample, RULES, activate=False)
    with pytest.raises(NoRun):
        members(sample)

    sample.runs.activate(first)

    assert together(sample) == partition(first)
    agrees(sample)


def test_clearing_drops_a_run_that_was_never_active(sample: Store) -> None:
    first = run(sample, RULES, activate=False)

    sample.records.clear()

    assert not shown(sample, first)["kept"]
    assert rows(f"SELECT to_regclass('{RunTables(first).member}')") == [[None]]
    with pytest.raises(Conflict, match="were deleted"):
        sample.runs.activate(first)


def change_everything(store: Store) -> None:
    """Adds, changes, removes, decides and revokes."""
    found = sorted(one for one in together(store) if len(one) > 2)
    store.records.add([person(1, "internal", **ADA), person(2, "internal", **ADA)])
    store.records.add([Record(**{**person(3, "internal"), "name": "Katherine Moreau"}).fields()])
    ours = [dict(one) for one in people() if one["source"] == "hubspot"]
    ours[0]["name"], ours[1]["phone"] = "Zebulon Quartermaine", "+1 202 555 0188"
    snapshot(store, "hubspot", [*ours[:-2], person(901, "hubspot", **ADA)])
    store.decisions.revoke(1, "ops")
    store.decisions.decide(sorted(found[0])[:2], "different", None, "ops")
    store.decisions.decide([min(one) for one in found[1:3]], "same", None, "ops")


def test_run_that_is_activated_later_has_the_entities_that_it_would_have_had_at_once(sample: Store) -> None:
    upload = sample.records.add([person(800 + n, "salesforce", city="Zzyzx") for n in range(3)])
    sample.decisions.decide([4, 9], "same", None, "ops")
    active = run(sample, RULES)
    later = run(sample, model_of=active, activate=False)
    assert partition(active) == partition(later)

    sample.uploads.delete(upload.id)
    change_everything(sample)
    resolve(sample)
    expected = together(sample)
    assert partition(active) == expected != partition(later)
    sample.runs.activate(later)
    assert shown(sample, later)["active"]
    resolve(sample)

    assert together(sample) == expected == partition(run(sample, model_of=active, activate=False))
    agrees(sample)
    # What changes from here on changes the active run, and no longer the other.
    sample.records.add([person(7000, "salesforce")])
    resolve(sample)
    assert sum(map(len, members(sample).values())) == 1 + sum(map(len, expected))
    assert partition(active) == expected
    agrees(sample)


def test_records_that_came_since_are_in_the_entities_once_they_are_resolved(sample: Store) -> None:
    run(sample, RULES)
    later = run(sample, RULES, activate=False)
    sample.records.add([person(1, "internal", **ADA), person(2, "hubspot", **ADA), person(3, "internal")])
    resolve(sample)
    expected = together(sample)

    sample.runs.activate(later)
    assert together(sample) == {one for one in expected if max(one) <= 60}
    resolve(sample)

    assert together(sample) == expected
    agrees(sample)


def test_activation_that_is_interrupted_leaves_nothing_behind_and_can_be_repeated(
    sample: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(sample, RULES)
    later = run(sample, RULES, activate=False)
    upload = sample.records.add([person(1, "internal", **ADA), person(2, "internal", **ADA)])
    resolve(sample)
    sample.uploads.delete(upload.id)

    def die(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(activation, "forget_missing", die)
        with pytest.raises(RuntimeError):
            sample.runs.activate(later)
    assert shown(sample, first)["active"]
    assert len(rows(f"SELECT FROM {RunTables(first).member} WHERE email = 'ada@example.com'")) == 2

    sample.runs.activate(later)

    # Nobody would remove them later.
    assert not rows(f"SELECT FROM {RunTables(first).member} WHERE email = 'ada@example.com'")
    resolve(sample)
    assert together(sample) == partition(first)
    agrees(sample)


def test_run_that_lost_members_is_not_activated_but_its_version_can_be_used(sample: Store) -> None:
    """Those of a customer who was erased, and those that were deleted and that it had not looked at when another run
    became the active one: what followed from them is not known any more."""
    upload = sample.records.add([person(1, "internal", **ADA), person(2, "hubspot", **ADA)])
    former = run(sample, RULES)
    sample.customers.erase(2)
    resolve(sample)
    later = run(sample, RULES, activate=False)
    sample.customers.erase(people()[0]["customer_id"])
    with pytest.raises(Conflict, match=f'were removed.*"model_of": {later}'):
        sample.runs.activate(later)
    assert shown(sample, former)["active"]
    sample.uploads.delete(upload.id)

    again = run(sample, model_of=later)

    with pytest.raises(Conflict, match=f'were removed.*"model_of": {former}'):
        sample.runs.activate(former)
    assert shown(sample, again)["active"]
    agrees(sample)


def test_run_that_lacks_many_records_is_not_activated_but_its_version_can_be_used(
    sample: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "MOST_UNRESOLVED", 2)
    run(sample, RULES)
    later = run(sample, RULES, activate=False)
    sample.records.add([person(n, "internal") for n in (1, 2, 3)])

    with pytest.raises(Conflict, match=f'"model_of": {later}'):
        sample.runs.activate(later)

    assert not shown(sample, later)["active"]
    # It holds the change log no more, and is refused as before.
    assert f"run-{later}" in {lag.consumer for lag in sample.change_log.lags()}
    sample.maintenance.sweep()
    assert f"run-{later}" not in {lag.consumer for lag in sample.change_log.lags()}
    with pytest.raises(Conflict, match=f'"model_of": {later}'):
        sample.runs.activate(later)
    assert shown(sample, run(sample, model_of=later))["active"]
    agrees(sample)


def test_sweep_during_an_activation_keeps_the_run(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = new_store(), new_store()
    store.records.add(people())
    first = run(store, RULES, activate=False)
    run(store, RULES)

    def meanwhile(*args: Any) -> None:
        monkeypatch.setattr(maintenance, "KEPT_RUNS", 1)
        other.maintenance.sweep()
        forget_missing(*args)

    monkeypatch.setattr(activation, "forget_missing", meanwhile)
    store.runs.activate(first)
    store.maintenance.sweep()

    assert shown(store, first).items() >= {"active": True, "kept": True}.items()
    agrees(store)


def test_term_frequencies_of_a_version_stay_those_that_training_counted(sample: Store) -> None:
    upload = sample.records.add([person(1, "internal", **ADA), person(2, "internal", **ADA)])
    older = run(sample, RULES)
    terms = table(RunTables(older).term)
    run(sample, RULES)
    sample.uploads.delete(upload.id)
    sample.customers.erase(people()[0]["customer_id"])
    assert table(RunTables(older).term) == terms

    again = run(sample, model_of=older)

    assert table(RunTables(again).term) == terms
    assert len(terms) > 20
    assert shown(sample, again)["model"] == shown(sample, older)["model"]


def test_run_whose_version_is_deleted_before_it_begins_fails_with_the_reason(sample: Store) -> None:
    first = run(sample, RULES)
    number, _ = sample.runs.create({}, None, "", model_of=first)
    for _ in range(5):
        run(sample, RULES)

    assert runs.run(number, sample) == "failed"

    reason = f"The model version of run {first} was deleted: those of the last runs only are kept"
    assert shown(sample, number)["reason"] == reason
    with pytest.raises(LookupError, match="was deleted"):
        sample.runs.create({}, "key", "digest", model_of=first)


def test_repeated_request_for_a_run_with_a_version_is_answered_after_the_version_is_deleted(sample: Store) -> None:
    first = run(sample, RULES)
    created = sample.runs.create({}, "key", "digest", model_of=first)
    for _ in range(5):
        run(sample, RULES)

    assert sample.runs.create({}, "key", "digest", model_of=first)[0] == created[0]


@pytest.fixture
def post(functions: Call, s3: Any, environment: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any]]:
    queues.client.cache_clear()
    environment.setenv("MATCH_QUEUE", boto3.client("sqs").create_queue(QueueName="matches")["QueueUrl"])
    settings.cache_clear()

    def post(path: str, body: Any = None) -> tuple[int, Any]:
        number = path.split("/")[0]
        function = "activate_run" if number else "start_run"
        event = api_event(
            "POST",
            f"/api/v1/matching/runs{path and '/' + path}",
            body,
            parameters={"run_id": number} if number else None,
        )
        answer = functions(function, event)
        return answer["statusCode"], json.loads(answer["body"])

    return post


def reasons(answer: Any) -> Iterable[tuple[list[str], str]]:
    return [(error["loc"], error["msg"]) for error in answer["detail"]]


def test_requests_for_a_version_and_an_activation_are_answered(
    post: Callable[..., tuple[int, Any]], sample: Store
) -> None:
    first = run(sample, RULES)
    status, created = post("", {"model_of": first, "activate": False})
    assert status == 202
    second = created["id"]
    assert post(f"{second}/activate")[0] == 409
    assert runs.run(second, sample) == "done"
    assert not shown(sample, second)["active"]

    status, activated = post(f"{second}/activate")

    assert (status, activated["active"], activated["model_of"], activated["kept"]) == (200, True, first, True)
    assert post(f"{second}/activate") == (200, activated)
    assert rows("SELECT action FROM audit WHERE action LIKE '%run%'") == [["activate run"]]
    assert post("99/activate")[0] == 404


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"model_of": 1, "settings": RULES}, "settings", "leave settings out"),
        ({"model_of": 99}, "model_of", "Run 99 does not exist"),
        ({"model_of": 2}, "model_of", "Run 2 is not done: its status is waiting"),
        ({"model_of": "1"}, "model_of", "integer"),
        ({"model_of": 0}, "model_of", "1"),
        ({"activate": "no"}, "activate", "boolean"),
    ],
)
def test_request_for_a_run_that_means_nothing_is_refused_with_field_and_reason(
    post: Callable[..., tuple[int, Any]], sample: Store, body: Any, field: str, reason: str
) -> None:
    run(sample, RULES)
    sample.runs.create({}, None, "")

    status, answer = post("", body)

    assert status == 422
    [(place, message)] = reasons(answer)
    assert place == ["body", field]
    assert reason in message
    assert len(sample.runs.page(None, 10)) == 2


def test_run_that_failed_is_not_activated(sample: Store) -> None:
    failed, _ = sample.runs.create({"thresholds": {"match": "high"}}, None, "")
    assert runs.run(failed, sample) == "failed"

    with pytest.raises(Conflict, match="its status is failed"):
        sample.runs.activate(failed)

    assert sample.runs.activate(99) is None
