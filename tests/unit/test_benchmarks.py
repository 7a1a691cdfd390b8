"""What `make bench` and `make bench-check` rest on, without the minutes that they take."""

import json
from pathlib import Path

from benchmarks import report
from benchmarks.handlers import api_event, measure_handler
from benchmarks.measure import Figure, Figures, Key
from benchmarks.stacks import our_environment
from local.postgres import Settings

SIZE = 10_000


def figures(ours_ms: float) -> Figures:
    return {
        Key("analyze", "dense", "http", "ours"): Figure(ours_ms, ours_ms, 10, 45.0),
        Key("analyze", "dense", "http", "reference"): Figure(1000.0, 1000.0, 3, 900.0),
    }


def kept(folder: Path, **changes: float) -> Path:
    """A kept table of a run, with other goals' or operations' ratios."""
    document = report.document({SIZE: figures(2.0)})
    for part in ("goals", "ratios"):
        document[part] = {name: changes.get(part, ratio) for name, ratio in document[part].items()}
    (folder / "10k.json").write_text(json.dumps(document))
    return folder


def test_a_handler_is_measured_as_the_functions_are_run() -> None:
    nowhere = our_environment(Settings("127.0.0.1", 1, "none", "none", "none"))
    found = measure_handler("docs", nowhere, [api_event("docs")], at_least=2)
    assert found.import_ms > 0
    assert len(found.times_ms) >= 2
    assert found.peak_mb > 0


def test_the_same_figures_are_no_worse(tmp_path: Path) -> None:
    assert report.regressions({SIZE: figures(2.0)}, kept(tmp_path)) == []


def test_a_fallen_ratio_is_named(tmp_path: Path) -> None:
    found = report.regressions({SIZE: figures(4.0)}, kept(tmp_path))
    assert len(found) == 2
    assert all("500 × became 250 ×" in sentence for sentence in found)


def test_a_kept_table_that_claims_more_fails(tmp_path: Path) -> None:
    assert report.regressions({SIZE: figures(2.0)}, kept(tmp_path, ratios=2000.0))
    assert report.regressions({SIZE: figures(2.0)}, kept(tmp_path, goals=2000.0))
