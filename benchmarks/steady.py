"""`make load`: clients that read, upload, send files and delete, for as long as is asked, against a stack of their own.

What is there at the end is compared with what the clients were told. It exits 1 where an answer was wrong, a record is
missing or too many, there were more connections than environments, or memory went on growing.
"""

import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from dedup.settings import Settings
from dedup.store import Store
from dedup.store.connection import Database

from benchmarks import ROOT
from local.__main__ import ENVIRONMENT_FILE
from local.postgres import Postgres

PAUSE = 0.15
"""Seconds on average between an answer and the client's next request: some 40 requests a second in all."""

KEPT = 30
"""Uploads that a client keeps before it deletes its oldest, so that the database stays as large as it is."""

CONNECTIONS = 8
"""Environments that local.workers runs at the same time; each has one connection."""

SAMPLE_SECONDS = 5.0
MOST_GROWTH = 0.15
"""Of memory, between the second third of the time and the last: in the first, environments start and fill caches."""

PARTS = {
    "functions": "functions, MB",
    "gateway": "gateway, MB",
    "database": "PostgreSQL, MB",
    "s3": "moto, which keeps every object, MB",
    "connections": "connections",
    "load": "load of the machine",
}


@dataclass
class Ledger:
    """What all clients saw: the times of each kind of request in milliseconds, what was wrong, and the records that
    must be there."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    records: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """One client. `keep(seconds)` works until then."""

    def __init__(self, url: str, number: int, ledger: Ledger) -> None:
        self.url = url
        self.api = f"{url}/api/v1"
        self.number = number
        self.ledger = ledger
        self.chance = random.Random(number)
        self.session = requests.Session()
        self.uploads: deque[int] = deque()
        # Ids of its own: what it is told of them nobody else changes.
        self.first = number * 10_000_000

    def ask(self, kind: str, method: str, path: str, expected: int = 200, **more: Any) -> Any:
        """The answer, timed and checked."""
        start = time.perf_counter()
        answer = self.session.request(method, path, timeout=60, **more)
        taken = (time.perf_counter() - start) * 1000
        with self.ledger.lock:
            self.ledger.times[kind].append(taken)
            if answer.status_code != expected:
                self.ledger.wrong.append(f"{kind}: {answer.status_code} {answer.text[:200]}")
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def keep(self, until: float, works: list[Callable[[], None]]) -> None:
        """Does what `works` holds, in any order, until then."""
        while time.monotonic() < until:
            try:
                self.chance.choice(works)()
            except (requests.RequestException, AssertionError, KeyError) as error:
                with self.ledger.lock:
                    self.ledger.wrong.append(repr(error)[:300])
            time.sleep(self.chance.expovariate(1 / PAUSE))

    # Reads

    def analyze(self) -> None:
        """Counts and a page of ids."""
        answer = self.ask("analyze", "GET", f"{self.api}/deduplication/analyze?limit=1000")
        assert answer["total_records"] - answer["unique_customers"] == answer["duplicates_found"]

    def compare(self) -> None:
        """Who is only where."""
        self.ask("compare-sources", "GET", f"{self.api}/deduplication/compare-sources?limit=100")

    def regions(self) -> None:
        """Counts of every region."""
        self.ask("regions", "GET", f"{self.api}/deduplication/regions")

    def select(self) -> None:
        """A set question."""
        query = "in=hubspot&not_in=internal&limit=1000"
        answer = self.ask("set question", "GET", f"{self.api}/deduplication/customers?{query}")
        assert len(answer["customer_ids"]) == min(answer["count"], 1000)

    def page(self) -> None:
        """Records."""
        self.ask("records of a source", "GET", f"{self.api}/customers/source/hubspot?limit=100")

    def health(self) -> None:
        """Whether the database answers."""
        self.ask("health", "GET", f"{self.url}/health")

    # Writes

    def bulk(self) -> None:
        """An upload, now and then sent twice."""
        size = self.chance.randrange(50, 300)
        body = {"customers": [self.record("salesforce") for _ in range(size)]}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        ids = {
            self.ask("bulk upload", "POST", f"{self.api}/customers/bulk", 201, json=body, headers=headers)["details"][
                "upload_id"
            ]
            for _ in range(1 + (self.chance.random() < 0.1))
        }
        [upload_id] = ids
        self.note(upload_id, size)

    def one(self) -> None:
        """One customer stored, shown, and erased."""
        # None of those in uploads, whose records are counted.
        record = self.record("hubspot") | {"customer_id": self.first + 1_000_000 + self.chance.randrange(1000)}
        path = f"{self.api}/customers/{record['customer_id']}"
        self.ask("one customer", "POST", f"{self.api}/customers", 201, json=record)
        assert self.ask("show", "GET", path)["sources"]
        assert self.ask("erase", "DELETE", path)["details"]["records"] >= 1

    def file(self) -> None:
        """A file, from its URL to its account."""
        size = self.chance.randrange(200, 3000)
        upload_id = self.send(size, "uploads", {"filename": "load.csv", "source": "hubspot"})
        self.note(upload_id, size)

    def snapshot(self) -> None:
        """All of a source anew. Only one client may do it."""
        size = self.chance.randrange(200, 3000)
        self.send(size, "uploads/snapshots", {"filename": "night.csv", "source": "internal"})
        with self.ledger.lock:
            self.ledger.records[0] = size

    def send(self, size: int, path: str, wish: dict[str, str]) -> int:
        """The id of an upload of so many rows, asked for at that path, once it is done."""
        start = time.perf_counter()
        expected = self.ask("file: URL", "POST", f"{self.api}/{path}", 201, json=wish)
        records = (self.record(wish["source"]) for _ in range(size))
        rows = "".join(f"{record['customer_id']},{record['name']},{record['email']}\n" for record in records)
        self.session.put(expected["url"], data=f"id,name,email\n{rows}".encode(), timeout=60).raise_for_status()
        upload: dict[str, Any] = {"status": "waiting"}
        while upload["status"] in ("waiting", "loading"):
            time.sleep(0.2)
            upload = self.ask("file: account", "GET", f"{self.api}/uploads/{expected['id']}")
        assert (upload["status"], upload["accepted"]) == ("done", size), upload
        with self.ledger.lock:
            self.ledger.times["file: until counted"].append((time.perf_counter() - start) * 1000)
        return int(expected["id"])

    def record(self, source: str) -> dict[str, Any]:
        """A record of a customer of this client's."""
        customer = self.first + self.chance.randrange(5000)
        return {
            "customer_id": customer,
            "name": f"Customer {customer}",
            "email": f"c{customer}@example.com",
            "source": source,
        }

    def note(self, upload_id: int, size: int) -> None:
        """Remembers an upload, and deletes the oldest beyond those that are kept."""
        self.uploads.append(upload_id)
        with self.ledger.lock:
            self.ledger.records[upload_id] = size
        if len(self.uploads) > KEPT:
            oldest = self.uploads.popleft()
            answer = self.ask("delete upload", "DELETE", f"{self.api}/uploads/{oldest}")
            with self.ledger.lock:
                gone = self.ledger.records.pop(oldest)
                if answer["details"]["deleted_count"] != gone:
                    self.ledger.wrong.append(f"upload {oldest} had {gone} records: {answer}")


