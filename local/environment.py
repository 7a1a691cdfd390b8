"""One Lambda environment: a process that serves one invocation at a time, started by `local.workers`.

It reads messages of JSON bytes from the socket whose file descriptor is its argument. It answers each with one byte,
"+" or "-", followed by JSON: the result of the handler, or Lambda's error payload. It ends when its standard input is
closed, even during an invocation. Little more than the standard library is imported, since every cold start pays for
it.
"""

import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dedup.lifeline import end_with_input

Handler = Callable[[Any, "LambdaContext"], Any]


class LambdaContext:
    """The context that Lambda passes to a handler as its second argument."""

    function_version = "$LATEST"
    log_stream_name = "local"
    identity = None
    client_context = None

    def __init__(self, function: dict[str, Any], request_id: str) -> None:
        region = function["environment"].get("AWS_REGION", "us-east-1")
        self.aws_request_id = request_id
        self.function_name: str = function["name"]
        self.invoked_function_arn = f"arn:aws:lambda:{region}:123456789012:function:{self.function_name}"
        self.memory_limit_in_mb = str(function["memory"])
        self.log_group_name = f"/aws/lambda/{self.function_name}"
        self._deadline = time.monotonic() + function["timeout"]

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function's Timeout."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def load(function: dict[str, Any]) -> Handler:
    """Import the function's module under a unique name and return its handler. Raises what the import raises."""
    if function["image"] and function["folder"] not in sys.path:
        sys.path.append(function["folder"])
    module_name, attribute = function["handler"].rsplit(".", 1)
    path = Path(function["folder"], *module_name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(f"function_{function['name']}", path)
    if not spec or not spec.loader:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    # pydantic resolves annotations through sys.modules: the module must be there before it runs.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    handler: Handler = getattr(module, attribute)
    return handler


def error_payload(error: BaseException) -> dict[str, Any]:
    """Lambda's error payload for an exception that the handler raised."""
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def serve(connection: Connection) -> None:
    """Answer invocations until the other side closes the connection."""
    base = dict(os.environ)
    functions: dict[str, dict[str, Any]] = json.loads(connection.recv_bytes())
    handlers: dict[str, Handler] = {}
    current = ""
    while True:
        name, request_id, event = connection.recv_bytes().split(b"\0", 2)
        function = functions[name.decode()]
        try:
            if function["name"] != current:
                os.environ.clear()
                os.environ.update(base | function["environment"])
                current = function["name"]
            if current not in handlers:
                handlers[current] = load(function)
            result = handlers[current](json.loads(event), LambdaContext(function, request_id.decode()))
            answer = b"+" + json.dumps(result, ensure_ascii=False).encode()
        except Exception as error:
            traceback.print_exc()
            answer = b"-" + json.dumps(error_payload(error)).encode()
        connection.send_bytes(answer)


if __name__ == "__main__":
    end_with_input()
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)
