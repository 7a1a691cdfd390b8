"""python -m benchmarks.matching.teach: trains the default model, jobs/matching/model.json, for runs with few records.

It is trained from 100,000 records of made-up people, of a seed that no benchmark uses. Run it after a change to the
comparisons of the settings."""

import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from dedup.matching.settings import Settings

from benchmarks.matching.people import people
from jobs import ROOT
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.match import match
from jobs.matching.model import Model

SEED = 12


def main() -> None:
    """Removes the file while it trains: otherwise the new model would be shrunk towards the old one."""
    with tempfile.TemporaryDirectory(prefix="teach-") as scratch, DuckDB() as engine:
        records, output = Path(scratch) / "people.parquet", Path(scratch) / "out"
        pq.write_table(people(100_000, SEED), records)
        default = ROOT / "jobs" / "matching" / "model.json"
        default.unlink(missing_ok=True)
        match(engine, str(records), str(output), Settings.load())
        trained = Model.load(output / "model.json")
        # Each run that uses it decides these anew.
        default.write_text(trained.model_copy(update={"waived": (), "terms": None}).text())


if __name__ == "__main__":
    main()
