"""SAM CLI's own API gateway serving template.yaml, with the functions run by `local.workers` instead of containers.

The only module that uses SAM CLI's internals. They are not a public interface, so its version is pinned.
"""

import errno
import json
import logging
import os
import resource
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read when samcli is imported.
os.environ["SAM_CLI_TELEMETRY"] = "0"

import yaml  # type: ignore[import-untyped]
from click import ClickException
from samcli.lib.providers.api_provider import ApiProvider
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.lib.telemetry.event import EventTracker
from samcli.lib.utils.packagetype import IMAGE
from samcli.lib.utils.stream_writer import StreamWriter
from samcli.local.apigw.local_apigw_service import LocalApigwService
from samcli.local.events.api_event import RequestContext
from samcli.local.lambdafn.env_vars import EnvironmentVariables
from samcli.local.lambdafn.exceptions import FunctionNotFound
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from werkzeug import Response

from local import LocalError
from local.s3 import MAX_CONCURRENCY, Queue
from local.workers import PAYLOAD_LIMIT, Function, Workers

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
# Requests handled at the same time. Those that run a function wait for an environment.
THREADS = 32
# Open connections of clients.
MAX_CONNECTIONS = 1000
# SAM uses this id for all requests. It is replaced by an id for each request, as on AWS.
SAM_REQUEST_ID = RequestContext().request_id
TOO_LARGE = {
    "statusCode": 413,
    "headers": {"Content-Type": "application/problem+json"},
    "body": json.dumps({"type": "about:blank", "title": "Content Too Large", "status": 413}),
}

log = logging.getLogger(__name__)

# Even with telemetry off, SAM records an event for each request, and after fifty of them starts git and looks for
# container engines.
EventTracker.track_event = lambda *_, **__: None

# SAM CLI reads the templates with the parser in Python, which takes ten times as long as the one in C.
yaml.SafeLoader = yaml.CSafeLoader


class Template:
    """template.yaml as SAM CLI reads it: `functions` by logical id, the `queues` that start functions, the names of
    `scheduled` functions, and the routes.

    `environment` overrides the variables of each function. Variables that the template sets to a queue's URL get its
    URL at the AWS_ENDPOINT_URL of `environment`. A function in a container image runs from its Command, a module of
    this repository. Raises LocalError if SAM CLI can't read the template.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        try:
            self._stacks, _ = SamLocalStackProvider.get_stacks(str(path))
        except ClickException as error:
            raise LocalError(f"{path}: {error.message}") from error
        found = list(SamFunctionProvider(self._stacks, use_raw_codeuri=True).get_all())
        self.queues = list(_queues(self._stacks[0].resources, found))
        self.scheduled = [
            function.name
            for function in found
            if any(event["Type"] == "Schedule" for event in (function.events or {}).values())
        ]
        addresses = {queue.name: f"{environment.get('AWS_ENDPOINT_URL', '')}{queue.path}" for queue in self.queues}
        self.functions = {
            function.name: Function(
                name=function.name,
                folder=str(path.parent / (function.codeuri or "")),
                handler=_handler(function),
                timeout=function.timeout or 3,
                memory=function.memory or 128,
                image=function.packagetype == IMAGE,
                environment={
                    **{name: addresses.get(value, value) for name, value in _variables(function).items()},
                    **environment,
                },
            )
            for function in found
        }

    def serve(self, workers: Workers, listener: socket.socket) -> Callable[[], None]:
        """Serve on a socket from `listen`, in threads. The returned function stops accepting connections; requests in
        progress continue."""
        port = listener.getsockname()[1]
        service = LocalApigwService(
            api=ApiProvider(self._stacks).api, lambda_runner=_Runner(workers), port=port, host=HOST
        )
        service.create()
        # SAM ignores a slash at the end of a path, and merges several slashes. With a missing id, the request would
        # reach another operation.
        service._app.url_map.merge_slashes = False
        for rule in service._app.url_map.iter_rules():
            rule.strict_slashes = True
            # Flask adds HEAD to each GET. API Gateway does not, and SAM's handler fails on it.
            (rule.methods or set()).discard("HEAD")
        for status in (404, 405):
            service._app.register_error_handler(status, _no_route)
        # Flask's own server closes each connection after one response.
        server = _Server(
            _logged(_as_text(service._app)),
            _sock=listener,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            adj=Adjustments(
                sockets=[listener],
                threads=THREADS,
                connection_limit=most_connections(),
                asyncore_use_poll=True,
                recv_bytes=65536,
                # Larger bodies would be buffered in files.
                inbuf_overflow=PAYLOAD_LIMIT,
                outbuf_overflow=PAYLOAD_LIMIT,
                ident=None,
            ),
        )
        threading.Thread(target=server.run, daemon=True).start()
        return partial(setattr, server, "accepting", False)


class _Server(TcpWSGIServer):
    """waitress at its limit accepts no connection until one has been idle for two minutes. This server closes those
    that have been idle for longest instead, including clients that never send anything."""

    def readable(self) -> bool:
        channels: Any = self.active_channels
        # waitress also counts two sockets of its own.
        if len(channels) + 2 >= self.adj.connection_limit:
            idle = [one for one in channels.values() if not one.requests and not one.total_outbufs_len]
            idle.sort(key=lambda channel: channel.last_activity)
            for channel in idle[: max(1, len(idle) // 10)]:
                channel.will_close = True
        return super().readable()


def most_connections() -> int:
    """MAX_CONNECTIONS, but at most half of the open files that this process may have."""
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class _Runner:
    """Runs functions for the gateway, instead of SAM's runner, which starts containers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def is_debugging(self) -> bool:
        return False

    def invoke(self, name: str, event: str, *, stdout: StreamWriter, **_: Any) -> None:
        payload = event.replace(SAM_REQUEST_ID, str(uuid.uuid4())).encode()
        if len(payload) > PAYLOAD_LIMIT:
            stdout.write_str(json.dumps(TOO_LARGE))
            return
        try:
            answer = self._workers.invoke(name, payload)
        except KeyError as error:
            raise FunctionNotFound(f"{name} is not in the template") from error
        if answer.failed:
            log.error("%s failed: %s", name, answer.payload.decode())
        stdout.write_str(answer.payload.decode())


