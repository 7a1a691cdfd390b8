"""Changes that are resolved one after the other lead to what a full run finds."""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow as pa
from dedup.matching import normalise
from dedup.matching.rules import conventions_of
from dedup.matching.settings import Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.matching.people import World
from jobs.matching import outputs, preparation, scoring
from jobs.matching.clustering import create_clusters
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.edges import create_rule_edges
from jobs.matching.engine import RECORDS_SCHEMA, Engine
from jobs.matching.incremental import State
from jobs.matching.model import Model
from jobs.matching.summary import Summary
from tests.conftest import FULL, budget

TIGHT = {
    "constraints": {"max_entity": 4, "max_rule_block": 3, "max_names": 2},
    "blocking": [
        {"equal": ["email"], "at_most": 3},
        {"equal": ["phone"], "at_most": 2},
        {"equal": ["family", "postcode:3"], "at_most": 4},
        {"equal": ["date_of_birth"], "at_most": 3},
        {"equal": ["root", "family"], "at_most": 3},
    ],
}
"""Limits that few records reach."""

RESOLVED = "SELECT record_id, entity_id FROM entity"

Rows = dict[int, dict[str, Any]]
Found = tuple[Any, ...]


def normalised(rows: Rows) -> pa.Table:
    conventions = conventions_of(Settings.load().model_dump())
    made = [
        {"id": record, "source": row["source"], "customer_id": row["customer_id"]}
        | normalise.record({name: row.get(name) for name in normalise.FIELDS}, conventions)
        for record, row in rows.items()
    ]
    return pa.Table.from_pylist(made, RECORDS_SCHEMA)


def terms(engine: Engine, of: Settings, rows: Rows) -> str:
    """Makes the term frequencies that a training on some records finds; returns their digest."""
    engine.fill("records", normalised(rows))
    return scoring.create_term_frequencies(engine, of)


def full_run(engine: DuckDB, of: Settings, model: Model, rows: Rows, decisions: Decisions) -> Found:
    engine.forget()
    engine.fill("records", normalised(rows))
    summary = Summary("duckdb", of)
    summary.counts["records"] = len(rows)
    decisions.create_tables(engine)
    preparation.remove_customer_duplicates(engine, of, summary)
    preparation.remove_common_values(engine, of)
    preparation.add_representatives(engine, of, summary)
    preparation.add_keys(engine, of)
    scoring.apply_terms(engine, of, "records", model.terms or "")
    create_rule_edges(engine, of)
    linker = scoring.create_linker(engine, of, model, model.records)
    scoring.score(linker, engine, of, "model_edge")
    create_clusters(engine, of, summary, lambda: linker)
    engine.create("review", outputs.review(of))
    return found(engine, of, "SELECT id, cluster FROM cluster")


def found(engine: Engine, of: Settings, clusters: str) -> Found:
    """The edges, the review pairs and the partition of the records."""
    together = defaultdict(set)
    for record, cluster in engine.rows(clusters):
        together[cluster].add(record)
    scored = f"""SELECT id_l, id_r, match_weight, veto, review_flag, waterfall FROM model_edge
        WHERE match_weight >= {of.thresholds.review} ORDER BY id_l, id_r"""
    return (
        engine.rows("SELECT DISTINCT id_l, id_r, rank FROM rule_edge ORDER BY ALL"),
        engine.rows("SELECT id, representative FROM customer_duplicate ORDER BY ALL"),
        engine.rows(scored),
        engine.rows("SELECT record_l, record_r, match_weight, constraint_name FROM review ORDER BY ALL"),
        sorted(map(sorted, together.values())),
    )


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[DuckDB, DuckDB]]:
    with DuckDB(memory="1GB") as one, DuckDB(memory="1GB") as other:
        yield one, other


def default_model(digest: str) -> Model:
    model = Model.default()
    assert model
    return model.model_copy(update={"prior": 0.01, "records": 500, "terms": digest})


def catch_up(state: State, before: Rows, after: Rows, decisions: Decisions | None, first_id: int) -> None:
    arrived = {record: row for record, row in after.items() if before.get(record) != row}
    change = state.change(normalised(arrived), before.keys() - after.keys(), decisions)
    change.number(first_id)
    change.keep()


