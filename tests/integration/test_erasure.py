"""What is left in the database of somebody who was erased, of everybody after a clearing, and of runs that died."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.records import Fields, Record
from dedup.store import Store
from dedup.store.matching.run_tables import RunTables, all_runs

from jobs.matching import runs
from tests.conftest import api_event, connect
from tests.integration.test_matching import RULES, agrees, matched, members, people, person
from tests.resolving import resolve

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

WHO = 990_077
ZEB = {
    "name": "Zebulon Quartermaine",
    "email": "zeb.quartermaine@wyvern.example",
    "phone": "+1 202 555 0177",
    "company": "Wyvern & Basilisk",
    "address": "913 Wyvernhall Road",
    "city": "Zzyzx",
    "postcode": "90919",
    "date_of_birth": "1931-03-07",
}
OTHERS = ("zebediah", "0188")
"""What is known of them in one source only, since the last run."""
TRACES = (
    "zebulon",
    "quartermaine",
    "wyvern",
    "basilisk",
    "5550177",
    "555 0177",
    "zzyzx",
    "90919",
    "1931-03-07",
    *OTHERS,
)
NOTE = "Zebulon Quartermaine called"


def zeb() -> list[Fields]:
    return [
        Record(customer_id=WHO, source=source, **ZEB).fields()
        for source in ("salesforce", "hubspot", "internal", "hubspot")
    ]


RANDOM = "('hash_salt.salt', 'erasure.customer', 'erasure.emails', 'rejected_row.customer', 'rejected_row.email')"
"""Columns of random digits, which have any short number in them now and then."""


def found(*traces: str, name: str = "") -> set[str]:
    """The columns of all tables, of whatever type and schema, that have one of the texts (regular expressions) in them;
    those whose name fits another. Times are left out, and hashes, as which term frequencies have values."""
    with connect() as owner:
        columns = owner.run(
            f"""SELECT format('%I.%I', table_schema, table_name), format('%I', column_name)
                FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
                WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
                    AND column_name ~ '{name}' AND data_type NOT LIKE 'timestamp%'
                    AND table_name || '.' || column_name NOT IN {RANDOM}
                    AND (table_schema, column_name) <> ('matching', 'value')"""
        )
        assert columns
        for one in all_runs(owner):
            assert not owner.run(f"SELECT FROM {one.term} WHERE value !~ '^[0-9a-f]{{32}}$'")
        return {
            f"{table}.{column}"
            for table, column in columns
            if owner.run(f"SELECT FROM {table} WHERE {column}::text ~* '{'|'.join(traces)}' LIMIT 1")
        }


def tables() -> set[int]:
    """The runs that have tables."""
    with connect() as owner:
        return {one.run for one in all_runs(owner)}


def erase(functions: Call, customer_id: int = WHO) -> tuple[int, Any]:
    path = f"/api/v1/customers/{customer_id}"
    answer = functions("erase_customer", api_event("DELETE", path, parameters={"customer_id": str(customer_id)}))
    return answer["statusCode"], json.loads(answer["body"])


Terms = dict[tuple[str, str | None], int]


def terms(run: int) -> Terms:
    """The term frequencies of a run."""
    with connect() as owner:
        return {(field, value): n for field, value, n in owner.run(f"SELECT * FROM {RunTables(run).term}")}


def test_nothing_of_an_erased_person_is_left_in_any_table(functions: Call, store: Store) -> None:
    store.records.add(people())
    store.records.add(zeb())
    first = matched(store)
    store.decisions.decide([61, 1], "different", NOTE, "ops")
    store.decisions.decide([62, 2, 3], "same", NOTE, "ops")
    store.decisions.revoke(store.decisions.decide([63, 4], "same", NOTE, "ops")["id"], "ops")
    second = matched(store)
    other_name = {**ZEB, "name": "Zebediah", "phone": "202 555 0188"}
    store.records.add([Record(customer_id=WHO, source="internal", **other_name).fields()])
    lookup = {name: ZEB[name] for name in ("name", "email", "phone")}
    assert functions("look_up_entity", api_event("POST", "/api/v1/entities/lookup", lookup))["statusCode"] == 200
    functions("keep_report", api_event("POST", "/api/v1/deduplication/reports"))
    functions("create_export", api_event("POST", "/api/v1/exports", {"in": ["hubspot"], "format": "csv"}))
    everywhere = found(*TRACES)
    for run in (first, second):
        assert f"matching.member_{run}.family" in everywhere
    assert {"public.record.name", "public.decision.note"} <= everywhere

    status, answer = erase(functions)

    assert (status, answer["details"]["records"]) == (200, 5)
    assert {name.rpartition(".")[0] for name in found(*TRACES)} == {f"matching.member_{second}"}
    resolve(store)
    assert found(*TRACES) == set()
    assert found(rf"\y{WHO}\y") == {"public.audit.customer_id"}
    assert found(r"\y6[1-5]\y", name="^record_(id|ids|a|b)$") == {"public.upload.record_id"}
    agrees(store)
    assert erase(functions)[0] == 404


def test_what_others_have_stays_with_the_frequency_that_was_counted(store: Store) -> None:
    common = {"name": "Zebulon Quartermaine", "city": "Zzyzx"}
    store.records.add(
        [
            *people(),
            *zeb(),
            person(1, "hubspot", **common),
            person(2, "internal", **common),
            person(3, "internal", phone="+1 202 555 0177"),
        ]
    )
    kept = [matched(store, **RULES), matched(store, **RULES)]
    before = {run: terms(run) for run in kept}

    store.customers.erase(WHO)
    resolve(store)

    assert found("5550177") == {f"matching.member_{run}.phone" for run in kept}
    assert found("zebulon") == {"public.record.name"} | {
        f"matching.member_{run}.{column}" for run in kept for column in ("given", "root")
    }
    assert found("wyvern", "90919", "1931-03-07") == set()
    assert {run: terms(run) for run in kept} == before
    agrees(store)


def test_removed_records_leave_no_value_in_the_active_run(functions: Call, store: Store) -> None:
    """Nobody could say later whose it was."""
    store.records.add(people())
    upload = store.records.add(zeb())
    matched(store, **RULES)

    store.uploads.delete(upload.id)
    resolve(store)

    assert found(*TRACES) == set()
    assert erase(functions)[0] == 404


def test_erasure_removes_from_runs_the_person_whose_records_were_removed_before(functions: Call, store: Store) -> None:
    store.records.add(people())
    upload = store.records.add(zeb())
    older, active = matched(store, **RULES), matched(store, **RULES)
    before = terms(older)
    store.uploads.delete(upload.id)
    resolve(store)
    assert {name.split(".")[1] for name in found(*TRACES)} == {f"member_{older}"}

    status, answer = erase(functions)

    assert status == 200
    assert (answer["details"]["records"], answer["details"]["sources"]) == (0, [])
    assert found(*TRACES) == set()
    assert terms(older) == before
    changes = store.runs.changes(active, older)
    assert changes is not None
    assert changes["split_count"] == 0
    assert erase(functions)[0] == 404


@pytest.mark.parametrize("taken_back", [False, True])
def test_erasure_removes_the_note_of_a_decision_about_records_that_were_removed_before(
    functions: Call, store: Store, taken_back: bool
) -> None:
    store.records.add(people())
    upload = store.records.add(zeb())
    made = store.decisions.decide([61, 1], "different", NOTE, "ops")
    if taken_back:
        store.decisions.revoke(made["id"], "ops")
    store.uploads.delete(upload.id)
    assert found(*TRACES) == {"public.decision.note"}

    assert erase(functions)[0] == 200

    assert found(*TRACES) == set()
    assert store.decisions.page(None, 10) == []


def test_a_decision_binds_those_who_were_not_erased(store: Store) -> None:
    store.records.add([person(1, "hubspot"), person(2, "internal"), person(3, "salesforce"), person(4, "internal")])
    matched(store, **RULES)
    store.decisions.decide([1, 2, 3], "same", "Person1 has two jobs", "ops")
    store.decisions.decide([1, 4], "different", "Person1 is her brother", "ops")
    other = store.decisions.decide([3, 4], "different", "Neighbours", "ops")

    store.customers.erase(1)

    said = store.decisions.page(None, 10)
    assert [(one["record_ids"], one["verdict"], one["note"]) for one in said] == [
        ([3, 4], "different", "Neighbours"),
        ([2, 3], "same", None),
    ]
    assert said[0]["id"] == other["id"]
    resolve(store)
    for _ in range(2):
        assert {2, 3} in members(store).values()
        assert {4} in members(store).values()
        matched(store, **RULES)


def test_clearing_leaves_nothing_of_anybody_but_what_was_decided(functions: Call, store: Store) -> None:
    store.records.add(people())
    store.records.add(zeb())
    first, active = matched(store), matched(store)
    before = terms(active)
    store.decisions.decide([61, 1], "same", NOTE, "ops")
    assert found(*TRACES)

    assert functions("clear", api_event("DELETE", "/api/v1/customers"))["statusCode"] == 200

    assert found(*TRACES, "moreau", "lindqvist") == set()
    assert tables() == {active}
    with connect() as owner:
        *others, _ = RunTables(active).all
        assert not any(owner.run(f"SELECT FROM {table}") for table in others)
    assert terms(active) == {key: n for key, n in before.items() if key[1] is None} != {}
    assert store.runs.changes(active, first) is None
    agrees(store)
    store.records.add([*people(), *zeb()])
    matched(store, **RULES)
    [entity] = [records for records in members(store).values() if 65 in records]
    assert entity >= {65, 125}
    agrees(store)


# Runs that are at work, and such as died


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize("place", ["load", "finish"])
def test_who_is_erased_while_a_run_works_is_not_in_it(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, place: str, activate: bool
) -> None:
    """Whether the run becomes the active one, which the resolver follows, or not."""
    store, other = new_store(), new_store()
    store.records.add(people())
    store.records.add(zeb())
    former = matched(store, **RULES)
    original = getattr(store.runs, place)

    def meanwhile(*args: Any) -> None:
        other.customers.erase(WHO)
        original(*args)

    monkeypatch.setattr(store.runs, place, meanwhile)
    run, _ = store.runs.create(RULES, None, "", activate=activate)
    assert runs.run(run, store) == "done"

    left = found(*TRACES)
    assert {name.rpartition(".")[0] for name in left} <= {f"matching.member_{run if activate else former}"}
    resolve(store)
    assert found(*TRACES) == set()
    agrees(store)


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up."""


