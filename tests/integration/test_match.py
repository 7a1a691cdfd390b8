"""Matching on real engines: DuckDB, and Spark where Java and PySpark are there."""

import csv
import importlib.util
import json
import multiprocessing.synchronize
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq
from dedup.matching import normalise
from dedup.matching.clustering import jaro_winkler
from dedup.matching.rules import conventions_of
from dedup.matching.scoring import near
from dedup.matching.settings import Settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jobs import BadInput
from jobs.matching.clustering import create_entities
from jobs.matching.command import ENGINES, main
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.engine import arrow_table
from jobs.matching.match import match
from jobs.matching.model import Model
from jobs.matching.processes import in_processes
from jobs.matching.summary import Summary
from tests.conftest import FULL, ROOT, budget

PEOPLE = ROOT / "samples" / "people.json"
without_spark = pytest.mark.skipif(
    not (shutil.which("java") and importlib.util.find_spec("pyspark")), reason="Spark needs Java 17 and pyspark"
)

Pair = tuple[int, int]


def rows_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def people() -> list[dict[str, Any]]:
    return [{"id": place, **row} for place, row in enumerate(json.loads(PEOPLE.read_text())["customers"], 1)]


def entities(output: Path) -> dict[int, int]:
    return {row["record_id"]: row["entity_id"] for row in rows_of(output / "entities.parquet")}


