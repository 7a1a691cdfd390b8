"""The resolver beside full runs: how fast it is, and whether it finds the same. The second part of make bench-matching.

`python -m benchmarks.matching.resolving [--data people-1M …]`: of each data set, shuffled, most records are loaded
before a run, the others after it, and a run with the same model version on all of them must find the same entities.
Keeps benchmarks/results/resolver.json and .md, where a data set replaces its own rows, and exits with 1 if a goal is
missed."""

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.matching.data import DATA, SEED
from benchmarks.matching.quality import quality
from local.postgres import Postgres

RESULTS = Path(__file__).resolve().parents[1] / "results" / "resolver.json"

UPLOAD = 10_000
"""Records of one upload."""

NEW = {"febrl3": 2_500, "febrl4": 5_000, "people-100k": 50_000, "people-1M": 100_000}
"""How many of the records of a data set are loaded after the run."""

COMPARED = 5
"""Uploads before the run, and after it, whose rates are compared."""

SINGLE, THOUSANDS = 20, 3
"""How often one record, and a thousand, are uploaded and resolved."""


@dataclass(frozen=True)
class Result:
    """What was measured on one data set. Rates are records per second; times in seconds, from an upload until it is
    resolved; `peak_mb` is the memory of the process that resolves, when it has done everything."""

    data: str
    records: int
    new: int
    load: float
    run_rate: float
    restore: float
    one_p95: float
    thousand: float
    rate: float
    peak_mb: float
    upload_ratio: float
    """Of the median rate of uploads with an active run to that without one, each of up to COMPARED uploads."""
    same: bool
    """Whether a full run with the same model version finds the same entities."""
    f1: float
    f1_full: float


def goals(result: Result) -> Iterator[tuple[str, bool]]:
    """The goals and whether they are met. Rates and times are asked of the largest data set only."""
    yield f"{result.data}: the entities are those of a full run", result.same
    yield f"{result.data}: F1 {result.f1:.4f} is that of a full run", f"{result.f1:.4f}" == f"{result.f1_full:.4f}"
    if result.records >= 1_000_000:
        yield "uploads with an active run at 0.9 × the rate without", result.upload_ratio >= 0.9
        yield "new records at half the rate of a full run", result.rate >= 0.5 * result.run_rate
        yield "one record in a second (p95)", result.one_p95 <= 1.0
        yield "a thousand records in three seconds", result.thousand <= 3.0


