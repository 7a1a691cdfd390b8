"""Everything that is measured at one size, in order: reads before writes, so that each size is what it says."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import ROOT, reads, stacks, writes
from benchmarks.call_handler import EMPTY
from benchmarks.data import STYLES, Data
from benchmarks.goals import COLD_START, LAYER
from benchmarks.handlers import measure_handler
from benchmarks.ingest import ingest
from benchmarks.load import BATCH, load_ours, load_reference, settle
from benchmarks.measure import Figure, Figures, Key, Stack
from benchmarks.snapshot import snapshots
from benchmarks.stacks import Service
from local.postgres import Postgres, Settings

LOAD = f"uploads of {BATCH:,}, no API, while it grows"
INGESTED = 1_000_000
"""Rows of the files that are ingested, at most: what each costs does not change after that."""

COLD_STARTS = 11
"""Of each function. The goal is about the slowest of forty medians, and of five they are too far apart."""

LOG = "services.log"


Databases = dict[tuple[int, str], Settings]
"""Ours, by the number of records that were loaded into them and the style of their ids."""


def measure(
    size: int,
    postgres: Postgres,
    folder: Path,
    databases: Databases,
    say: Callable[[Key, Figure], None],
    whole: bool,
) -> Figures:
    """Measures with `size` records everything, or, unless `whole`, what tells how cost grows.

    `folder` is for files that may be deleted afterwards; `databases` are those of smaller sizes, and get this one's.
    `say` is called with each figure as soon as it is known."""
    figures: Figures = {}
    for key, figure in _all(size, postgres, folder, databases, whole):
        figures[key] = figure
        say(key, figure)
    return figures


def _all(
    size: int, postgres: Postgres, folder: Path, databases: Databases, whole: bool
) -> Iterator[tuple[Key, Figure]]:
    log = folder / LOG
    for style in STYLES:
        data = Data(size, style)
        database = databases[size, style] = postgres.create_database(f"ours_{size}_{style}")
        yield Key(LOAD, style, "process", "ours"), Figure.of(load_ours(database, data), None, BATCH)
        if smaller := databases.get((size // 10, style)):
            with stacks.ours(database, log) as all_of_it, stacks.ours(smaller, log) as tenth:
                yield from reads.in_turns(data, all_of_it, tenth)
        with stacks.ours(database, log) as ours:
            if style == "dense":
                theirs = postgres.create_database(f"reference_{size}")
                yield from _beside_the_reference(data, ours, database, theirs, log, whole)
            else:
                yield from reads.reads_of_ours(data, ours)
                yield from writes.uploads(data, {"ours": ours}, [BATCH])
    if whole:
        yield from ingest(Data(min(size, INGESTED), "dense"), postgres, folder, repeats=3)
        yield from snapshots(Data(min(size, INGESTED), "dense"), postgres, folder, repeats=3)
        yield from _cold_starts(postgres.create_database("cold"))
        yield _layer()


def _beside_the_reference(
    data: Data, ours: Service, database: Settings, theirs: Settings, log: Path, whole: bool
) -> Iterator[tuple[Key, Figure]]:
    with stacks.reference(theirs, log) as reference:
        load_reference(theirs, data)
        reads.agree(data, ours, reference)
        yield from reads.reads_of_reference(data, reference)
        yield from reads.reads_of_ours(data, ours)
        yield from reads.handlers(data, database, theirs)
        yield from writes.uploads(data, {"reference": reference, "ours": ours}, [1, 1000, BATCH])
        yield from writes.upload_handler(data, database)
    if not whole:
        return
    # As it is run in production: a process for each core.
    with stacks.reference(theirs, log, workers=os.cpu_count() or 1) as reference:
        yield from writes.uploaders(data, {"reference": reference, "ours": ours})
    yield from writes.readers(data, ours)
    with stacks.reference(theirs, log) as reference:
        for each in (database, theirs):
            with closing(each.connect()) as connection:
                settle(connection)
        yield from writes.clear(data, {"reference": reference, "ours": ours})


def _cold_starts(database: Settings) -> Iterator[tuple[Key, Figure]]:
    """The import of each function's module in a new interpreter, as Lambda's init does it, and the memory after it. In
    rounds, so that what else the machine does is spread over all of them."""
    ours = stacks.our_environment(database)
    environments = {"reference:": stacks.reference_environment(database), EMPTY: ours} | {
        path.parent.name: ours for path in sorted((ROOT / "functions").glob("*/*/app.py"))
    }
    rounds = [{name: measure_handler(name, env) for name, env in environments.items()} for _ in range(COLD_STARTS)]
    for name in environments:
        starts = [found[name] for found in rounds]
        stack: Stack = "ours" if environments[name] is ours else "reference"
        operation = COLD_START if stack == "reference" else f"{COLD_START} of {name}"
        figure = Figure.of([start.import_ms for start in starts], max(start.peak_mb for start in starts))
        yield Key(operation, "", "process", stack), figure


def _layer() -> tuple[Key, Figure]:
    """How long the layer takes to install, and its megabytes unzipped: its own package, and what requirements.txt names
    for Lambda's Python on arm64, as `sam build` puts them together."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        platform = ["--platform", "manylinux_2_17_aarch64", "--platform", "manylinux2014_aarch64"]
        python = ["--python-version", "3.13", "--implementation", "cp", "--only-binary", ":all:", *platform]
        pinned = ["--no-deps", "--require-hashes", "-r", str(ROOT / "layers" / "requirements.txt")]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *python, *pinned],
            check=True,
        )
        took = (time.perf_counter() - start) * 1000
        installed = [path for path in Path(folder).rglob("*") if "__pycache__" not in path.parts]
        package = [path for path in (ROOT / "layers" / "dedup").rglob("*") if "__pycache__" not in path.parts]
        size = sum(path.stat().st_size for path in (*installed, *package) if path.is_file())
    return Key(LAYER, "", "process", "ours"), Figure(took, took, 1, size / 1e6)
