"""What `make run` sees to while it runs: a server that ends by itself is started again, or ends the run with a
sentence; functions that a schedule starts are started."""

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
"""A server that ends again so soon after it was started again would do so for ever."""


SCHEDULE_SECONDS = 5.0
"""Between two starts of a function that a schedule starts: nobody waits for minutes here."""


class Schedule:
    """Calls something every few seconds, in a thread of its own, from now until it is stopped."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Call it no more. A call that was begun goes on."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # What runs too late to be taken up by anybody is over with the run.
            with suppress(LocalError):
                self._work()
            self._stopping.wait(SCHEDULE_SECONDS)


class Server(Protocol):
    """A process that others call."""

    @property
    def ended(self) -> int | None:
        """The exit code of one that ended by itself, negative for a signal; None while it runs."""

    def restart(self) -> None:
        """Start one that ended again, where its clients look for it. Raises LocalError."""


class Watched:
    """A server with its `name`, its `log`, what it lost when it ended, and what makes it usable again once it runs."""

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
        """Start it again if it has ended, and say so. Raises LocalError when it can't be, or ends at once again."""
        code = self._server.ended
        if code is None:
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if time.monotonic() - self._restarted_at < AT_ONCE_SECONDS:
            raise LocalError(f"{self._name} ended with {how} as soon as it was started again; its log is {self._log}.")
        self._server.restart()
        self._prepare()
        self._restarted_at = time.monotonic()
        print(f"{self._name} ended with {how} and was started again{self._lost}.", file=sys.stderr, flush=True)
