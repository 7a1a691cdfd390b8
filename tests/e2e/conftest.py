"""The whole local stack in its own process, as `make run` starts it, or the stack at DEDUP_URL."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT

START_SECONDS = 120
RUN_SECONDS = 120


@pytest.fixture(scope="session")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The data folder of the stack; None if DEDUP_URL names another stack."""
    return None if os.environ.get("DEDUP_URL") else tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def base_url(stack_folder: Path | None) -> Iterator[str]:
    """The address of the API, without a trailing slash."""
    if stack_folder is None:
        yield os.environ["DEDUP_URL"].rstrip("/")
        return
    with local_stack(stack_folder) as url:
        yield url


NO_RUNS = {"AUTOMATIC_RUN_BELOW": "0"}


@contextmanager
def local_stack(folder: Path, **environment: str) -> Iterator[str]:
    """Runs a stack in its own process, like `make run` with these variables. Yields the address of its API. Matching
    runs do not start by themselves, which would take as long as a test, unless a variable says so."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stack = subprocess.Popen(
        [sys.executable, "-m", "local"],
        cwd=ROOT,
        env=os.environ
        | {"PORT": str(port), "DEDUP_LOCAL_DIR": str(folder), "DEDUP_LOCAL_FSYNC": "off"}
        | NO_RUNS
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield _wait(f"http://127.0.0.1:{port}", stack)
    finally:
        stack.terminate()
        stack.wait(30)
        _remove(folder)


MANY_SOURCES = [f"source_{number:02}" for number in range(12)]
MANY_REGIONS = [set(region) for size in range(1, 6) for region in combinations(MANY_SOURCES, size)]


@pytest.fixture(scope="session")
def many_regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a stack with 12 sources. Each of MANY_REGIONS has one customer, and the first one has two."""
    with local_stack(tmp_path_factory.mktemp("many"), SOURCES=",".join(MANY_SOURCES)) as url:
        customers = [
            {"customer_id": who, "name": f"C {who}", "email": f"c{who}@example.com", "source": source}
            for who, region in enumerate([*MANY_REGIONS, MANY_REGIONS[0]])
            for source in sorted(region)
        ]
        sent = requests.post(f"{url}/api/v1/customers/bulk", json={"customers": customers}, timeout=60)
        sent.raise_for_status()
        yield url


def _wait(url: str, stack: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and stack.poll() is None:
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return url
        except requests.RequestException:
            time.sleep(0.1)
    stack.kill()
    assert stack.stdout is not None
    raise AssertionError(f"the local stack did not start: {stack.stdout.read().decode()}")


def _remove(folder: Path) -> None:
    from local.postgres import Postgres

    Postgres(folder).remove()


@pytest.fixture(scope="session")
def images() -> None:
    """Skips the test if DEDUP_IMAGES=no: then exports and matching, whose functions are in images, are missing."""
    if os.environ.get("DEDUP_IMAGES") == "no":
        pytest.skip("the functions in images are not there")


@pytest.fixture
def api(base_url: str) -> str:
    """The base URL of the API, without records, and without decisions that would move to new records."""
    empty(f"{base_url}/api/v1")
    return f"{base_url}/api/v1"


def empty(api: str) -> None:
    requests.delete(f"{api}/customers", timeout=30).raise_for_status()
    for decision in requests.get(f"{api}/matching/decisions", params={"limit": 100}, timeout=30).json():
        if not decision["revoked_at"]:
            requests.delete(f"{api}/matching/decisions/{decision['id']}", timeout=30).raise_for_status()


def hold_back_a_rule(api: str) -> Any:
    """Runs only the match rules, on three records that they join, two of which have different dates of birth. Returns
    the pair that a constraint held back for review."""
    [pair] = hold_back_rules(api, 1)
    return pair


def hold_back_rules(api: str, people: int) -> Any:
    """Like hold_back_a_rule(), with three records for each of `people` people. Returns one pair for each."""
    born = [{"date_of_birth": "1980-05-17"}, {}, {"date_of_birth": "1991-11-02"}]
    customers = [
        {"customer_id": 3 * who + number, "name": "Ann Lee", "email": f"ann{who}@example.com", "source": "hubspot"}
        | known
        for who in range(people)
        for number, known in enumerate(born, 1)
    ]
    requests.post(f"{api}/customers/bulk", json={"customers": customers}, timeout=30).raise_for_status()
    begun = requests.post(f"{api}/matching/runs", json={"settings": {"methods": ["rules"]}}, timeout=30)
    begun.raise_for_status()
    deadline = time.monotonic() + RUN_SECONDS
    while (run := requests.get(f"{api}/matching/runs/{begun.json()['id']}", timeout=30).json())["status"] != "done":
        assert run["status"] != "failed", run["reason"]
        assert time.monotonic() < deadline, run
        time.sleep(0.2)
    pairs = requests.get(f"{api}/matching/review", params={"limit": 1000}, timeout=30).json()
    assert len(pairs) == people
    return pairs