def measure(data: str) -> Result:
    """Measures one data set on a database of its own, in this process."""
    table, new = DATA[data](), NEW[data]
    table = table.take(random.Random(SEED).sample(range(table.num_rows), table.num_rows))
    first = table.num_rows - new
    with _store() as store:
        # Imported here, because the settings of the environment are read on import.
        from jobs.matching import runs
        from jobs.matching.resolver import Resolver

        position = 0

        def upload(count: int) -> list[float]:
            """Uploads the next records; the records per second of each upload."""
            nonlocal position
            rates = []
            for start in range(position, position + count, UPLOAD):
                batch = _fields(table.slice(start, min(UPLOAD, position + count - start)))
                begun = time.perf_counter()
                store.records.add(batch)
                rates.append(len(batch) / (time.perf_counter() - begun))
            position += count
            return rates

        load = os.getloadavg()[0]
        without = upload(first)[-COMPARED:]
        begun = time.perf_counter()
        run, _ = store.runs.create({}, None, "")
        assert runs.run(run, store) == "done", store.runs.get(run)
        run_rate = first / (time.perf_counter() - begun)

        with Resolver(store) as resolver:

            def resolve() -> float:
                begun = time.perf_counter()
                while resolver.step(run):
                    pass
                return time.perf_counter() - begun

            def uploaded_and_resolved(count: int) -> float:
                return count / upload(count)[0] + resolve()

            restore = uploaded_and_resolved(1)
            ones = sorted(uploaded_and_resolved(1) for _ in range(SINGLE))
            thousands = [uploaded_and_resolved(min(1_000, new // 10)) for _ in range(THOUSANDS)]
            with_run = upload(table.num_rows - position)[:COMPARED]
            left = store.resolving.backlog().records
            rate = left / resolve()
        found, peak = _clusters(store, run), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        again, _ = store.runs.create({}, None, "", model_of=run, activate=False)
        assert runs.run(again, store) == "done", store.runs.get(again)
        full = _clusters(store, again)
    truth = table["entity"].to_pylist()
    return Result(
        data=data,
        records=table.num_rows,
        new=new,
        load=round(load, 1),
        run_rate=round(run_rate),
        restore=round(restore, 1),
        one_p95=round(ones[int(0.95 * len(ones))], 2),
        thousand=round(statistics.median(thousands), 2),
        rate=round(rate),
        peak_mb=round(peak),
        upload_ratio=round(statistics.median(with_run) / statistics.median(without), 2),
        same=found == full,
        f1=round(quality(truth, found).f1, 6),
        f1_full=round(quality(truth, full).f1, 6),
    )


def _fields(table: pa.Table) -> list[Any]:
    from dedup.records import Record

    known, unknown = {*Record.model_fields}, {"name": None, "email": None}
    return [
        Record(**unknown | {name: value for name, value in row.items() if name in known and value is not None}).fields()
        for row in table.to_pylist()
    ]


def _clusters(store: Any, run: int) -> Sequence[int]:
    """The entity of each record, in the order of the records, as the first record of the entity."""
    rows = store._database.read(
        lambda connection: connection.run(
            f"""SELECT min(record_id) OVER (PARTITION BY entity_id) FROM matching.member_{run} ORDER BY record_id"""
        )
    )
    return [first for [first] in rows]


@contextmanager
def _store() -> Iterator[Any]:
    """A store in a new database."""
    with tempfile.TemporaryDirectory(prefix="bench-resolver-") as name, Postgres(Path(name) / "postgres") as postgres:
        database = postgres.create_database("measured")
        os.environ |= {
            **database.environment(),
            "POWERTOOLS_METRICS_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": "WARNING",
            "POWERTOOLS_SERVICE_NAME": "benchmark",
            "SOURCES": "salesforce,hubspot,internal,febrl",
        }
        from dedup.settings import settings
        from dedup.store import Store
        from dedup.store.connection import Database

        settings.cache_clear()
        store = Store(Database(settings()))
        store.schema.migrate()
        yield store
        store.close()


COLUMNS = (
    "data", "records", "of them after the run", "full run, records/s", "resolver, records/s", "one record, p95 s",
    "1,000 records, s", "restored in s", "peak MB", "uploads beside no run", "F1", "F1 of a full run", "same entities",
    "load",
)  # fmt: skip
HEAD = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"


def line(one: Result) -> str:
    """A row of the table."""
    cells = (
        one.data, f"{one.records:,}", f"{one.new:,}", f"{one.run_rate:,.0f}", f"{one.rate:,.0f}", one.one_p95,
        one.thousand, one.restore, f"{one.peak_mb:,.0f}", f"{one.upload_ratio} ×",
        f"{one.f1:.4f}", f"{one.f1_full:.4f}", "yes" if one.same else "**no**", one.load,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def keep(result: Result) -> None:
    """Writes a result beside those of other data sets."""
    kept = {row["data"]: row for row in (json.loads(RESULTS.read_text()) if RESULTS.exists() else [])}
    kept[result.data] = asdict(result)
    rows = [kept[data] for data in NEW if data in kept]
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join([HEAD, *(line(Result(**row)) for row in rows)]) + "\n")


def main() -> int:
    """The exit code: 1 if a goal is missed."""
    parser = argparse.ArgumentParser("benchmarks.matching.resolving")
    parser.add_argument("--data", nargs="*", choices=list(NEW), default=list(NEW))
    missed = 0
    print(HEAD)
    for data in parser.parse_args().data:
        result = measure(data)
        print(line(result), flush=True)
        keep(result)
        for goal, met in goals(result):
            missed += not met
            print(f"{'met' if met else 'MISSED'}: {goal}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