def _no_route(error: Exception) -> Response:
    """The response of the template's GatewayResponses to an unknown path or method. SAM does not read them."""
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No such path or method"}
    return Response(json.dumps(problem), 404, content_type="application/problem+json")


def _as_text(app: "WSGIApplication") -> "WSGIApplication":
    """The gateway, decoding bodies like API Gateway: invalid UTF-8 becomes U+FFFD. SAM responds with 502."""

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            body.decode()
        except UnicodeDecodeError:
            body = body.decode("utf-8", "replace").encode()
            environ["CONTENT_LENGTH"] = str(len(body))
        # API Gateway passes the path on as the client encoded it, so that `a%2Fb` is one parameter.
        path = environ["REQUEST_URI"].partition("?")[0]
        return app(environ | {"wsgi.input": BytesIO(body), "PATH_INFO": path}, start_response)

    return serve


def _logged(app: "WSGIApplication") -> "WSGIApplication":
    """The gateway, logging each request."""

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, *rest: Any) -> Any:
            log.info("%s %s %s", environ["REQUEST_METHOD"], environ["REQUEST_URI"], status)
            return start_response(status, *rest)

        return app(environ, start)

    return serve


def listen(port: int) -> socket.socket:
    """A listening socket on `port` of the loopback interface. Raises LocalError if the port is not available."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise LocalError(f"Port {port} is taken by another program: try PORT={port + 1} make run.") from error
        raise LocalError(f"Port {port} can't be opened: {error}.") from error
    return listener


def _queues(resources: Mapping[str, Any], functions: Iterable[Any]) -> Iterator[Queue]:
    """The queues that the template maps to functions. SAM resolves !Ref and !GetAtt of a queue to text that ends in its
    name."""
    buckets = [resource["Properties"] for resource in resources.values() if resource["Type"] == "AWS::S3::Bucket"]
    notified = {
        _name(told["Queue"]): told["Filter"]["S3Key"]["Rules"][0]["Value"]
        for bucket in buckets
        for told in bucket.get("NotificationConfiguration", {}).get("QueueConfigurations", ())
    }
    for function in functions:
        for event in (function.events or {}).values():
            if event["Type"] == "SQS":
                name = _name(event["Properties"]["Queue"])
                queue = resources[name]["Properties"]
                yield Queue(
                    name=name,
                    function=function.name,
                    visibility=queue["VisibilityTimeout"],
                    tries=queue["RedrivePolicy"]["maxReceiveCount"],
                    at_once=min(
                        MAX_CONCURRENCY,
                        event["Properties"].get("ScalingConfig", {}).get("MaximumConcurrency", MAX_CONCURRENCY),
                    ),
                    prefix=notified.get(name),
                )


def _name(resolved: str) -> str:
    return resolved.rpartition(":")[2]


def _handler(function: Any) -> str:
    return str(function.handler or function.imageconfig["Command"][0])


def _variables(function: Any) -> dict[str, str]:
    # Resolved by SAM, so that a function gets the same variables as under `sam local`.
    variables: dict[str, str] = EnvironmentVariables(
        function.name,
        function.memory or 128,
        function.timeout or 3,
        _handler(function),
        function.logging_config,
        variables=(function.environment or {}).get("Variables", {}),
    ).resolve()
    return variables