def dead_run(store: Store, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = Killed) -> int:
    """A run that ended when its tables were loaded."""

    def die(*_: Any) -> None:
        raise error

    run, _ = store.runs.create(RULES, None, "")
    with monkeypatch.context() as patch:
        patch.setattr(store.runs, "finish", die)
        with pytest.raises(error):
            runs.run(run, store)
    return run


def end_leases(table: str, ago: str) -> None:
    with connect() as owner:
        owner.run(f"UPDATE {table} SET lease_until = now() - interval '{ago}' WHERE lease_until IS NOT NULL")


def test_tables_of_runs_that_died_are_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.records.add(people())
    run = matched(store, **RULES)
    died = dead_run(store, monkeypatch)
    with connect() as owner:
        owner.run("CREATE TABLE matching.member_4711 (name text); CREATE TABLE matching.term_4712 (value text)")

    assert store.maintenance.verify().agreed
    assert tables() == {run, died}, "it may be at work still"
    end_leases("match_run", "1 s")
    assert store.maintenance.verify().agreed
    assert tables() == {run}

    assert runs.run(died, store) == "done"
    assert tables() == {run, died}
    agrees(store)


def test_what_a_run_that_died_knew_goes_with_an_erasure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.records.add(people())
    store.records.add(zeb())
    died = dead_run(store, monkeypatch)
    end_leases("match_run", "1 s")
    assert found(*TRACES) > {f"matching.member_{died}.family"}

    store.customers.erase(WHO)

    assert found(*TRACES) == set()
    assert tables() == set()


def test_a_run_that_was_interrupted_leaves_no_tables(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.records.add(people())
    dead_run(store, monkeypatch, OSError)
    assert tables() == set()


def test_rows_of_a_load_that_broke_off_are_dropped_after_a_day(store: Store) -> None:
    load = store.loads.claim("a file", "incoming/hubspot/a.csv", datetime.now(UTC), "hubspot", "add", 60)
    assert load is not None
    store.loads.stage(load, [(WHO, ZEB["name"], ZEB["email"], "hubspot")], 1, 0)
    end_leases("upload", "23 hours")
    store.maintenance.verify()
    assert found(*TRACES)
    end_leases("upload", "25 hours")
    store.maintenance.verify()
    assert found(*TRACES) == set()
