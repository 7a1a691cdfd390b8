"""The resolver, on real PostgreSQL and DuckDB: after it, the entities are what a full run with the model version finds."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.matching.settings import Settings
from dedup.records import Fields, Record
from dedup.store import Store
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobs.matching import resolver, runs
from jobs.matching.resolver import Resolver
from tests.conftest import budget
from tests.resolving import resolve
from tests.integration.test_matching import matched, people, person, together


def test_x(store: Store) -> None:
    store.records.add(people()[:20])
    matched(store)
    store.records.add(people()[20:])
    resolve(store)
    print(together(store))
    a = together(store)
    found = store.maintenance.verify()
    assert found.agreed, found
    run, _ = store.runs.create({}, None, "", model_of=1)
    assert runs.run(run, store) == "done", store.runs.get(run)
    assert together(store) == a
