"""A process that calls one handler, without HTTP and without a gateway, and says how long that took.

Started by benchmarks.handlers. It reads `{"name", "events", "at_least", "warm_up"}` as JSON, and its last line is JSON:
`{"import_ms", "times_ms", "peak_mb"}`. Events of reads are used again from the start when they run out. The name is
that of a folder of functions/, `empty` or `read_file` for that of benchmarks/, or `reference:` and a function of the
reference."""

import importlib
import itertools
import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks import ROOT

EMPTY = "empty"
READ_FILE = "read_file"


def _our_handler(name: str) -> Callable[[Any], object]:
    from local.environment import LambdaContext, load
    from local.workers import Function

    [folder] = [ROOT / "benchmarks" / name] if name in (EMPTY, READ_FILE) else (ROOT / "functions").glob(f"*/{name}")
    function = asdict(Function(name, str(folder), "app.handler", timeout=900, memory=512, environment=dict(os.environ)))
    handler = load(function)

    def call(event: Any) -> None:
        answer = handler(event, LambdaContext(function, str(uuid.uuid4())))
        if isinstance(answer, dict) and answer.get("statusCode", 200) >= 400:
            raise RuntimeError(str(answer)[:500])

    return call


def _reference_handler(name: str) -> Callable[[Any], object]:
    main = importlib.import_module("benchmarks.reference.main")
    database = importlib.import_module("benchmarks.reference.database")

    def call(event: Any) -> object:
        with database.SessionLocal() as session:
            answer = getattr(main, name)(session)
            return answer if isinstance(answer, int) else answer.model_dump_json()

    return call


def main() -> None:
    """Does the task on standard input."""
    task = json.load(sys.stdin)
    kind, _, name = task["name"].rpartition(":")
    start = time.perf_counter()
    call = _reference_handler(name) if kind else _our_handler(name)
    import_ms = (time.perf_counter() - start) * 1000
    # Only now: what these import is no part of a cold start.
    import psutil

    from benchmarks.measure import peak_memory, sample

    events = task["events"]
    writes = events and (events[0].get("body") or "Records" in events[0])
    repeated = events if writes else itertools.cycle(events)
    with peak_memory(lambda: [psutil.Process()]) as peak:
        times = sample(call, repeated, at_least=task["at_least"], warm_up=task["warm_up"])
    print(json.dumps({"import_ms": import_ms, "times_ms": times, "peak_mb": peak.mb}))


if __name__ == "__main__":
    main()
