"""The goals, as ratios within one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.call_handler import EMPTY
from benchmarks.data import STYLES
from benchmarks.ingest import OPERATION as INGEST
from benchmarks.measure import Figure, Figures, Key, Level
from benchmarks.reads import IN_TURNS, OF_A_TENTH, PAGE_OF, RECORDS_PAGE
from benchmarks.snapshot import FIRST_LOAD
from benchmarks.snapshot import OPERATION as SNAPSHOT

Sizes = Mapping[int, Figures]
"""The figures of a run, by the number of records."""

GOAL_SIZE = 1_000_000
COLD_START = "cold start"
LAYER = "install of the layer, and its size"
NO_API = ("export", "ingest", "match", "migrate", "run_job", "scopes", "verify")
"""Functions that no request waits for."""
READS = ("analyze", "compare", "regions", "customers", "page", "all unique ids")


@dataclass(frozen=True)
class Goal:
    """A ratio (or megabytes) that has to be at least, or at most, so large. `measured` finds it in a run, or None where
    the run has not what it takes."""

    name: str
    bound: Literal["≥", "≤"]
    value: float
    measured: Callable[[Sizes], float | None]
    unit: str = "×"

    def met_by(self, ratio: float) -> bool:
        """Whether such a ratio meets the goal."""
        return ratio >= self.value if self.bound == "≥" else ratio <= self.value


def ours(operation: str, ids: str = "dense", level: Level = "http") -> Key:
    """One of our figures."""
    return Key(operation, ids, level, "ours")


def reference(operation: str, level: Level = "http") -> Key:
    """One of the reference's."""
    return Key(operation, "dense", level, "reference")


def times_as_fast(mine: Key, other: Key) -> Callable[[Sizes], float | None]:
    """How many times as long the other takes: at GOAL_SIZE, or at the largest size where it was not measured there."""

    def measured(sizes: Sizes) -> float | None:
        for figures in (sizes.get(GOAL_SIZE, {}), sizes[max(sizes)]):
            if mine in figures and other in figures:
                return figures[other].median_ms / figures[mine].median_ms
        return None

    return measured


def times_as_long(
    mine: Key, other: Key, of: Callable[[Figure], float] = lambda figure: figure.median_ms
) -> Callable[[Sizes], float | None]:
    """How many times as long ours takes, at the largest size."""

    def measured(sizes: Sizes) -> float | None:
        figures = sizes[max(sizes)]
        return of(figures[mine]) / of(figures[other]) if mine in figures and other in figures else None

    return measured


def growth(operation: str) -> Callable[[Sizes], float | None]:
    """How many times as long it takes with ten times the records, on the ids where that is worst, at the largest
    size."""

    def measured(sizes: Sizes) -> float | None:
        figures = sizes[max(sizes)]
        keys = [(ours(f"{operation}{IN_TURNS}", s), ours(f"{operation}{IN_TURNS}{OF_A_TENTH}", s)) for s in STYLES]
        pairs = ((figures.get(whole), figures.get(tenth)) for whole, tenth in keys)
        return max((a.median_ms / b.median_ms for a, b in pairs if a and b), default=None)

    return measured


def page_beside(pages: str, first: str) -> Callable[[Sizes], float | None]:
    """The slowest of the pages whose name begins so, beside that first page, on the ids where that is worst."""

    def measured(sizes: Sizes) -> float | None:
        figures = {key: figure for key, figure in sizes[max(sizes)].items() if key[2:] == ("http", "ours")}
        return max(
            (
                figure.median_ms / figures[ours(first, key.ids)].median_ms
                for key, figure in figures.items()
                if key.operation.startswith(pages) and ours(first, key.ids) in figures
            ),
            default=None,
        )

    return measured


def read_memory(sizes: Sizes) -> float | None:
    """The largest peak of one environment over all of our single reads, in megabytes, at the largest size."""
    return max(
        (
            figure.peak_mb
            for key, figure in sizes[max(sizes)].items()
            if key.stack == "ours" and figure.peak_mb and figure.rate is None and key.operation.startswith(READS)
        ),
        default=None,
    )


def init_beside_empty(sizes: Sizes) -> float | None:
    """The slowest init of the API's functions, beside that of an empty Powertools handler."""
    figures = {key.operation: figure.median_ms for key, figure in sizes[max(sizes)].items() if key.stack == "ours"}
    empty = figures.pop(f"{COLD_START} of {EMPTY}", None)
    starts = [
        median
        for operation, median in figures.items()
        if operation.startswith(COLD_START) and not operation.endswith(NO_API)
    ]
    return max(starts, default=0) / empty if empty else None


def layer_size(sizes: Sizes) -> float | None:
    """The layer's megabytes, unzipped."""
    figure = sizes[max(sizes)].get(Key(LAYER, "", "process", "ours"))
    return figure.peak_mb if figure else None


def snapshot_wal(sizes: Sizes) -> float | None:
    """The write-ahead log of a snapshot in per cent of that of the first load."""
    share = times_as_long(
        ours(FIRST_LOAD, level="handler"), reference(FIRST_LOAD, "handler"), lambda figure: figure.peak_mb or 0
    )(sizes)
    return None if share is None else 100 * share


GOALS = (
    Goal("analyze, beside the ORM", "≥", 1000, times_as_fast(ours("analyze"), reference("analyze"))),
    Goal("compare, beside the ORM", "≥", 1000, times_as_fast(ours("compare"), reference("compare"))),
    Goal("analyze, beside count(DISTINCT)", "≥", 20, times_as_fast(ours("analyze"), reference("count(DISTINCT)"))),
    Goal("compare, beside count(DISTINCT)", "≥", 20, times_as_fast(ours("compare"), reference("count(DISTINCT)"))),
    Goal(
        "all ids in pages, beside the ORM's one answer",
        "≥",
        20,
        times_as_fast(ours("all unique ids"), reference("all unique ids")),
    ),
    Goal("analyze, with ten times the records", "≤", 1.5, growth("analyze")),
    Goal("compare, with ten times the records", "≤", 1.5, growth("compare")),
    Goal("memory of any read", "≤", 100, read_memory, "MB"),
    Goal(
        "bulk upload of 10,000, beside add_all",
        "≥",
        5,
        times_as_fast(ours("bulk upload of 10,000"), reference("bulk upload of 10,000")),
    ),
    Goal(
        "ingest, beside \\copy",
        "≥",
        0.33,
        times_as_fast(
            ours(INGEST, level="handler"),
            reference(INGEST, "handler"),
        ),
    ),
    Goal(
        "snapshot with 1 % changed, beside reading the file",
        "≤",
        1.3,
        times_as_long(ours(SNAPSHOT, level="handler"), reference(SNAPSHOT, "handler")),
    ),
    Goal("WAL of a snapshot with 1 % changed, beside the first load's", "≤", 5, snapshot_wal, "%"),
    Goal("last page of records, beside the first", "≤", 2, page_beside(RECORDS_PAGE, f"{RECORDS_PAGE}: first")),
    Goal("page of any ids at any depth, beside the first of all", "≤", 2, page_beside(PAGE_OF, "analyze")),
    Goal(
        "readers' p95 beside uploaders, and alone",
        "≤",
        3,
        times_as_long(ours("8 readers beside 4 uploaders"), ours("8 readers"), lambda figure: figure.p95_ms),
    ),
    Goal("init of any API function, beside an empty Powertools handler", "≤", 2, init_beside_empty),
    Goal("layer, unzipped", "≤", 25, layer_size, "MB"),
)