def together(output: Path) -> set[Pair]:
    members = defaultdict(list)
    for record, entity in entities(output).items():
        members[entity].append(record)
    return {pair for group in members.values() for pair in combinations(sorted(group), 2)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes records as Parquet; the path."""

    def write(rows: Iterable[dict[str, Any]]) -> str:
        listed = list(rows)
        names = dict.fromkeys(name for row in listed for name in row)
        path = tmp_path / "records.parquet"
        pq.write_table(pa.table({name: [row.get(name) for row in listed] for name in names}), path)
        return str(path)

    return write


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Matches a file; the output folder. Each call has one of its own."""
    runs = iter(range(100))

    def run(source: str | Path, engine: str = "duckdb", settings: Settings | None = None, **options: Any) -> Path:
        output = tmp_path / f"run{next(runs)}"
        with ENGINES[engine](memory="2g" if engine == "spark" else "1GB") as opened:
            done = match(opened, str(source), str(output), settings or Settings.load(), **options)
        assert isinstance(done, Summary)
        return output

    return run


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sample") / "run"
    assert main([str(PEOPLE), str(output)]) == 0
    return output


def ids(*names: str) -> list[int]:
    """The records of people by what their name begins with."""
    return [row["id"] for row in people() if row["name"].startswith(names)]


def test_sample_is_matched_as_a_person_would_match_it(sample: Path) -> None:
    found = together(sample)

    one = [
        ids("Katherine Moreau", "Kate Moreau", "Moreau"),
        ids("Hannah Petrov", "Lindgren, Hannah"),
        ids("Ingrid", "Sorensen"),
        ids("Yuki", "Tanaka"),
        ids("Teresa", "Castellan, Teresa"),
        ids("Priya", "P. Raman", "Raman"),
    ]
    apart = [ids("Robert Castellan", "Castellan, Teresa", "Castellan, Marco"), ids("Samuel", "Omar", "Elena")[:3]]
    assert [group for group in one if not set(combinations(group, 2)) <= found] == []
    assert [group for group in apart if set(combinations(group, 2)) & found] == []
    assert {tuple(ids("Maria Garcia"))} == set(combinations(ids("Garcia, Maria", "Maria Garcia"), 2)) & found


def test_every_record_has_one_entity_and_every_entity_a_reason(sample: Path) -> None:
    found = entities(sample)
    joined = {(row["record_l"], row["record_r"]) for row in rows_of(sample / "edges.parquet")}

    assert sorted(found) == [row["id"] for row in people()]
    for entity in set(found.values()):
        members = {record for record, other in found.items() if other == entity}
        reached = {min(members)}
        while more := {b for a, b in joined | {(b, a) for a, b in joined} if a in reached and b in members} - reached:
            reached |= more
        assert reached == members


def test_edges_have_a_rule_or_a_waterfall(sample: Path) -> None:
    edges = rows_of(sample / "edges.parquet")
    model = Model.load(sample / "model.json")
    settings = Settings.load()

    assert {"same_email_and_name", "same_phone_and_name"} <= {e["rule"] for e in edges if e["reason"] == "rule"}
    scored = [edge for edge in edges if edge["reason"] == "model"]
    assert scored
    for edge in scored:
        waterfall = json.loads(edge["waterfall"])
        assert list(waterfall) == [comparison.name for comparison in settings.comparisons]
        # The prior and the steps of the waterfall are the match weight.
        assert edge["match_weight"] - sum(weight for _, weight in waterfall.values()) == pytest.approx(
            prior_weight(model), abs=0.01
        )
        for comparison in settings.comparisons:
            level, weight = waterfall[comparison.name]
            assert 0 <= level <= len(comparison.levels) + 1
            assert weight == 0 or level > 0
        assert any(weight for _, weight in waterfall.values())


def prior_weight(model: Model) -> float:
    from math import log2

    return log2(model.prior / (1 - model.prior))


def test_review_lists_the_most_uncertain_pairs_first(sample: Path) -> None:
    review = rows_of(sample / "review.parquet")

    assert [row["uncertainty"] for row in review] == sorted((row["uncertainty"] for row in review), reverse=True)
    father_and_son = tuple(ids("Henry Ashworth"))
    assert (*father_and_son, "other_birth_date") in {
        (r["record_l"], r["record_r"], r["constraint_name"]) for r in review
    }


def test_csv_and_json_are_the_same_records(run: Callable[..., Path], sample: Path) -> None:
    output = run(ROOT / "samples" / "people.csv")

    assert together(output) == together(sample)
    with (ROOT / "samples" / "people.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 60


def test_order_of_the_records_does_not_matter(
    run: Callable[..., Path], write: Callable[..., str], sample: Path
) -> None:
    shuffled = people()
    random.Random(3).shuffle(shuffled)

    assert together(run(write(shuffled))) == together(sample)


def test_decisions_bind(run: Callable[..., Path], write: Callable[..., str]) -> None:
    father, son = ids("Henry Ashworth")
    robert, teresa = ids("Robert Castellan")[0], ids("Castellan, Teresa")[0]
    decisions = Decisions.of([
        {"records": [son, father], "decision": "different"},
        {"records": [robert, teresa], "decision": "different"},
        {"records": [teresa, robert], "decision": "same"},
    ])  # fmt: skip

    output = run(write(people()), decisions=decisions)

    assert (father, son) not in together(output)
    assert (robert, teresa) in together(output)
    reasons = {(e["record_l"], e["record_r"], e["reason"], e["rule"]) for e in rows_of(output / "edges.parquet")}
    assert (father, son, "decision", "different") in reasons
    assert (father, son) not in {(r["record_l"], r["record_r"]) for r in rows_of(output / "review.parquet")}


def test_decisions_about_records_that_are_gone_change_nothing(
    run: Callable[..., Path], write: Callable[..., str], sample: Path
) -> None:
    decisions = Decisions.of([{"records": [1, 10_000], "decision": "same"}])

    assert together(run(write(people()), decisions=decisions)) == together(sample)


def test_entity_ids_stay_between_runs(run: Callable[..., Path], write: Callable[..., str], sample: Path) -> None:
    newcomer = {"id": 61, "customer_id": 1, "source": "hubspot", "name": "Nobody Known", "email": "nobody@example.com"}
    rest = [row for row in people() if row["id"] != 1]

    output = run(write([*rest, newcomer]), previous=str(sample / "entities.parquet"))

    before, after = entities(sample), entities(output)
    assert {record: after[record] for record in after if record != 61} == {r: e for r, e in before.items() if r != 1}
    assert after[61] == max(before.values()) + 1


def kept_ids(clusters: list[frozenset[int]], previous: dict[int, int], first_free: int) -> dict[int, int]:
    """The entity of each record: the rule of create_entities() in other words."""
    claims: dict[frozenset[int], list[tuple[int, int]]] = defaultdict(list)
    for entity in set(previous.values()):
        shared = {c: len([r for r in c if previous.get(r) == entity]) for c in clusters}
        oldest = {c: min((r for r in c if previous.get(r) == entity), default=0) for c in clusters}
        heir = min(clusters, key=lambda c: (-shared[c], oldest[c]))
        if shared[heir]:
            claims[heir].append((-shared[heir], entity))
    new = count(first_free)
    of_cluster = {c: min(claims[c])[1] if c in claims else next(new) for c in sorted(clusters, key=min)}
    return {record: entity for cluster, entity in of_cluster.items() for record in cluster}


@given(
    st.lists(st.integers(1, 6), min_size=12, max_size=12),
    st.dictionaries(st.integers(1, 14), st.integers(1, 6), max_size=14),
    st.integers(1, 30),
)
@hypothesis_settings(max_examples=budget(10, 100), deadline=None)
def test_ids_are_kept_by_most_records_then_by_the_oldest(
    labels: list[int], previous: dict[int, int], first_id: int
) -> None:
    members = defaultdict(set)
    for record, label in enumerate(labels, 1):
        members[label].add(record)
    clusters = [frozenset(group) for group in members.values()]
    rows = [(record, min(group)) for group in clusters for record in group]
    with _SHARED as engine:
        engine.fill("cluster", arrow_table(rows, {"id": pa.int64(), "cluster": pa.int64()}))
        engine.fill("former", arrow_table(list(previous.items()), {"record_id": pa.int64(), "entity_id": pa.int64()}))
        create_entities(engine, "SELECT * FROM former", first_id)
        found = dict(engine.rows("SELECT record_id, entity_id FROM entity"))

    assert found == kept_ids(clusters, previous, max(first_id, max(previous.values(), default=0) + 1))


class _Shared:
    """One engine for the examples of a property: opening one costs more than an example."""

    def __init__(self) -> None:
        self._engine: DuckDB | None = None

    def __enter__(self) -> DuckDB:
        self._engine = self._engine or DuckDB(memory="500MB")
        return self._engine

    def __exit__(self, *_: object) -> None:
        return


_SHARED = _Shared()


comparable = st.text("abcdef", min_size=1, max_size=9) | st.text(max_size=9).map(normalise.fold).filter(bool)
"""What normalising leaves of names and of any text."""
long = st.text("ab 1", min_size=60, max_size=300)


@given(st.lists(st.tuples(comparable, comparable), min_size=20), st.lists(st.tuples(long, long), max_size=3))
@hypothesis_settings(max_examples=budget(10, 100), deadline=None)
def test_likeness_in_python_is_duckdbs(pairs: list[tuple[str, str]], long_pairs: list[tuple[str, str]]) -> None:
    pairs += long_pairs + [(a, a[:3] + b) for a, b in pairs]
    with _SHARED as engine:
        engine.fill("pair", pa.table({"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}))
        found = engine.rows("SELECT a, b, jaro_winkler_similarity(a, b), levenshtein(a, b) FROM pair")

    for a, b, alike, changed in found:
        assert jaro_winkler(a, b) == pytest.approx(alike, abs=1e-9), (a, b)
        assert [near(a, b, most) for most in range(4)] == [changed <= most for most in range(4)], (a, b)


def test_names_in_two_alphabets_are_matched_as_in_one(
    run: Callable[..., Path], write: Callable[..., str], sample: Path
) -> None:
    cyrillic = str.maketrans("abvgdeziklmnoprstuf", "абвгдезиклмнопрстуф")
    rows = people()
    for row in rows[::2]:
        row["name"] = row["name"].lower().translate(cyrillic)

    assert together(run(write(rows))) == together(sample)


def test_one_shared_mailbox_does_not_make_a_crowd_one(run: Callable[..., Path], write: Callable[..., str]) -> None:
    crowd = [
        {"id": n, "source": "hubspot", "customer_id": n, "name": f"{given_name} {family}", "email": "info@example.com"}
        for n, (given_name, family) in enumerate(
            (
                (g, f)
                for g in ("Anna", "Robert", "Chiara", "Omar", "Ingrid")
                for f in ("Weiss", "Okafor", "Sato", "Novak")
            ),
            1,
        )
    ]

    assert together(run(write(crowd))) == set()


@pytest.mark.parametrize("people_per_home", [1, 2])
def test_two_names_at_one_address_are_one_person_only_where_homes_have_one(
    run: Callable[..., Path], write: Callable[..., str], people_per_home: int
) -> None:
    letters = "bcdfghjklmnpqrstvwxz"
    families = [f"{a}e{b}lund" for a in letters for b in letters][::8][:40]
    homes = [
        {
            "name": f"{name} {family}",
            "address": f"{n} {family} Street",
            "postcode": f"{20000 + n}",
            "date_of_birth": born,
        }
        for n, family in enumerate(families, 1)
        for name, born in (
            ("Ingrid", "1950-02-03"),
            (("Ingrid", "1950-02-03"), ("Otto", "1981-11-30"))[people_per_home - 1],
        )
    ]
    unclear = [
        {"name": f"{name} Quarterman", "address": "7 Zebulon Parade", "postcode": "99999"} for name in ("Ada", "Hugo")
    ]
    listed = [{"id": n, "source": "hubspot", "customer_id": n, **row} for n, row in enumerate([*unclear, *homes], 1)]

    output = run(write(listed))

    assert ((1, 2) in together(output)) is (people_per_home == 1)
    counts = json.loads((output / "run.json").read_text())["counts"]
    assert (counts["home_pairs"], counts["home_pairs_of_two_people"]) == (40, 40 * (people_per_home - 1))


def test_two_full_names_of_one_short_form_are_two_people(run: Callable[..., Path], write: Callable[..., str]) -> None:
    known = {"phone": "212-555-0142", "address": "7 Zebulon Parade", "postcode": "99999"}
    names = ("Patrick", "Patricia", "Trish", "Paddy", "Michael", "Michelle", "Mike", "John", "Jonathan", "Johnny")
    family = [
        {"id": n, "source": "hubspot", "customer_id": n, "name": f"{name} Quarterman", **known}
        for n, name in enumerate(names, 1)
    ]

    assert together(run(write(family))) == {(1, 4), (2, 3), (5, 7), (8, 10)}


def test_cluster_larger_than_allowed_is_split_and_reported(run: Callable[..., Path], write: Callable[..., str]) -> None:
    settings = Settings.load()
    small = settings.model_copy(update={"constraints": settings.constraints.model_copy(update={"max_entity": 3})})
    ada = {"source": "hubspot", "name": "Ada Lindqvist", "email": "ada@example.com"}
    differing = [{"id": n, "customer_id": n, "city": f"City {n}", **ada} for n in range(1, 8)]

    output = run(write(differing), settings=small)

    sizes = [list(entities(output).values()).count(entity) for entity in set(entities(output).values())]
    assert max(sizes) == 3
    assert {row["constraint_name"] for row in rows_of(output / "review.parquet")} >= {"size"}


@pytest.mark.parametrize("count", [15, 70, 3_000])
def test_as_many_records_as_there_are_of_one_person_are_one(
    run: Callable[..., Path], write: Callable[..., str], count: int
) -> None:
    """Those that say the same under ids of their own, those of one customer that all say something else, and who is
    near to either."""
    said = {"source": "hubspot", "email": "ada@example.com"}
    changing = {"source": "internal", "customer_id": 7}
    everyone = [
        *({"customer_id": 100 + n, "name": "Ada Lindqvist", **said} for n in range(count)),
        *(
            {"name": "Otto Sato", "email": f"otto{n}@example.com", "city": f"City {n}", **changing}
            for n in range(count)
        ),
        {"source": "salesforce", "customer_id": 1, "name": "Ada Lindquist", "email": "ada@example.com"},
        {"source": "salesforce", "customer_id": 2, "name": "Otto Sato", "email": "otto3@example.com"},
    ]

    output = run(write({"id": n, **row} for n, row in enumerate(everyone, 1)))

    entity = entities(output)
    assert {entity[n] for n in (*range(1, count + 1), 2 * count + 1)} == {entity[1]}
    assert {entity[n] for n in (*range(count + 1, 2 * count + 1), 2 * count + 2)} == {entity[count + 1]}
    assert entity[1] != entity[count + 1]
    linked = {record for edge in rows_of(output / "edges.parquet") for record in (edge["record_l"], edge["record_r"])}
    assert linked == set(range(1, 2 * count + 3))


def test_rules_alone_need_no_model(run: Callable[..., Path]) -> None:
    output = run(PEOPLE, settings=Settings.load().model_copy(update={"methods": ("rules",)}))

    assert {edge["reason"] for edge in rows_of(output / "edges.parquet")} == {"rule"}
    assert together(output) >= set(combinations(ids("William", "Bill", "Okafor"), 2))


def test_same_settings_and_model_give_the_same_answer(run: Callable[..., Path]) -> None:
    model = Model.load()

    first, second = run(PEOPLE, model=model), run(PEOPLE, model=model)

    for name in ("entities", "edges", "review", "histogram"):
        assert rows_of(first / f"{name}.parquet") == rows_of(second / f"{name}.parquet")
    assert (first / "model.json").read_text() == (second / "model.json").read_text()


def test_model_is_learnt_where_there_is_enough_to_learn_from(
    run: Callable[..., Path], write: Callable[..., str]
) -> None:
    from benchmarks.matching.people import people as made_up
    from benchmarks.matching.quality import quality

    table = made_up(3000, 5)

    output = run(write(table.to_pylist()))

    summary = json.loads((output / "run.json").read_text())
    assert summary["model"]["trained_here"]
    assert Model.load(output / "model.json").version == summary["model"]["version"] != Model.load().version
    found = entities(output)
    truth = {row["id"]: row["entity"] for row in table.to_pylist()}
    result = quality([truth[record] for record in sorted(found)], [found[record] for record in sorted(found)])
    assert result.precision > 0.93
    assert result.f1 > 0.93


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"id": 1, "name": "A"}, {"id": 1, "name": "B"}], "each id once"),
        ([{"name": "A", "shoe": "42"}], "expected a column id or customer_id"),
    ],
)
def test_input_that_cannot_be_matched_is_refused_with_what_to_do(
    run: Callable[..., Path], write: Callable[..., str], rows: list[dict[str, Any]], error: str
) -> None:
    with pytest.raises(BadInput, match=error):
        run(write(rows))


