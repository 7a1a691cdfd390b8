"""python -m benchmarks.matching.teach: makes jobs/model.json, the model of runs with too few records to learn from.

From 100,000 records of made-up people, of a seed that no figure is measured on. To be run after a change to the
settings' comparisons."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from dedup.matching.settings import Settings

from benchmarks.matching.people import people
from jobs import ROOT
from jobs.engines import DuckDB
from jobs.match import match
from jobs.model import Model

SEED = 12


def main() -> None:
    """Leaves jobs/model.json away while it learns: a model that leans on its predecessor would never forget it."""
    with tempfile.TemporaryDirectory(prefix="teach-") as scratch, DuckDB() as engine:
        records, output = Path(scratch) / "people.parquet", Path(scratch) / "out"
        pq.write_table(people(100_000, SEED), records)
        default = ROOT / "jobs" / "model.json"
        default.unlink(missing_ok=True)
        match(engine, str(records), str(output), Settings.load())
        default.write_text(Model.load(output / "model.json").text())


if __name__ == "__main__":
    main()
