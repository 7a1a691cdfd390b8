"""What `make run` does about a server that ends by itself: it starts it again, or ends with a sentence."""

import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Protocol

from local import LocalError

AT_ONCE_SECONDS = 10.0
"""A server that ends again so soon after it was started again would do so for ever."""


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
