"""Handlers measured one by one, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import ROOT


@dataclass(frozen=True)
class HandlerTimes:
    """How long a handler took, in milliseconds: its import, which a cold start pays, and each call."""

    import_ms: float
    times_ms: list[float]
    peak_mb: float


def measure_handler(
    name: str,
    environment: Mapping[str, str],
    events: Sequence[Mapping[str, Any]] = (),
    *,
    at_least: int = 5,
    warm_up: bool = True,
) -> HandlerTimes:
    """Calls the handler with the events, as benchmarks.measure.sample does, in a process of its own."""
    task = {"name": name, "events": list(events), "at_least": at_least, "warm_up": warm_up}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.call_handler"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=dict(environment),
        cwd=ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    return HandlerTimes(**json.loads(done.stdout.splitlines()[-1]))


def api_event(function: str, query: Mapping[str, str] | None = None, body: str | None = None) -> dict[str, Any]:
    """The function's sample event with another query and body, and no Idempotency-Key: no upload is a repeat."""
    event: dict[str, Any] = json.loads((ROOT / "events" / f"{function}.json").read_text())
    for headers in (event["headers"], event["multiValueHeaders"]):
        headers.pop("Idempotency-Key", None)
    query = dict(query or {})
    return event | {
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in query.items()} or None,
        "body": body,
        "isBase64Encoded": False,
    }
