"""Any mix of uploads, snapshots, deletions and reads, from several clients at once, beside a model of plain Python.

The model keeps every state that some order of the writes explains: one while they come one by one, several after some
arrived at the same time. What is read must be one of them; those that it is not are given up.
"""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import requests
from dedup.settings import Settings
from dedup.store import Store
from dedup.store.connection import Database
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import machine_settings
from tests.e2e.test_uploads import ended, rows
from tests.model import Analysis, Regions, Row, State, Write, after, analysis_of, orders, regions_of, replaced

SOURCES = ("salesforce", "hubspot", "internal")
IDS = st.integers(1, 12)

_names = itertools.count()


class Clients(RuleBasedStateMachine):
    """Several clients of one API."""

    def __init__(self, api: str) -> None:
        super().__init__()
        self.api = api
        self.states: set[State] = {()}
        self.uploads: dict[str, int] = {}
        self.bulk: list[tuple[str, list[dict[str, Any]]]] = []

    @initialize()
    def begin(self) -> None:
        requests.delete(f"{self.api}/customers", timeout=30).raise_for_status()

    # Writes

    def add(self, records: list[tuple[str, int]]) -> Write:
        name = f"bulk {next(_names)}"
        body = [
            {"customer_id": customer, "source": source, "name": "N", "email": f"c{customer}@example.com"}
            for source, customer in records
        ]
        self.bulk.append((name, body))
        return Write(
            lambda: self.send(name, body),
            lambda state: after(state, lambda row: True, [Row(name, *record, "N") for record in records]),
        )

    def send(self, name: str, body: list[dict[str, Any]]) -> bool:
        key = {"Idempotency-Key": f"{id(self)}-{name.replace(' ', '-')}"}
        answer = requests.post(f"{self.api}/customers/bulk", json={"customers": body}, headers=key, timeout=30)
        assert answer.status_code == 201, answer.text
        upload_id = answer.json()["details"]["upload_id"]
        assert self.uploads.setdefault(name, upload_id) == upload_id
        return True

    def again(self, index: int) -> Write:
        name, body = self.bulk[index % len(self.bulk)]
        return Write(lambda: self.send(name, body), lambda state: state)

    def snapshot(self, source: str, customers: frozenset[int]) -> Write:
        name = f"snapshot {next(_names)}"

        def ask() -> bool:
            wish = {"filename": "night.csv", "source": source}
            expected = requests.post(f"{self.api}/uploads/snapshots", json=wish, timeout=30).json()
            requests.put(expected["url"], data=rows(customers), timeout=30).raise_for_status()
            self.uploads[name] = expected["id"]
            # One that a newer snapshot of the source overtook changes nothing, and says so.
            upload = ended(self.api, expected["id"])
            assert upload["status"] != "failed" or "newer snapshot" in upload["reason"], upload
            return bool(upload["status"] != "failed")

        return Write(
            ask,
            lambda state: replaced(state, source, [Row(name, source, customer, "Customer") for customer in customers]),
        )

    def delete(self, index: int) -> Write:
        name = sorted(self.uploads)[index % len(self.uploads)]

        def ask() -> bool:
            answer = requests.delete(f"{self.api}/uploads/{self.uploads[name]}", timeout=30)
            # While another client deletes it, or if what it replaced cannot be restored.
            assert answer.status_code in (200, 409), answer.text
            return answer.status_code == 200

        return Write(ask, lambda state: after(state, lambda row: row.upload != name))

    def erase(self, customer: int) -> Write:
        def ask() -> bool:
            answer = requests.delete(f"{self.api}/customers/{customer}", timeout=30)
            assert answer.status_code in (200, 404), answer.text
            return True

        return Write(ask, lambda state: after(state, lambda row: row.customer != customer))

    def clear(self) -> Write:
        def ask() -> bool:
            requests.delete(f"{self.api}/customers", timeout=30).raise_for_status()
            return True

        return Write(ask, lambda state: ())

    def write(self, kind: str, data: st.DataObject) -> Write:
        match kind:
            case "again" if self.bulk:
                return self.again(data.draw(st.integers(0, 99)))
            case "delete" if self.uploads:
                return self.delete(data.draw(st.integers(0, 99)))
            case "snapshot":
                return self.snapshot(data.draw(st.sampled_from(SOURCES)), data.draw(st.frozensets(IDS, min_size=1)))
            case "erase":
                return self.erase(data.draw(IDS))
            case "clear":
                return self.clear()
        return self.add(data.draw(st.lists(st.tuples(st.sampled_from(SOURCES), IDS), min_size=1, max_size=8)))

    # Rules

    @rule(kind=st.sampled_from(["add", "add", "again", "delete", "snapshot", "erase", "clear"]), data=st.data())
    def one(self, kind: str, data: st.DataObject) -> None:
        write = self.write(kind, data)
        if write.ask():
            self.states = {write.change(state) for state in self.states}
        else:
            assert kind == "delete"

    @rule(
        kinds=st.lists(
            st.sampled_from(["add", "add", "again", "delete", "snapshot", "erase", "clear"]), min_size=2, max_size=3
        ),
        data=st.data(),
    )
    def together(self, kinds: list[str], data: st.DataObject) -> None:
        writes = [self.write(kind, data) for kind in kinds]
        done, analyses, regions = threading.Event(), set[Analysis](), set[Regions]()

        def keep_reading() -> None:
            while not done.is_set():
                analyses.add(self.analysis())
                regions.add(self.regions())

        with ThreadPoolExecutor(len(writes) + 1) as clients:
            reader = clients.submit(keep_reading)
            try:
                took_place = list(clients.map(lambda write: write.ask(), writes))
            finally:
                done.set()
            reader.result()
        effective = [write for write, place in zip(writes, took_place, strict=True) if place]
        on_the_way, self.states = orders(self.states, effective)
        assert analyses <= {analysis_of(state) for state in on_the_way}, kinds
        assert regions <= {regions_of(state) for state in on_the_way}, kinds

    @invariant()
    def what_is_seen_is_explained(self) -> None:
        now = self.analysis(), self.regions()
        explained = {state for state in self.states if (analysis_of(state), regions_of(state)) == now}
        assert explained, (now, self.states)
        self.states = explained

    def analysis(self) -> Analysis:
        answer = self.get("analyze")
        assert answer["unique_customers"] == len(answer["unique_customer_ids"])
        return answer["total_records"], tuple(answer["unique_customer_ids"])

    def regions(self) -> Regions:
        return frozenset((frozenset(region["sources"]), region["count"]) for region in self.get("regions"))

    def get(self, question: str) -> Any:
        answer = requests.get(f"{self.api}/deduplication/{question}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def store(stack_folder: Path | None) -> Store:
    """The database of the stack, past the API."""
    if stack_folder is None:
        pytest.skip("the stack that DEDUP_URL names keeps its database to itself")
    environment = json.loads((stack_folder / "environment.json").read_text())
    variables = {name: environment[name.upper()] for name in Settings.model_fields if name.upper() in environment}
    return Store(Database(Settings.model_validate(variables)))


def test_whatever_clients_do_some_order_explains_what_they_see(api: str, store: Store) -> None:
    class Verified(Clients):
        def __init__(self) -> None:
            super().__init__(api)

        def teardown(self) -> None:
            assert store.maintenance.verify().agreed

    run_state_machine_as_test(Verified, settings=machine_settings(6, 40, steps=12))
    store.close()
