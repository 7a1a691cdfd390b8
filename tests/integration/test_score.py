"""One pair at a time in Python, and all pairs by Splink: the same weights and levels."""

import json
from pathlib import Path

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow.parquet as pq
from dedup.match_settings import Settings
from dedup.score import Scorer, levenshtein, steps_of
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.matching.people import people
from jobs.engines import DuckDB
from jobs.match import match


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the job finds of the records of made-up people, with the default model."""
    folder = tmp_path_factory.mktemp("score")
    pq.write_table(people(800, seed=11), folder / "people.parquet")
    with DuckDB(memory="1GB") as engine:
        match(engine, str(folder / "people.parquet"), str(folder / "found"), Settings.load())
    return folder / "found"


def test_a_pair_has_the_weight_that_splink_gives_it(found: Path) -> None:
    settings = json.loads((found / "settings.json").read_text())
    model = json.loads((found / "model.json").read_text())
    members = {row["record_id"]: row for row in pq.read_table(found / "members.parquet").to_pylist()}
    shares: dict[str, dict[str | None, int]] = {}
    for row in pq.read_table(found / "terms.parquet").to_pylist():
        shares.setdefault(row["field"], {})[row["value"]] = row["records"]
    scorer = Scorer(settings, model, len(members))
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
        if edge["joins"]:
            assert scored.veto is None
    # Most of what the settings name was seen, so that it is not agreed on a few levels alone.
    assert len(levels) > 25


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.integers(0, 3))
def test_levenshtein_is_the_shortest_way_from_one_text_to_the_other(one: str, other: str, most: int) -> None:
    def distance(a: str, b: str) -> int:
        table = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                table[i][j] = min(
                    table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                )
        return table[-1][-1]

    true = distance(one, other)
    assert levenshtein(one, other, most) == true if true <= most else levenshtein(one, other, most) > most