@dataclass
class Sample:
    """Memory in MB of the parts, connections of functions, and the machine's load over a minute."""

    functions: float
    gateway: float
    database: float
    s3: float
    connections: int
    load: float


def look(stack: psutil.Process, store: Store) -> Sample:
    """One look at the stack."""
    memory: dict[str, float] = defaultdict(float)
    for child in stack.children(recursive=True):
        with suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if "environment.py" in command:
                memory["functions"] += child.memory_info().rss / 2**20
            elif "local.s3" in command:
                memory["s3"] += child.memory_info().rss / 2**20
            elif "postgres" in child.name():
                # Its processes share most of what they have.
                memory["database"] += child.memory_full_info().pss / 2**20
    connections = min(count_connections(store) for _ in range(3))
    memory["gateway"] = stack.memory_info().rss / 2**20
    parts = {part: memory[part] for part in ("functions", "gateway", "database", "s3")}
    return Sample(**parts, connections=connections, load=psutil.getloadavg()[0])


def count_connections(store: Store) -> int:
    """How many the functions have now; a moment later where one that is closing may have been counted."""
    time.sleep(0.1)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dedup' AND pid <> pg_backend_pid()"
    [[connections]] = store._database.read(lambda connection: connection.run(query))
    return int(connections)


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`make run` with its data in `folder`: its URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Each snapshot replaces most customers of its source.
    environment = os.environ | {"PORT": str(port), "DEDUP_LOCAL_DIR": str(folder), "SNAPSHOT_MAX_REMOVED": "100"}
    with (folder / "run.log").open("wb") as output:
        stack = psutil.Popen([sys.executable, "-m", "local"], cwd=ROOT, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with suppress(requests.RequestException):
                if requests.get(f"{url}/health", timeout=5).ok:
                    break
            if stack.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "run.log").read_text())
            time.sleep(0.2)
        yield url, stack
    finally:
        with suppress(psutil.NoSuchProcess):
            stack.terminate()
        try:
            stack.wait(60)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            stack.kill()


