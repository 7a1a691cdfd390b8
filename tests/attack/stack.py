"""A stack for a campaign: PostgreSQL, S3, queues, the gateway and the functions, with methods to break each of them.

The campaign replaces the queue: messages of S3 and the functions wait in the inbox, and the campaign decides when and
how often each is delivered.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote_plus

import boto3
import psutil
import requests
from pg8000.native import Connection

from local import ROOT
from local.__main__ import forget_aws
from local.gateway import Template, listen
from local.postgres import Postgres
from local.s3 import BUCKET, CREDENTIAL, REGION, S3
from local.workers import Answer, Function, Workers
from tests.proxy import Fault, Proxy, reset_after, reset_before, reset_within

STATEMENT_SECONDS = 120
"""The statement timeout of functions that may run for fifteen minutes. A longer statement counts as unbounded."""

JOB_STATEMENT_SECONDS = "840"
MESSAGE_SECONDS = 30.0
SETTLE_SECONDS = 60.0

CUTS: Mapping[str, Fault] = {"before": reset_before, "within": reset_within, "after": reset_after}


class Finding(Exception):
    """A defect that a campaign found."""


@dataclass(frozen=True)
class Message:
    """A message of a queue: the function that it starts, its body, and the event that contains it."""

    function: str
    body: Mapping[str, Any]
    event: bytes

    @property
    def object_key(self) -> str | None:
        """The key of the object that the message is about; None if it is about something else."""
        records = self.body.get("Records") or [{}]
        key = records[0].get("s3", {}).get("object", {}).get("key")
        return unquote_plus(key) if key else None


class Stack:
    """A context manager that starts the stack with its files in `folder`, and removes it at the end."""

    def __init__(self, folder: Path, sources: Sequence[str], workers: int = 4) -> None:
        self.folder = folder
        self.sources = tuple(sources)
        self.broken = False
        self._size = workers
        self._inbox: list[Message] = []
        self._lock = threading.Lock()
        self._exit = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        forget_aws()
        logs = self.folder / "log"
        for folder in (logs, self.folder / "tmp"):
            folder.mkdir(parents=True)
        self.log = logs / "functions.log"
        s3 = self._exit.enter_context(S3(0, logs / "s3.log"))
        self.postgres = Postgres(self.folder / "data", log=logs / "postgres.log", durable=False)
        self._exit.callback(self.postgres.remove)
        self.postgres.start()
        self.database = self.postgres.create_database("dedup")
        self._exit.callback(self._forget_connection)
        self.proxy = Proxy(self.database.host, self.database.port)
        self._exit.callback(self.proxy.close)
        environment = {
            **self.database.environment(),
            **s3.environment(),
            "DB_PORT": str(self.proxy.port),
            "SOURCES": ",".join(self.sources),
            # Snapshots are random: each replaces most customers of its source.
            "SNAPSHOT_MAX_REMOVED": "100",
            "AUTOMATIC_RUN_BELOW": "0",
            "POWERTOOLS_LOG_LEVEL": "WARNING",
            "TMPDIR": str(self.folder / "tmp"),
        }
        template = Template(ROOT / "template.yaml", environment)
        functions = alike(template.functions)
        self.workers = Workers(functions, self.log, self.folder / "tmp", size=self._size)
        self._exit.callback(self.workers.close)
        for poller in s3.create(template.queues):
            poller.start(partial(self._keep, poller.queue.function))
            self._exit.callback(poller.stop)
        listener = listen(0)
        self._exit.callback(template.serve(self.workers, listener))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1"
        keys: Any = {"aws_access_key_id": CREDENTIAL, "aws_secret_access_key": CREDENTIAL, "region_name": REGION}
        self.s3: Any = boto3.client("s3", endpoint_url=s3.url, **keys)
        self.call("Migrate", {})

    # Messages

    def _keep(self, function: str, event: bytes) -> Answer:
        body = json.loads(json.loads(event)["Records"][0]["body"])
        with self._lock:
            self._inbox.append(Message(function, body, event))
        return Answer(b"{}", failed=False)

    def message(self, fits: Callable[[Message], bool]) -> Message:
        """Waits for a message for which `fits` is true, and takes it out of the inbox. Raises Finding."""
        deadline = time.monotonic() + MESSAGE_SECONDS
        while time.monotonic() < deadline:
            with self._lock:
                found = next(filter(fits, self._inbox), None)
                if found:
                    self._inbox.remove(found)
                    return found
            time.sleep(0.01)
        raise Finding(f"A message did not come in {MESSAGE_SECONDS:.0f} seconds")

    def forget_messages(self) -> None:
        """Deletes all messages in the inbox."""
        with self._lock:
            self._inbox.clear()

    def deliver(self, message: Message) -> bool:
        """Delivers a message once. Returns whether the function is done with it; otherwise the queue would deliver it
        again."""
        answer = self.workers.invoke(message.function, message.event)
        result = json.loads(answer.payload)
        if answer.failed:
            if not self.broken:
                raise Finding(f"{message.function} failed: {result}")
            return False
        return not (result or {}).get("batchItemFailures")

    def call(self, function: str, event: Any) -> Any:
        """The response of a function to an event. Raises Finding if it fails although nothing is broken."""
        for pause in (0.2, 0.5, 1.0, 2.0, 4.0, 0.0):
            answer = self.workers.invoke(function, json.dumps(event).encode())
            if not answer.failed:
                return json.loads(answer.payload)
            if not self.broken:
                break
            time.sleep(pause)
        raise Finding(f"{function} failed: {answer.payload.decode()[:2000]}")

    # What breaks

    @contextmanager
    def breaking(self, fault: Mapping[str, Any] | None) -> Iterator[None]:
        """Injects a fault of the given `kind` during the context: `after` seconds, or at chunk `step` of those sent to
        PostgreSQL. At the end everything works, no function runs and no lease is held."""
        if not fault:
            yield
            return
        over = threading.Event()
        failures: list[Exception] = []

        def act() -> None:
            try:
                for _ in range(fault.get("times", 1)):
                    if over.wait(fault["after"]):
                        return
                    getattr(self, f"_break_{fault['kind']}")()
            except Exception as error:
                failures.append(error)

        self.broken = True
        if fault["kind"] == "cut":
            self.proxy.plan(fault["step"], CUTS[fault["how"]])
            thread = threading.Thread(target=over.wait)
        else:
            thread = threading.Thread(target=act)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.proxy.forget()
            self.settle()
            self.broken = False
        if failures:
            raise failures[0]

    def _break_terminate(self) -> None:
        with suppress(Exception), closing(self.database.connect()) as admin:
            admin.run(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'dedup'"""
            )

    def _break_worker(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()

    def _break_postgres(self) -> None:
        assert self.postgres._server
        os.kill(self.postgres._server.pid, signal.SIGKILL)
        self.postgres.stop()
        self.postgres.start()
        self.database = self.postgres.settings("dedup")
        self.proxy.target = (self.database.host, self.database.port)

    def processes(self) -> list[psutil.Process]:
        """The processes of the functions' environments."""
        found = []
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                if "environment.py" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def settle(self) -> None:
        """Returns when everything works again and no function runs, and ends all leases, as if enough time had passed.
        Raises Finding."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/health", timeout=10).ok and not self._busy():
                    self.admin(
                        *(
                            f"UPDATE {table} SET lease_until = now() - interval '1 s' WHERE lease_until >= now()"
                            for table in ("upload", "export", "match_run", "job")
                        )
                    )
                    return
            time.sleep(0.05)
        raise Finding(f"It does not work again after {SETTLE_SECONDS:.0f} seconds")

    def _busy(self) -> int:
        [[busy]] = self.admin(
            """SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND application_name = 'dedup' AND state <> 'idle'"""
        )
        return int(busy)

    # Direct access to the database

    def admin(self, *statements: str) -> Any:
        """Runs statements as the owner, without the proxy. Returns the rows of the last one."""
        for pause in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0):
            try:
                connection = self._connection = self._connection or self.database.connect()
                return [connection.run(statement) for statement in statements][-1]
            except Exception:
                # The connection to a PostgreSQL that was killed.
                self._forget_connection()
                if not self.broken:
                    raise
                time.sleep(pause)
        raise Finding("PostgreSQL does not come back")

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        with suppress(Exception):
            if connection:
                connection.close()

    def _tables(self) -> list[str]:
        """The application's tables, with their schemas."""
        rows = self.admin(
            """SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
               WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"""
        )
        return [table for [table] in rows]

    def empty(self) -> None:
        """Empties the database, except for the bits of sources, which functions cache. Ids are not reset."""
        self.forget_messages()
        kept = ("public.migration", "public.source", "public.match_state", "public.hash_salt", "public.change_log")
        tables = [table for table in self._tables() if table not in kept]
        own = [table for table in tables if table.startswith("public.")]
        dropped = [f"DROP TABLE {table}" for table in tables if table not in own]
        log = "UPDATE change_log SET last_position = 0, trimmed_position = 0, records = 0, id_sum = 0"
        self.admin("UPDATE match_state SET active_run = NULL", log, f"TRUNCATE {', '.join(own)}", *dropped)

    def fingerprint(self) -> str:
        """A hash of all rows of all tables."""
        rows = "coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '')"
        parts = [f"SELECT '{table}' || {rows} AS part FROM {table} AS t" for table in self._tables()]
        [[digest]] = self.admin(
            f"SELECT md5(string_agg(part, ',' ORDER BY part)) FROM ({' UNION ALL '.join(parts)}) AS parts"
        )
        return str(digest)


def alike(functions: Mapping[str, Function]) -> dict[str, Function]:
    """The functions, with the variables merged within each of three kinds. An environment serves all functions with
    the same variables, so that a few processes are enough for all of them."""
    kinds: dict[tuple[str, bool], dict[str, str]] = {}

    def kind(function: Function) -> tuple[str, bool]:
        return function.environment.get("DB_STATEMENT_TIMEOUT", ""), function.image

    for function in functions.values():
        own = {name: value for name, value in function.environment.items() if not name.startswith("AWS_LAMBDA_")}
        kinds.setdefault(kind(function), {}).update(own)
    for (seconds, _), variables in kinds.items():
        if seconds == JOB_STATEMENT_SECONDS:
            variables["DB_STATEMENT_TIMEOUT"] = str(STATEMENT_SECONDS)
    return {
        name: replace(function, environment={**function.environment, **kinds[kind(function)]})
        for name, function in functions.items()
    }


def taken_mb(process: psutil.Process) -> tuple[int, bool]:
    """The peak memory of a process in MB, and whether it has loaded the matching engine."""
    with suppress(OSError):
        proc = Path("/proc", str(process.pid))
        lines = (proc / "status").read_text().splitlines()
        most = [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")]
        return sum(most), "duckdb" in (proc / "maps").read_text()
    return 0, False


def is_failure(status: int, body: bytes) -> bool:
    """Whether a response is that of a function with an unexpected error, which is wrong even while something is broken.
    For a function that was killed, the gateway responds."""
    return status == 500 and b"about:blank" in body


def bucket_put(stack: Stack, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
    """Puts an object into the bucket, without the API."""
    stack.s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=dict(metadata or {}))


def modified_at(stack: Stack, key: str) -> float:
    """The Last-Modified time of an object, in whole seconds."""
    return float(stack.s3.head_object(Bucket=BUCKET, Key=key)["LastModified"].timestamp())