NAMES = ["Ann Lee", "Anna Lee", "Bob Lee", "Ann Ray", "Rob Ray", "Lee Ann", "Eve Fox", None]
EMAILS = ["ann@x.example", "lee@x.example", "info@x.example", None]
PHONES = ["+1 212 555 0101", "+1 212 555 0102", None]
BIRTHS = ["1980-01-02", "1980-01-03", "1991-05-17", None]
POSTCODES = ["10001", "10002", "94110", None]

row = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["crm", "shop"]),
        "customer_id": st.sampled_from(["1", "2", "3", "4"]),
        "name": st.sampled_from(NAMES),
        "email": st.sampled_from(EMAILS),
        "phone": st.sampled_from(PHONES),
        "date_of_birth": st.sampled_from(BIRTHS),
        "postcode": st.sampled_from(POSTCODES),
    }
)
records = st.integers(1, 12)
pairs = st.tuples(records, records).filter(lambda pair: pair[0] < pair[1])
step = st.tuples(
    st.dictionaries(records, st.one_of(st.none(), row), max_size=8),
    st.one_of(st.none(), st.dictionaries(pairs, st.sampled_from(["same", "different"]), max_size=3)),
)


@settings(max_examples=budget(5, 2000), deadline=None)
@given(st.lists(step, min_size=1, max_size=4), st.dictionaries(records, row, max_size=12))
def test_changes_in_any_order_lead_to_what_a_full_run_finds(
    engines: tuple[DuckDB, DuckDB], steps: list[Any], trained: Rows
) -> None:
    one, other = engines
    of = Settings.over(TIGHT)
    [digest] = {terms(engine, of, trained) for engine in engines}
    model = default_model(digest)
    state = State(one, of, model)
    rows: Rows = {}
    decided = Decisions()
    for n, (changes, decisions) in enumerate(steps, 1):
        before, rows = rows, {**rows}
        for record, what in changes.items():
            rows.pop(record, None)
            if what:
                rows[record] = what
        if decisions is not None:
            decided = Decisions.of({"records": [*pair], "decision": verdict} for pair, verdict in decisions.items())
        catch_up(state, before, rows, decisions if decisions is None else decided, 1000 * n)
        whole = full_run(other, of, model, rows, decided)
        assert found(one, of, RESOLVED) == whole
        if n == len(steps) // 2:
            # As if the process had begun anew, with what is stored.
            state.derive()
            assert found(one, of, RESOLVED) == whole


@pytest.mark.parametrize(("batch", "seed"), [(700, 1), *[(97, 2)] * FULL])
def test_people_in_any_order_and_batches_lead_to_what_a_full_run_finds(
    engines: tuple[DuckDB, DuckDB], batch: int, seed: int
) -> None:
    one, other = engines
    of = Settings.load()
    listed = World(seed, 700).records(700).to_pylist()
    rows: Rows = {
        record: {
            **row,
            "customer_id": str(row["customer_id"]),
            "date_of_birth": str(row["date_of_birth"] or "") or None,
        }
        for record, row in enumerate(listed, 1)
    }
    [digest] = {terms(engine, of, rows) for engine in engines}
    model = default_model(digest)
    state = State(one, of, model)
    order = list(rows)
    random.Random(seed).shuffle(order)
    loaded: Rows = {}
    for n, first in enumerate(range(0, len(order), batch), 1):
        before, loaded = loaded, loaded | {record: rows[record] for record in order[first : first + batch]}
        catch_up(state, before, loaded, None, 1000 * n)
    # What was wrong for a while, or is gone, leaves nothing behind.
    wrong = {record: rows[record] | {"email": "info@example.com"} for record in order[:30]}
    catch_up(state, rows, rows | wrong, None, 1_000_000)
    left = {record: rows[record] for record in order[5:]}
    catch_up(state, rows | wrong, left, None, 2_000_000)

    assert found(one, of, RESOLVED) == full_run(other, of, model, left, Decisions())
