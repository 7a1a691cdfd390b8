"""A model version decides everything that training decides: with it, the same records have the same result."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from dedup.matching.scoring import term_value
from dedup.matching.settings import Settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.matching.people import people
from jobs import BadInput
from jobs.matching import scoring
from jobs.matching.command import main
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.engine import arrow_table
from jobs.matching.match import match
from jobs.matching.model import Model
from tests.conftest import budget

TRAINED = Settings.over({"training": {"from_records": 100, "pass_needs_pairs": 20}})
LOW_PRIOR = Settings.over(
    {
        "methods": ["rules", "model"],
        "rules": [{"name": "all", "equal": ["email", "phone", "date_of_birth", "address"]}],
    }
)
"""Its rule joins few pairs, so that the prior is estimated far too low at first."""

Row = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    found: list[Row] = pq.read_table(path).to_pylist()
    return found


def write(path: Path, rows: Iterable[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def shuffled(rows: Iterable[Row], seed: int = 3) -> list[Row]:
    listed = list(rows)
    random.Random(seed).shuffle(listed)
    return listed


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Matches records, with the version of another run's output if one is given; the output folder."""
    runs = iter(range(1000))

    def run(rows: list[Row], settings: Settings | None = None, version: Path | None = None, **options: Any) -> Path:
        folder = tmp_path / f"run{next(runs)}"
        folder.mkdir()
        if version:
            options |= {"model": Model.load(version / "model.json"), "terms": str(version / "terms.parquet")}
        with DuckDB(memory="1GB") as engine:
            match(engine, str(write(folder / "in.parquet", rows)), str(folder), settings or Settings.load(), **options)
        return folder

    return run


def partition(output: Path) -> set[frozenset[int]]:
    members = defaultdict(set)
    for row in rows_of(output / "entities.parquet"):
        members[row["entity_id"]].add(row["record_id"])
    return {frozenset(records) for records in members.values()}


def same(one: Path, other: Path) -> None:
    for name in ("edges", "review", "histogram", "terms"):
        assert rows_of(one / f"{name}.parquet") == rows_of(other / f"{name}.parquet"), name
    assert partition(one) == partition(other)
    assert (one / "model.json").read_text() == (other / "model.json").read_text()


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        (Settings.load(), False),
        (TRAINED, True),
        (LOW_PRIOR, False),
        (Settings.over({"methods": ["rules"]}), False),
        (Settings.over({"methods": ["model"]}), False),
    ],
    ids=["default model", "trained", "low prior", "rules only", "model only"],
)
def test_version_of_a_run_with_the_same_records_in_another_order_gives_the_same_result(
    run: Callable[..., Path], settings: Settings, trained: bool
) -> None:
    records = people(600, seed=21).to_pylist()
    decisions = Decisions.of([{"records": [1, 2], "decision": "different"}, {"records": [3, 90], "decision": "same"}])
    first = run(records, settings, decisions=decisions)
    assert json.loads((first / "run.json").read_text())["model"]["trained_here"] is trained

    again = run(shuffled(records), settings, version=first, decisions=decisions)

    assert json.loads((again / "run.json").read_text())["model"]["trained_here"] is False
    same(first, again)
    same(again, run(shuffled(records, 4), settings, version=again, decisions=decisions))


