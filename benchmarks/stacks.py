"""Both stacks as processes of their own on one PostgreSQL, and a client of either."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPMessage
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks import ROOT
from local.postgres import Settings

START_SECONDS = 60.0
ANSWER_SECONDS = 600.0


class Client:
    """A client of one service, with one connection for each thread, which is kept. Not of a library that does more:
    what a client takes is part of every time over HTTP."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._of_thread = threading.local()

    def get(self, path: str) -> bytes:
        """The body of the answer. Raises RuntimeError when it is no success."""
        return self._request("GET", path)[0]

    def page(self, path: str) -> tuple[bytes, str | None]:
        """The body of the answer, and the path of the page after it."""
        body, headers = self._request("GET", path)
        link = headers.get("Link")
        if not link:
            return body, None
        following = urlsplit(link[link.index("<") + 1 : link.index(">")])
        return body, f"{following.path}?{following.query}"

    def post(self, path: str, body: bytes) -> bytes:
        """The same for a POST of JSON."""
        return self._request("POST", path, body)[0]

    def delete(self, path: str) -> bytes:
        """The same for a DELETE."""
        return self._request("DELETE", path)[0]

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[bytes, HTTPMessage]:
        headers = {"Content-Type": "application/json"} if body else {}
        connection = self._connection()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (HTTPException, OSError):
            connection.close()
            raise
        if answer.status not in (200, 201):
            raise RuntimeError(f"{method} {path[:200]} was answered {answer.status}: {content[:500]!r}")
        return content, answer.headers

    def _connection(self) -> HTTPConnection:
        found: HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if found is None:
            found = self._of_thread.connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        elif found.sock and select.select([found.sock], [], [], 0)[0]:
            # Something to read before anything was asked: the service closed it meanwhile.
            found.close()
        return found


@dataclass(frozen=True)
class Service:
    """A running stack: how to call it, and the processes that do its work."""

    client: Client
    processes: Callable[[], list[psutil.Process]]


def reference_environment(database: Settings) -> dict[str, str]:
    """The environment of the reference's processes."""
    return _environment({"DATABASE_URL": database.url.replace("postgresql:", "postgresql+psycopg2:")})


def our_environment(database: Settings) -> dict[str, str]:
    """The environment of a function's process."""
    return _environment(
        {
            **database.environment(),
            "PYTHONPATH": str(ROOT / "layers"),
            "POWERTOOLS_METRICS_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": "WARNING",
        }
    )


@contextmanager
def reference(database: Settings, log: Path, workers: int = 1) -> Iterator[Service]:
    """The reference under uvicorn, with as many worker processes."""
    port = _free_port()
    command = ["-m", "uvicorn", "benchmarks.reference.main:app", "--port", str(port), "--no-access-log"]
    with _running([*command, "--workers", str(workers)], reference_environment(database), log, port) as process:

        def processes() -> list[psutil.Process]:
            serving = [child for child in process.children() if "resource_tracker" not in " ".join(child.cmdline())]
            return serving if workers > 1 else [process]

        yield Service(Client(port), processes)


@contextmanager
def ours(database: Settings, log: Path) -> Iterator[Service]:
    """Ours behind the gateway of `make run`. Its processes are the functions' environments, without the gateway."""
    port = _free_port()
    command = ["-m", "benchmarks.gateway", str(port), str(log)]
    with _running(command, our_environment(database), log, port) as process:
        yield Service(Client(port), process.children)


@contextmanager
def _running(arguments: list[str], environment: Mapping[str, str], log: Path, port: int) -> Iterator[psutil.Process]:
    with log.open("ab") as output:
        process = psutil.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        _wait_until_healthy(process, port, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            process.kill()


def _wait_until_healthy(process: psutil.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    client = Client(port)
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/health")
        except (HTTPException, OSError, RuntimeError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"A service did not start; it said: {log.read_text()[-2000:]}")


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONUNBUFFERED": "1", **additions}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
