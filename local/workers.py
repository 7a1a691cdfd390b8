"""Lambda environments as processes: each serves one invocation at a time, is kept warm, and is replaced when it dies.

They are processes and not threads, since the handlers' resolvers keep the current request on their class, as they may
on Lambda.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from local import ROOT, LocalError

# Lambda's limit for the import of a function's module, in addition to the function's Timeout.
INIT_SECONDS = 10.0
# Lambda's limits for events and responses, in bytes.
PAYLOAD_LIMIT = 6 * 1024 * 1024
ANSWER_LIMIT = PAYLOAD_LIMIT + 100
CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Function:
    """One function of template.yaml. Its handler ("module.attribute") is in `folder`; `timeout` is in seconds, `memory`
    in MB. `image`: it is in a container image, and may import modules from `folder`."""

    name: str
    folder: str
    handler: str
    timeout: int = 3
    memory: int = 128
    image: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class Answer(NamedTuple):
    """The outcome of an invocation: the JSON of the handler's result, or of Lambda's error payload if it failed."""

    payload: bytes
    failed: bool


class Workers:
    """A pool of up to `size` environments, started when needed. Each serves all functions with the same variables,
    since these are read once.

    The functions' output goes to the file `log`; `temporary` is the folder for their temporary files, like /tmp on
    Lambda. Any number of threads may invoke at the same time. If all environments are busy, they wait.
    """

    def __init__(self, functions: Mapping[str, Function], log: Path, temporary: Path, *, size: int = 8) -> None:
        self._functions = functions
        self._log = log
        self._temporary = temporary
        self._size = size
        self._free = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Environment] = []
        self._running: set[_Environment] = set()
        self._busy = 0
        self._closed = False

    def invoke(self, name: str, event: bytes) -> Answer:
        """Run the function `name` on `event`, which is JSON. Raises KeyError if there is no such function."""
        function = self._functions[name]
        with self._free:
            environment: _Environment | None = None
            try:
                environment = self._take(function)
                self._running.add(environment)
                return environment.invoke(function, event)
            finally:
                self._give_back(environment)

    def close(self) -> None:
        """Wait a few seconds for invocations in progress, and stop all environments."""
        self._closed = True
        for _ in range(self._size):
            if not self._free.acquire(timeout=CLOSE_SECONDS):
                break
        for environment in (*self._idle, *self._running):
            environment.stop()

    def _take(self, function: Function) -> "_Environment":
        variables = _own_variables(function)
        with self._lock:
            # Counted before it starts, so that there are never more than `size` processes.
            self._busy += 1
            if self._closed:
                raise LocalError("The functions are stopping.")
            for dead in [environment for environment in self._idle if not environment.alive]:
                self._idle.remove(dead)
                dead.stop()
            fitting = [environment for environment in self._idle if environment.variables == variables]
            # Last in, first out: the most recently used one is warm, and no more are started than needed at once.
            if fitting:
                self._idle.remove(fitting[-1])
            elif self._idle and len(self._idle) + self._busy > self._size:
                self._idle.pop(0).stop()
        return fitting[-1] if fitting else _Environment(self._functions, variables, self._log, self._temporary)

    def _give_back(self, environment: "_Environment | None") -> None:
        with self._lock:
            self._busy -= 1
            if environment is None:
                return
            self._running.discard(environment)
            if environment.alive and not self._closed:
                self._idle.append(environment)
                return
        environment.stop()


class _Environment:
    def __init__(
        self, functions: Mapping[str, Function], variables: Mapping[str, str], log: Path, temporary: Path
    ) -> None:
        self.variables = variables
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                # -P keeps the folder of the script off sys.path: a function can import the layer only.
                [sys.executable, "-P", str(Path(__file__).with_name("environment.py")), str(theirs.fileno())],
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "LANG": "C.UTF-8",
                    "TZ": "UTC",
                    "PYTHONPATH": str(ROOT / "layers"),
                    "PYTHONUNBUFFERED": "1",
                    "TMPDIR": str(temporary),
                },
                # It ends when its standard input is closed, which happens when this process ends.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                # In a separate session, so that Ctrl-C reaches the parent only. The parent stops this process after its
                # invocation.
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        self._loaded: set[str] = set()
        self._killed = False
        self._send(json.dumps({name: asdict(function) for name, function in functions.items()}).encode())

    @property
    def alive(self) -> bool:
        if self._process.poll() is None:
            return True
        self._kill()
        return False

    def invoke(self, function: Function, event: bytes) -> Answer:
        request_id = str(uuid.uuid4())
        seconds = function.timeout + (0.0 if function.name in self._loaded else INIT_SECONDS)
        try:
            self._send(b"\0".join([function.name.encode(), request_id.encode(), event]))
            if not self._connection.poll(seconds):
                self.stop()
                return _error(
                    "Sandbox.Timedout",
                    f"RequestId: {request_id} Error: Task timed out after {function.timeout:.2f} seconds",
                )
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            self.stop()
            return _error(
                "Runtime.ExitError",
                f"RequestId: {request_id} Error: Runtime exited with status {self._process.returncode}",
            )
        self._loaded.add(function.name)
        if len(answer) - 1 > ANSWER_LIMIT:
            return _error(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size ({ANSWER_LIMIT} bytes).",
            )
        return Answer(answer[1:], answer[:1] == b"-")

    def stop(self) -> None:
        with suppress(OSError):
            self._connection.close()
        self._kill()
        self._process.communicate()

    def _kill(self) -> None:
        """Kills the process and those that it started, which are its process group."""
        if self._killed:
            return
        # After wait(), the id may belong to another process.
        self._killed = self._process.returncode is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _send(self, message: bytes) -> None:
        self._connection.send_bytes(message)


def _own_variables(function: Function) -> dict[str, str]:
    # The variables AWS_LAMBDA_… differ between functions: they are the function's name and memory.
    return {name: value for name, value in function.environment.items() if not name.startswith("AWS_LAMBDA_")}


def _error(kind: str, message: str) -> Answer:
    return Answer(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)