def work(url: str, seconds: float, ledger: Ledger, look: Callable[[], Sample]) -> list[Sample]:
    """Has six clients work for that long; what was seen meanwhile."""
    clients = [Client(url, number, ledger) for number in range(1, 7)]
    reading: list[list[Callable[[], None]]] = [
        [c.analyze, c.compare, c.regions, c.select, c.page, c.health] for c in clients
    ]
    works = [
        reading[0],
        reading[1],
        [clients[2].bulk, clients[2].one],
        [clients[3].bulk, *reading[3]],
        [clients[4].file, clients[4].one],
        [clients[5].snapshot, clients[5].file],
    ]
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client.keep, args=(until, todo)) for client, todo in zip(clients, works, strict=True)
    ]
    for thread in threads:
        thread.start()
    samples = []
    while any(thread.is_alive() for thread in threads):
        time.sleep(SAMPLE_SECONDS)
        samples.append(look())
    return samples


def percentile(times: Sequence[float], part: float) -> float:
    """The smallest time that so many of them do not exceed."""
    return sorted(times)[max(0, math.ceil(len(times) * part) - 1)]


def thirds(values: Sequence[float]) -> tuple[float, float, float]:
    """The medians of the first third of the values, the second and the last."""
    size = max(1, len(values) // 3)
    first, second, last = (statistics.median(values[start : start + size]) for start in (0, size, len(values) - size))
    return first, second, last


def report(ledger: Ledger, samples: Sequence[Sample], seconds: float, store: Store) -> list[str]:
    """Prints the figures as Markdown; what was not as it should be."""
    print(f"{sum(map(len, ledger.times.values())):,} requests in {seconds / 60:.1f} minutes\n")
    print("| request | how many | p50 ms | p99 ms | worst ms |\n| --- | ---: | ---: | ---: | ---: |")
    for kind, times in sorted(ledger.times.items()):
        p50, p99 = (percentile(times, part) for part in (0.5, 0.99))
        print(f"| {kind} | {len(times):,} | {p50:.0f} | {p99:.0f} | {max(times):.0f} |")
    print("\n| of | first third | second | last | most |\n| --- | ---: | ---: | ---: | ---: |")
    faults = list(dict.fromkeys(ledger.wrong))
    for part in PARTS:
        values = [getattr(sample, part) for sample in samples]
        first, second, last = thirds(values)
        print(f"| {PARTS[part]} | {first:.1f} | {second:.1f} | {last:.1f} | {max(values):.1f} |")
        if part in ("functions", "gateway", "database") and last > second * (1 + MOST_GROWTH):
            faults.append(f"{PARTS[part]} grew from {second:.0f} to {last:.0f}")
    most = max(sample.connections for sample in samples)
    if most > CONNECTIONS:
        faults.append(f"there were {most} connections, and {CONNECTIONS} are the most")
    found = store.maintenance.verify()
    kept = sum(ledger.records.values())
    print(f"\nRecords there: {found.records:,}; by what clients were told: {kept:,}. Counts agree: {found.agreed}.")
    if not found.agreed or found.records != kept:
        faults.append("the records or counts are not those that the clients were told of")
    return faults


def main() -> int:
    """Works for MINUTES; the exit code is 1 where something was not as it should be."""
    minutes, ledger = float(os.environ.get("MINUTES") or "30"), Ledger()
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as (url, stack):
        known = json.loads((Path(place) / ENVIRONMENT_FILE).read_text())
        store = Store(Database(Settings.model_validate({name.lower(): value for name, value in known.items()})))
        samples = work(url, minutes * 60, ledger, lambda: look(stack, store))
        faults = report(ledger, samples, minutes * 60, store)
        store.close()
    Postgres(Path(place)).remove()
    for fault in faults[:20]:
        print(f"WRONG: {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