@hypothesis_settings(max_examples=budget(2, 60), deadline=None)
@given(data=st.data())
def test_version_of_some_records_with_more_of_them_in_any_order_gives_the_same_result(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    everybody = shuffled(people(160, seed=data.draw(st.integers(1, 10**6), "seed")).to_pylist())
    few = everybody[: data.draw(st.integers(2, len(everybody)), "trained on")]
    settings = data.draw(st.sampled_from([Settings.load(), TRAINED]), "settings")
    folder = tmp_path_factory.mktemp("version")
    ids = [row["id"] for row in everybody]
    pairs = st.lists(st.sampled_from(ids), min_size=2, max_size=3, unique=True)
    verdicts = data.draw(st.lists(st.tuples(pairs, st.sampled_from(["same", "different"])), max_size=3), "decisions")
    decisions = Decisions.of({"records": records, "decision": verdict} for records, verdict in verdicts)

    def matched(name: str, rows: list[Row], **options: Any) -> Path:
        source, output = write(folder / f"{name}.parquet", rows), folder / name
        with DuckDB(memory="1GB") as engine:
            match(engine, str(source), str(output), settings, decisions=decisions, **options)
        return output

    trained = matched("trained", few)
    version = {"model": Model.load(trained / "model.json"), "terms": str(trained / "terms.parquet")}
    one = matched("one", everybody, **version)
    other = matched("other", shuffled(everybody, data.draw(st.integers(0, 100), "order")), **version)

    same(one, other)
    assert (one / "model.json").read_text() == (trained / "model.json").read_text()
    assert rows_of(one / "terms.parquet") == rows_of(trained / "terms.parquet")


def home(street: int, *givens: str) -> list[Row]:
    return [
        {
            "source": "hubspot",
            "customer_id": f"{street}{n}",
            "name": f"{given} Family{street}",
            "address": f"{street} Main Street",
            "postcode": "20001",
            "date_of_birth": "1950-02-03" if given == givens[0] else "1984-11-27",
        }
        for n, given in enumerate(givens)
    ]


def numbered(rows: Iterable[Row]) -> list[Row]:
    return [{"id": n, **row} for n, row in enumerate(rows, 1)]


def test_version_keeps_the_constraints_that_its_records_needed(run: Callable[..., Path]) -> None:
    alone = numbered(row for street in range(10, 60) for row in home(street, "Ingrid", "Ingrid"))
    shared = numbered(row for street in range(10, 60) for row in home(street, "Ingrid", "Bartholomew"))
    of_nobody, of_households = run(alone), run(shared)

    assert Model.load(of_nobody / "model.json").waived == ("vetoes", "contradictions")
    assert Model.load(of_households / "model.json").waived == ()
    assert json.loads((run(shared, version=of_nobody) / "run.json").read_text())["waived"] == [
        "vetoes",
        "contradictions",
    ]
    assert json.loads((run(alone, version=of_households) / "run.json").read_text())["waived"] == []


def fill_terms(engine: DuckDB, *rows: tuple[str, str | None, int]) -> None:
    engine.fill("term", arrow_table(rows, {"field": pa.string(), "value": pa.string(), "records": pa.int64()}))


def test_value_that_a_version_does_not_list_counts_as_one_record() -> None:
    settings = Settings.load()
    with DuckDB() as engine:
        ann, zoe = term_value("salt", "ann"), term_value("salt", "zoe")
        fill_terms(engine, ("given", None, 8), ("given", ann, 4), ("given", zoe, 2), ("family", None, 0))
        engine.create("few", "SELECT * FROM (VALUES ('ann'), ('bo'), ('ann'), (NULL)) AS v (given)")
        for column in (
            "family",
            "email",
            "mailbox",
            "phone",
            "date_of_birth",
            "address",
            "postcode",
            "city",
            "company",
        ):
            engine.create("few", f"SELECT *, CAST('x' AS string) AS {column} FROM few")

        scoring.apply_terms(engine, settings, "few", "salt")

        assert sorted(engine.rows("SELECT given, tf_given FROM tf_given")) == [("ann", 0.5), ("bo", 0.125)]
        # Nobody had any: there is nothing to compare with.
        assert engine.rows("SELECT * FROM tf_family") == engine.rows("SELECT * FROM tf_email") == []


def test_digest_of_term_frequencies_is_their_content_in_any_order() -> None:
    rows = [("given", None, 8), ("given", "ann", 4), ("given", "zoe", 2), ("family", "ann", 4)]
    changed = [("given", "ann", 5), ("given", "anna", 4), ("root", "ann", 4), ("given", "an", 44)]

    def digest(*rows: tuple[str, str | None, int]) -> str:
        with DuckDB() as engine:
            fill_terms(engine, *rows)
            return scoring.digest_terms(engine, "term")

    assert digest(*rows) == digest(*reversed(rows))
    assert len({digest(*rows), digest(*rows[1:]), digest(), *(digest(*rows[2:], row) for row in changed)}) == 7


def test_version_without_its_term_frequencies_is_refused(run: Callable[..., Path]) -> None:
    records = people(50, seed=21).to_pylist()
    model = Model.load(run(records) / "model.json")

    with pytest.raises(BadInput, match=r"terms\.parquet"):
        run(records, model=model)


def test_model_without_term_frequencies_has_no_rare_values(run: Callable[..., Path]) -> None:
    output = run(people(300, seed=21).to_pylist(), model=Model.load())

    weights = defaultdict(set)
    for edge in rows_of(output / "edges.parquet"):
        for name, (level, weight) in json.loads(edge["waterfall"] or "{}").items():
            weights[name, level].add(weight)
    assert len(weights) > 20
    assert {len(found) for found in weights.values()} == {1}


def test_command_line_takes_a_version_by_its_folder_or_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(write(tmp_path / "in.parquet", people(200, seed=21).to_pylist()))
    trained, by_folder, by_file = (tmp_path / name for name in ("trained", "folder", "file"))

    assert main([source, str(trained)]) == 0
    assert main([source, str(by_folder), "--model", f"{trained}/"]) == 0
    assert main([source, str(by_file), "--model", str(by_folder / "model.json")]) == 0

    same(trained, by_folder)
    same(trained, by_file)
    (trained / "terms.parquet").unlink()
    capsys.readouterr()
    assert main([source, str(tmp_path / "none"), "--model", str(trained)]) == 2
    assert f"{trained}/terms.parquet" in capsys.readouterr().err
