"""Takes times and memory, and keeps them as figures."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import psutil

T = TypeVar("T")

SLOW_SECONDS = 1.0
"""A first call that takes longer counts; one that is quicker warms up."""


Level = Literal["http", "handler", "process"]
Stack = Literal["ours", "reference"]


class Key(NamedTuple):
    """What was measured, on which style of ids, at which level, and whose: `reference` is what ours is beside."""

    operation: str
    ids: str
    level: Level
    stack: Stack


@dataclass
class Figure:
    """Times of `n` calls in milliseconds; the serving processes' peak of resident memory in megabytes (10^6 bytes);
    and, where the calls write, records per second over all callers."""

    median_ms: float
    p95_ms: float
    n: int
    peak_mb: float | None = None
    rate: float | None = None

    @classmethod
    def of(cls, times: list[float], peak_mb: float | None = None, records: int | None = None) -> "Figure":
        """The figure of calls that took `times`, milliseconds each, and each wrote as many `records`."""
        p95 = sorted(times)[min(len(times) - 1, int(len(times) * 0.95))]
        median = statistics.median(times)
        return cls(median, p95, len(times), peak_mb, records and records / median * 1000)


Figures = dict[Key, Figure]


@dataclass
class Peak:
    """The peak of resident memory of some processes together, in megabytes; known at the end of what it watches."""

    mb: float = field(default=0.0, init=False)


@contextmanager
def peak_memory(processes: Callable[[], Iterable[psutil.Process]]) -> Iterator[Peak]:
    """Watches the memory of `processes()` during the block: the sum of each one's own peak.

    Linux keeps the peak itself; elsewhere what is resident at the end stands for it."""
    for process in processes():
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    peak = Peak()
    yield peak
    peak.mb = sum(map(_peak_of, processes()))


def _peak_of(process: psutil.Process) -> float:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return float(process.memory_info().rss) / 1e6
    [kib] = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) * 1024 / 1e6


def sample(
    call: Callable[[T], object],
    arguments: Iterable[T],
    *,
    at_least: int = 5,
    at_most: int = 200,
    seconds: float = 0.7,
    warm_up: bool = True,
) -> list[float]:
    """Times of `call` in milliseconds, one for each of `arguments`, which are made outside of the time taken: at least
    `at_least` calls, and more until `seconds` or `at_most` are reached. With `warm_up` a quick first call is left
    out."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    first = warm_up
    for argument in arguments:
        start = time.perf_counter()
        call(argument)
        now = time.perf_counter()
        if not first or now - start > SLOW_SECONDS:
            times.append((now - start) * 1000)
        first = False
        if len(times) >= at_most or (len(times) >= at_least and now > end):
            break
    return times


def concurrently(call: Callable[[T], object], clients: Sequence[Iterable[T]]) -> list[float]:
    """Times of `call` in milliseconds, made by one thread for each of `clients`, which calls with one of its arguments
    after the other and waits for nothing but the answer."""

    def work(arguments: Iterable[T]) -> list[float]:
        times = []
        for argument in arguments:
            start = time.perf_counter()
            call(argument)
            times.append((time.perf_counter() - start) * 1000)
        return times

    with ThreadPoolExecutor(len(clients)) as threads:
        return [one for times in threads.map(work, clients) for one in times]