def test_unknown_kind_of_file_ends_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records.xlsx", str(tmp_path / "out")]) == 2
    assert ".parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["crm.export.json", "crm.2026-11-24.csv", "crm.json.csv.gz", "v1.2.json.gz", "a.b.parquet"]
)
def test_last_suffix_of_a_name_says_the_format(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    with DuckDB(memory="500MB") as engine:
        engine.read(str(PEOPLE))
        engine.connection.execute(f"COPY raw TO '{path}'")
        engine.read(path)

        assert engine.rows("SELECT count(DISTINCT id) FROM raw") == [(len(people()),)]


def test_run_that_is_broken_off_leaves_no_finished_folder(run: Callable[..., Path], tmp_path: Path) -> None:
    def broken(step: str) -> None:
        if step == "write":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(PEOPLE, report=broken)
    assert not list(tmp_path.glob("run*/run.json"))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_records_or_none(run: Callable[..., Path], tmp_path: Path, count: int) -> None:
    path = tmp_path / "few.csv"
    path.write_text("\n".join(["customer_id,name,email,source", *(["7,Ada,ada@example.com,hubspot"] * count)]) + "\n")

    assert len(set(entities(run(path)).values())) == min(count, 1)


def test_records_keep_their_comparable_columns(tmp_path: Path) -> None:
    with DuckDB(memory="500MB") as engine:
        engine.read(str(PEOPLE))
        engine.normalise(conventions_of(Settings.load().model_dump()))
        rows = engine.arrow("SELECT * FROM records ORDER BY id").to_pylist()

    conventions = conventions_of(Settings.load().model_dump())
    assert rows == [
        {"id": row["id"], "source": row["source"], "customer_id": str(row["customer_id"])}
        | normalise.record(row, conventions)
        for row in people()
    ]


@without_spark
@pytest.mark.skipif(not FULL, reason="make test compares the engines on the sample, in test_match_spark.py")
def test_spark_with_a_trained_model_gives_the_clusters_of_duckdb(
    run: Callable[..., Path], write: Callable[..., str]
) -> None:
    from benchmarks.matching.people import people as made_up

    source = write(made_up(400, 5).to_pylist())
    decisions = Decisions.of([{"records": [1, 2], "decision": "same"}])
    training = {"from_records": 100, "max_pairs": 10_000, "passes": [["family", "root"], ["email"]]}
    settings = Settings.over({"training": training})

    duckdb = run(source, settings=settings, decisions=decisions)
    spark = run(source, "spark", settings, decisions=decisions, previous=str(duckdb / "entities.parquet"))

    ours, theirs = together(duckdb), together(spark)
    assert len(ours & theirs) >= 0.999 * len(ours | theirs) > 100
    kept = sum(entities(duckdb)[record] == entity for record, entity in entities(spark).items())
    assert kept >= 0.99 * len(entities(duckdb))
    review = [{(row["record_l"], row["record_r"]) for row in rows_of(r / "review.parquet")} for r in (duckdb, spark)]
    # Its Jaro-Winkler halves odd transpositions: learnt from so few, levels weigh a little else, and pairs near the
    # threshold come in or not.
    assert len(set.intersection(*review)) >= 0.9 * len(set.union(*review)) > 10
    assert json.loads((spark / "run.json").read_text())["model"]["trained_here"]


def test_processes_share_the_work_where_they_can_have_no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no /dev/shm, as on Lambda")

    monkeypatch.setattr(multiprocessing.synchronize, "_multiprocessing", type("Without", (), {"SemLock": refused}))
    with pytest.raises(OSError, match="Lambda"):
        multiprocessing.Lock()

    assert list(in_processes(str, range(7), 3)) == [*"0123456"]
    assert list(in_processes(str, [], 2)) == []
    assert len(set(in_processes(lambda _: os.getpid(), range(4), 2)) - {os.getpid()}) == 2


def test_a_process_that_dies_is_no_silence() -> None:
    with pytest.raises(EOFError):
        list(in_processes(os._exit, [1, 2, 3], 2))
