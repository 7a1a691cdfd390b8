"""A real PostgreSQL for tests that need one: one server for the whole run, and an empty database for each test."""

import gc
import importlib.util
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from dedup.customer_ids import CustomerId
from dedup.records import Fields, Record
from dedup.settings import Settings, settings
from dedup.store import Store, change_log, open_store
from dedup.store.connection import Database
from dedup.store.set_questions import Selection
from pg8000.native import Connection

from local.postgres import Postgres
from local.postgres import Settings as DatabaseSettings
from tests import databases

ROOT = Path(__file__).resolve().parents[1]
FULL = os.environ.get("TEST_BUDGET") == "full"
Handler = Callable[[dict[str, Any]], dict[str, Any]]


def budget(usual: int, full: int) -> int:
    """The number of cases of a long campaign: `full` in `make test-full`, otherwise `usual`."""
    return full if FULL else usual


def machine_settings(usual: int, full: int, steps: int) -> hypothesis.settings:
    """The settings of a state machine that runs `usual` times, in `make test-full` `full` times."""
    return hypothesis.settings(
        max_examples=budget(usual, full),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def pytest_collection_finish() -> None:
    """Leaves what was imported, half a million objects, out of all later garbage collections: also of the last one, at
    the end of the process."""
    gc.freeze()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"), durable=False)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def environment(
    postgres: Postgres, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a function with an empty database, with a schema if the test has a store. Set variables such
    as SOURCES before its first use."""
    database = postgres.create_database("test")
    has_schema = "new_store" in request.fixturenames and databases.empty_tables(database)
    if not has_schema:
        databases.empty(database)
    for name, value in database.environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    open_store.cache_clear()
    yield monkeypatch
    open_store().close()
    settings.cache_clear()
    open_store.cache_clear()


def connect(user: str | None = None, password: str = "") -> Connection:
    """A new connection to the test's database, as its owner or as another role."""
    s = settings()
    signed_in = (user or s.db_user, password or s.db_password or "")
    return DatabaseSettings(s.db_host, s.db_port, s.db_name, *signed_in).connect()


@pytest.fixture
def new_store(postgres: Postgres, environment: pytest.MonkeyPatch) -> Iterator[Callable[..., Store]]:
    """Creates stores on the test's database, each with its own connection, like Lambda environments. At the end, the
    change log must agree with the records."""
    stores: list[Store] = []

    def make(**changes: Any) -> Store:
        stores.append(Store(Database(Settings.model_validate(settings().model_dump() | changes))))
        return stores[-1]

    if make().schema.migrate():
        databases.remember(postgres.create_database("test"))
    yield make
    wrong = stores[0]._database.read(change_log.find_errors)
    for store in stores:
        store.close()
    assert wrong == 0, "records were written without an entry in the change log"


@pytest.fixture
def store(new_store: Callable[..., Store]) -> Store:
    return new_store()


@pytest.fixture
def functions(new_store: Callable[..., Store]) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    """Calls a function's handler in this process: functions("analyze", event) → its response."""

    def call(name: str, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = load_function(name).handler(event, lambda_context(name))
        return answer

    return call


def path_of_function(name: str) -> Path:
    """The path of a function's file: functions/<domain>/<name>/app.py."""
    [path] = (ROOT / "functions").glob(f"*/{name}/app.py")
    return path


def load_function(name: str) -> Any:
    """Imports functions/<domain>/<name>/app.py again, since a function reads its environment only once."""
    spec = importlib.util.spec_from_file_location(f"functions_{name}", path_of_function(name))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lambda_context(name: str) -> Any:
    return SimpleNamespace(
        function_name=name,
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:eu-west-1:123456789012:function:{name}",
        aws_request_id=str(uuid.uuid4()),
        get_remaining_time_in_millis=lambda: 900_000,
    )


def api_event(
    method: str,
    path: str,
    body: Any = None,
    query: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    parameters: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The event that API Gateway sends for a request. A body that is not a string is encoded as JSON."""
    sent = {
        "Host": "api.example.com",
        "X-Forwarded-Proto": "https",
        "Content-Type": "application/json",
        **(headers or {}),
    }
    values = {name: value if isinstance(value, list) else [str(value)] for name, value in (query or {}).items()}
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {name: value[-1] for name, value in values.items()} or None,
        "multiValueQueryStringParameters": values or None,
        "pathParameters": parameters,
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
        "requestContext": {
            "domainName": "api.example.com",
            "httpMethod": method,
            "identity": {"sourceIp": "127.0.0.1"},
            "path": f"/live{path}",
            "requestId": str(uuid.uuid4()),
            "resourcePath": path,
            "stage": "live",
        },
    }


LONG_NAME = "x" * 256
"""A name that is rejected."""


def record(customer_id: CustomerId, source: str, **changes: Any) -> Fields:
    local = re.sub("[^0-9A-Za-z-]", "", str(customer_id))[:40]
    fields = {"name": f"Customer {customer_id}"[:255], "email": f"c{local}@example.com"}
    return Record(**{"customer_id": customer_id, "source": source, **fields, **changes}).fields()


def ids_of(found: Selection, name: str = "ids") -> list[Any]:
    """The ids of the page `name`."""
    ids: list[int] = json.loads(found.pages[name].json)
    return ids


SAMPLE = [
    *(("salesforce", customer_id) for customer_id in (101, 102, 103, 104)),
    *(("hubspot", customer_id) for customer_id in (103, 104, 105, 106)),
    *(("internal", customer_id) for customer_id in (102, 105, 107, 108)),
]


def sample_records() -> list[Fields]:
    return [record(customer_id, source) for source, customer_id in SAMPLE]


os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "CRITICAL")
# Tests start hundreds of processes: without the files in __pycache__, each would compile all modules that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Options of Spark's Java, for hundreds of queries that run once: compiling them well takes longer than it saves. The
# quick compiler's own cache is too small for their code, and when it is full nothing is compiled any more.
SPARK_OPTIONS = ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=256m", "-XX:+UseSerialGC"]
if not FULL:
    # Nor is Java generated for each of them.
    SPARK_OPTIONS += ["-Dspark.sql.codegen.wholeStage=false", "-Dspark.sql.codegen.factoryMode=NO_CODEGEN"]
os.environ.setdefault("SPARK_SUBMIT_OPTS", " ".join(SPARK_OPTIONS))
