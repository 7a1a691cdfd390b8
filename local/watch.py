"""Supervision of `make run`: servers that end unexpectedly are started again, or end the run with an error; scheduled
functions are invoked."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Protocol

from local import LocalError

AT_ONCE_SECONDS = 10.0
"""A server that ends so soon after a restart would do so forever."""


SCHEDULE_SECONDS = 5.0
"""The interval of scheduled functions, shorter than on AWS so that nobody waits for minutes."""


class Schedule:
    """Calls a function every SCHEDULE_SECONDS, in a thread, until it is stopped."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Stop calling. A call in progress continues."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # The workers refuse calls while the run is stopping.
            with suppress(LocalError):
                self._work()
            self._stopping.wait(SCHEDULE_SECONDS)


class Server(Protocol):
    """A server process that can be started again."""

    @property
    def ended(self) -> int | None:
        """The exit code of a server that ended unexpectedly, negative for a signal; None while it runs."""

    def restart(self) -> None:
        """Start a server that ended again, at the same address. Raises LocalError."""


class Watched:
    """A supervised server. `lost`: what is lost when it ends, for the message; `prepare` is called after a restart."""

    def __init__(
        self, name: str, server: Server, log: Path, lost: str = "", prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._name = name
        self._server = server
        self._log = log
        self._lost = lost and f": {lost}"
        self._prepare = prepare
        self._restarted_at = -inf

    def look_after(self) -> None:
        """Start the server again if it has ended, and print that. Raises LocalError if it can't be started, or ends
        again at once."""
        code = self._server.ended
        if code is None:
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if time.monotonic() - self._restarted_at < AT_ONCE_SECONDS:
            raise LocalError(f"{self._name} ended with {how} right after it was started again; its log is {self._log}.")
        self._server.restart()
        self._prepare()
        self._restarted_at = time.monotonic()
        print(f"{self._name} ended with {how} and was started again{self._lost}.", file=sys.stderr, flush=True)
