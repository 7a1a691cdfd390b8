"""One pair at a time in Python, and all pairs by Splink: the same weights and levels."""

import json
from pathlib import Path

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow.parquet as pq
from dedup.matching.scoring import Scorer, steps_of
from dedup.matching.settings import Settings

from benchmarks.matching.people import people
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.match import match
from jobs.matching.model import Model


def untaught() -> Model:
    """The default model without some of what was learnt."""
    model = json.loads(Model.load().text())
    del model["version"]
    for name, label, lacking in (("given", "near", "m"), ("family", "same", "u"), ("phone", "else", "mu")):
        [level] = [level for level in model["comparisons"][name] if level["label"] == label]
        level |= dict.fromkeys(lacking)
    model["comparisons"]["company"][1]["label"] = "of other settings"
    del model["comparisons"]["email"]
    return Model.model_validate(model)


INITIALS = {"name": "initials", "columns": ["initials"], "levels": [{"label": "same", "equal": ["initials"]}]}
OWN_COMPARISON = Settings.over(
    {
        "comparisons": [*Settings.load().model_dump(mode="json")["comparisons"], INITIALS],
        # Every pass holds the initials alike: none learns how often they are.
        "training": {"from_records": 100, "passes": [["initials", "date_of_birth"]], "pass_needs_pairs": 1},
    }
)


@pytest.fixture(
    scope="module",
    params=[(Settings.load(), None), (Settings.load(), untaught()), (OWN_COMPARISON, None)],
    ids=["default", "untaught", "own comparison"],
)
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """What the job finds of the records of made-up people."""
    settings, model = request.param
    folder = tmp_path_factory.mktemp("score")
    pq.write_table(people(800, seed=11), folder / "people.parquet")
    with DuckDB(memory="1GB") as engine:
        match(engine, str(folder / "people.parquet"), str(folder / "found"), settings, model=model)
    return folder / "found"


def test_a_pair_has_the_weight_that_splink_gives_it(found: Path) -> None:
    settings = json.loads((found / "settings.json").read_text())
    model = json.loads((found / "model.json").read_text())
    members = {row["record_id"]: row for row in pq.read_table(found / "members.parquet").to_pylist()}
    shares: dict[str, dict[str | None, int]] = {}
    for row in pq.read_table(found / "terms.parquet").to_pylist():
        shares.setdefault(row["field"], {})[row["value"]] = row["records"]
    scorer = Scorer(settings, model)
    edges = [row for row in pq.read_table(found / "edges.parquet").to_pylist() if row["reason"] == "model"]
    assert len(edges) > 200
    levels = set()
    for edge in edges:
        scored = scorer.score(members[edge["record_l"]], members[edge["record_r"]], shares)
        assert scored.weight == pytest.approx(edge["match_weight"], abs=0.02), edge
        assert scored.probability == pytest.approx(edge["match_probability"], abs=0.01)
        for mine, theirs in zip(scored.steps, steps_of(edge["waterfall"], settings), strict=True):
            assert (mine.field, mine.level) == (theirs.field, theirs.level)
            assert mine.weight == pytest.approx(theirs.weight, abs=0.002)
            levels.add((mine.field, mine.level))
        matches = edge["match_weight"] >= settings["thresholds"]["match"]
        assert edge["joins"] == (matches and scored.veto is None)
    # Most of what the settings name was seen, so that it is not agreed on a few levels alone.
    assert len(levels) > 25


def test_each_model_has_the_untrained_levels_that_its_test_is_about(
    found: Path, request: pytest.FixtureRequest
) -> None:
    """So that the test above is about such levels too."""
    model = json.loads((found / "model.json").read_text())["comparisons"]
    unknown = {
        (name, level["label"]) for name, levels in model.items() for level in levels if None in (level["m"], level["u"])
    }
    assert (
        unknown
        == {
            "default": set(),
            "untaught": {("given", "near"), ("family", "same"), ("phone", "else")},
            "own comparison": {("initials", "same"), ("initials", "else")},
        }[request.node.callspec.id]
    )
