"""Spreads work over processes. They use pipes, because multiprocessing's pools need /dev/shm, which Lambda lacks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from typing import TypeVar

from dedup.lifeline import end_with_parent

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """The results of `work` for each item, in the order of the items. Raises EOFError if a process dies."""
    started = [_worker(work) for _ in range(workers)]
    try:
        busy: deque[Connection] = deque()
        for item, (pipe, _) in zip(items, cycle(started)):
            # One item for each process: two pipes that are full in both directions would wait for each other.
            if len(busy) == workers:
                yield busy.popleft().recv()
            pipe.send(item)
            busy.append(pipe)
        while busy:
            yield busy.popleft().recv()
    finally:
        for pipe, process in started:
            pipe.close()
            process.terminate()
            process.join()


def _worker(work: Callable[[T], R]) -> tuple[Connection, Process]:
    ours, theirs = Pipe()
    process = Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _serve(work: Callable[[T], R], pipe: Connection) -> None:
    # The pipe does not end with the parent: processes that were started later hold its other end too.
    end_with_parent()
    while True:
        pipe.send(work(pipe.recv()))
