"""make bench-matching: how well and how fast records are put together, beside other libraries, and whether the goals
are met. Prints a table, keeps it in benchmarks/results/matching.json and .md, where a run of a part replaces its own
rows alone, and exits with 1 where a goal is missed. The resolver is measured too, see resolving.py."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.matching import resolving
from benchmarks.matching.contenders import CONTENDERS, SIBLINGS
from benchmarks.matching.data import DATA
from benchmarks.matching.quality import Quality, quality

TIMEOUT = 1800
RESULTS = Path(__file__).resolve().parents[1] / "results" / "matching.json"

PLAN = {
    # What the settings were tuned on: no goal is measured on it.
    "febrl1": ("rules", "splink", "rules + splink", "recordlinkage", "recordlinkage, taught", "dedupe"),
    "febrl2": ("rules", "splink", "rules + splink", "recordlinkage", "recordlinkage, taught"),
    "febrl3": tuple(CONTENDERS),
    "febrl4": tuple(CONTENDERS),
    "people-10k": tuple(who for who in CONTENDERS if who != "dedupe"),
    "people-100k": ("rules", "splink", "rules + splink", "recordlinkage", "recordlinkage, taught"),
    "people-1M": ("rules", "splink", "rules + splink"),
}
"""Who runs on what: the other libraries as far as they get."""


@dataclass
class Result:
    """One contender on one data set. `quality` is None where it did not finish, and `fault` says how it ended."""

    data: str
    records: int
    contender: str
    seconds: float
    peak_gb: float
    load: float
    """Of the machine as it began, by the last minute: on two cores, seconds are worth something near 0."""
    quality: Quality | None
    fault: str = ""


@dataclass(frozen=True)
class Goal:
    """A goal of the issue: what must hold for `rules + splink` on a data set."""

    data: str
    f1: float = 0.0
    seconds: float = float("inf")
    peak_gb: float = float("inf")

    def met_by(self, result: Result) -> bool:
        """Whether it does."""
        return bool(
            result.quality
            and result.quality.f1 >= self.f1
            and result.seconds <= self.seconds
            and result.peak_gb <= self.peak_gb
        )


GOALS = (
    Goal("febrl3", f1=0.99),
    Goal("febrl4", f1=0.99),
    Goal("people-100k", f1=0.95),
    Goal("people-1M", seconds=300, peak_gb=8),
)
SAME_PAIRS = 0.999
"""Of the pairs that DuckDB's run or Spark's puts together, at least so many are put together by both."""


def run(data: str, contender: str, folder: Path) -> Result:
    """Runs a contender in a process of its own, and watches it and its children."""
    records, found = folder / f"{data}.parquet", folder / f"{data}-{contender.replace(' ', '_')}.parquet"
    command = [sys.executable, "-m", "benchmarks.matching.contenders", contender, str(records), str(found)]
    load, begun, peak = os.getloadavg()[0], time.perf_counter(), 0
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            watched = psutil.Process(process.pid)
            while process.poll() is None and time.perf_counter() - begun < TIMEOUT:
                peak = max(peak, _memory(watched))
                time.sleep(0.05)
            process.kill()
        finally:
            seconds = time.perf_counter() - begun
            code = process.wait()
        log.seek(0)
        lines = log.read().strip().splitlines()
    truth = pq.read_table(records, columns=["id", "entity"]).sort_by("id")
    result = Result(data, truth.num_rows, contender, round(seconds, 1), round(peak / 1e9, 2), round(load, 1), None)
    if code:
        result.fault = "over half an hour" if seconds > TIMEOUT else (lines or [f"exit {code}"])[-1][:120]
        return result
    clusters = pq.read_table(found).sort_by("id")
    result.quality = quality(truth["entity"].to_pylist(), clusters["cluster"].to_pylist())
    return result


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            # What is shared with a parent is counted once.
            total += each.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def same_pairs(folder: Path, data: str) -> float:
    """Which part of the pairs of DuckDB's clusters and Spark's is in both."""
    names = ("rules_+_splink", "rules_+_splink_on_Spark")
    one, other = (
        pq.read_table(folder / f"{data}-{name}.parquet").sort_by("id")["cluster"].to_pylist() for name in names
    )
    found = quality(one, other)
    shared = found.precision * found.recall
    return shared / (found.precision + found.recall - shared)


def line(result: Result) -> str:
    """A row of the table."""
    head = f"| {result.data} | {result.contender} |"
    if result.quality is None:
        return f"{head} {result.fault} | | | | | | {result.seconds} | {result.peak_gb} | {result.load} |"
    q = result.quality
    values = (q.precision, q.recall, q.f1, q.b_precision, q.b_recall, q.b_f1)
    shown = " | ".join(f"{value:.4f}" for value in values)
    return f"{head} {shown} | {result.seconds} | {result.peak_gb} | {result.load} |"


HEAD = """| data | who | precision | recall | F1 | B³ precision | B³ recall | B³ F1 | s | GB | load |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def keep(results: list[Result]) -> None:
    """Writes the results beside those of earlier runs, in PLAN's order."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = {(row["data"], row["contender"]): row for row in (*kept, *map(asdict, results))}
    rows = [known[data, who] for data, those in PLAN.items() for who in those if (data, who) in known]
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    lines = [line(Result(**row | {"quality": row["quality"] and Quality(**row["quality"])})) for row in rows]
    RESULTS.with_suffix(".md").write_text("\n".join([HEAD, *lines]) + "\n")


def main() -> int:
    """The whole run; 1 where a goal is missed."""
    parser = argparse.ArgumentParser("benchmarks.matching")
    parser.add_argument("--data", nargs="*", choices=list(PLAN), default=list(PLAN))
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), default=list(CONTENDERS))
    asked = parser.parse_args()
    results: list[Result] = []
    missed = 0
    print(HEAD)
    with tempfile.TemporaryDirectory(prefix="bench-matching-") as scratch:
        folder = Path(scratch)
        for sibling in {*SIBLINGS.values()}:
            pq.write_table(DATA[sibling](), folder / f"{sibling}.parquet")
        for data in asked.data:
            pq.write_table(DATA[data](), folder / f"{data}.parquet")
            for contender in PLAN[data]:
                if contender in asked.only:
                    results.append(run(data, contender, folder))
                    print(line(results[-1]), flush=True)
                    keep(results[-1:])
        print()
        for goal in GOALS:
            for result in results:
                if (result.data, result.contender) == (goal.data, "rules + splink"):
                    met = goal.met_by(result)
                    missed += not met
                    print(f"{'met' if met else 'MISSED'}: {goal}")
        for data in asked.data:
            if any(r.data == data and r.contender.endswith("Spark") and r.quality for r in results):
                share = same_pairs(folder, data)
                missed += share < SAME_PAIRS
                print(
                    f"{'met' if share >= SAME_PAIRS else 'MISSED'}: Spark's pairs are DuckDB's on {data}: {share:.5f}"
                )
    resolved = [data for data in asked.data if data in resolving.NEW and len(asked.only) == len(CONTENDERS)]
    if resolved:
        # In a process of its own, whose memory is measured.
        command = [sys.executable, "-m", "benchmarks.matching.resolving", "--data", *resolved]
        missed += subprocess.run(command).returncode
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
