"""A local S3 and SQS: moto's server with the upload bucket, and with the queues that start functions.

The server is a separate process (this module as a program), so that a large object does not slow down the rest. Its
objects and messages are lost when it stops.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local import ROOT, LocalError
from local.workers import Answer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

BUCKET = "dedup-uploads"
ACCOUNT = "123456789012"
REGION = "us-east-1"
CREDENTIAL = "local"
HOST = "127.0.0.1"

MAX_CONCURRENCY = 2
"""Messages of one queue that are handled at the same time, so that environments are left for the API."""

RETRY_SECONDS = (5, 65)
"""Seconds until a failed message comes again: after the first attempt, and after later ones. The latter is longer than
the lease of an attempt that died."""

FORM = "application/x-www-form-urlencoded"

WAIT_SECONDS = 20
STOP_SECONDS = 5.0

Invoke = Callable[[bytes], Answer]
"""Runs a function on an event."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Queue:
    """One queue, and the function that its messages start."""

    name: str
    function: str
    visibility: int
    """Visibility timeout, in seconds."""
    tries: int
    """Failed attempts after which a message moves to the dead-letter queue."""
    at_once: int = MAX_CONCURRENCY
    """Messages that are handled at the same time."""
    prefix: str | None = None
    """The bucket notifies the queue of objects with this prefix; None: of no objects."""

    @property
    def path(self) -> str:
        """The path of its URL."""
        return f"/{ACCOUNT}/{self.name}"


class S3:
    """moto's server on `port` of the loopback interface, or on any free port if it is taken. Its output goes to the
    file `log`. `host` is the address of another interface, for clients in containers.

    It stops when this process ends, even by a kill -9."""

    def __init__(self, port: int, log: Path, host: str = HOST) -> None:
        self._preferred_port = port
        self._host = host
        self.log = log
        self._port = 0
        self._listener: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The endpoint for clients of S3."""
        return f"http://{self._host}:{self._port}"

    def environment(self) -> dict[str, str]:
        """The environment of its clients: it is the endpoint of all AWS services, and nothing reaches the real AWS."""
        return {
            "BUCKET": BUCKET,
            "EVENT_BUS": "default",
            "BATCH_RUNNER": str(ROOT / "jobs" / "local_runner.py"),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": CREDENTIAL,
            "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Start the server, and return at once: clients that connect before it is ready wait for it."""
        # The socket stays open here, so that clients also wait while a server that ended is started again.
        self._listener = _listen(self._host, self._preferred_port)
        self._port = self._listener.getsockname()[1]
        self._spawn(self._listener)

    @property
    def ended(self) -> int | None:
        """The exit code of a server that ended unexpectedly, negative for a signal; None while it runs."""
        return self._server.poll() if self._server else None

    def restart(self) -> None:
        """Start a server that ended unexpectedly again, at the same address. It is empty until create() is called."""
        if self._server and self._listener:
            self._server.communicate()
            self._spawn(self._listener)

    def _spawn(self, listener: socket.socket) -> None:
        with self.log.open("ab") as output:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "local.s3", str(listener.fileno())],
                cwd=ROOT,
                env={
                    **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
                    **self.environment(),
                    "LANG": "C.UTF-8",
                    "TZ": "UTC",
                },
                # The server stops when its standard input is closed, which happens when this process ends.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
                # In a separate session, so that Ctrl-C does not stop it while functions still read from it.
                start_new_session=True,
            )

    def stop(self) -> None:
        """Stop the server. Never raises."""
        if self._server:
            self._server.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(STOP_SECONDS)
            self._server.kill()
            self._server.communicate()
            self._server = None
        if self._listener:
            self._listener.close()
            self._listener = None

    def create(self, queues: Iterable[Queue] = ()) -> list["Poller"]:
        """Create the bucket, the queues and the bucket's notifications. Raises LocalError."""
        try:
            return self._create(queues)
        except (BotoCoreError, ClientError) as error:
            raise LocalError(f"The local S3 did not start: {error} (see {self.log}).") from error

    def _create(self, queues: Iterable[Queue]) -> list["Poller"]:
        s3: S3Client = self._client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        pollers = [self._create_queue(queue) for queue in queues]
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {
                        "QueueArn": poller.arn,
                        "Events": ["s3:ObjectCreated:*"],
                        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": poller.queue.prefix}]}},
                    }
                    for poller in pollers
                    if poller.queue.prefix is not None
                ]
            },
        )
        return pollers

    def _create_queue(self, queue: Queue) -> "Poller":
        sqs: SQSClient = self._client("sqs")
        dead = _arn(sqs, sqs.create_queue(QueueName=f"{queue.name}-dead")["QueueUrl"])
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": queue.tries})
        attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": str(queue.visibility)}
        url = sqs.create_queue(QueueName=queue.name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
        return Poller(sqs, queue, url, _arn(sqs, url))

    def _client(self, service: Any) -> Any:
        # A retry is no use with a local process, nor is a proxy of the environment.
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=CREDENTIAL,
            aws_secret_access_key=CREDENTIAL,
            config=config,
        )


class Poller:
    """Invokes a function with the messages of a queue, one at a time, like Lambda's event source mapping."""

    def __init__(self, client: "SQSClient", queue: Queue, url: str, arn: str) -> None:
        self.queue = queue
        self.arn = arn
        self._client = client
        self._url = url
        self._free = threading.Semaphore(queue.at_once)
        self._stopping = threading.Event()

    def start(self, invoke: Invoke) -> None:
        """Start to invoke the function with messages."""
        threading.Thread(target=self._run, args=(invoke,), daemon=True).start()

    def stop(self) -> None:
        """Receive no more messages. Those in progress continue."""
        self._stopping.set()

    def _run(self, invoke: Invoke) -> None:
        while True:
            self._free.acquire()
            # In one thread only, since moto gives the same message to two concurrent requests.
            message = self._receive()
            if self._stopping.is_set():
                return
            if message:
                threading.Thread(target=self._handle, args=(message, invoke), daemon=True).start()
            else:
                self._free.release()

    def _receive(self) -> "MessageTypeDef | None":
        try:
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=WAIT_SECONDS,
                AttributeNames=["All"],
            )
        except (BotoCoreError, ClientError) as error:
            if not self._stopping.wait(1):
                log.error("The queue %s can't be read: %s", self.queue.name, error)
            return None
        return answer["Messages"][0] if answer.get("Messages") else None

    def _handle(self, message: "MessageTypeDef", invoke: Invoke) -> None:
        receipt = {"QueueUrl": self._url, "ReceiptHandle": message["ReceiptHandle"]}
        try:
            answer = invoke(json.dumps(self._event(message)).encode())
            if not answer.failed and not _partial_failure(answer.payload):
                self._client.delete_message(**receipt)
                return
            tries = int(message["Attributes"]["ApproximateReceiveCount"])
            most = self.queue.tries
            # Log neither its body nor the error's text: they contain file names, which may be names of people.
            log.error("Try %s of %s failed of message %s: %s", tries, most, message["MessageId"], _kind(answer))
            # Sooner than on AWS, which waits for the visibility timeout. After the last attempt at once, so that the
            # queue moves it to the dead-letter queue.
            seconds = RETRY_SECONDS[min(tries, len(RETRY_SECONDS)) - 1] if tries < most else 0
            self._client.change_message_visibility(**receipt, VisibilityTimeout=seconds)
        except (LocalError, BotoCoreError, ClientError) as error:
            if not self._stopping.is_set():
                log.error("Message %s could not be handled: %s", message["MessageId"], error)
        finally:
            self._free.release()

    def _event(self, message: "MessageTypeDef") -> dict[str, Any]:
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {},
                    "md5OfBody": message["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": self.arn,
                    "awsRegion": REGION,
                }
            ]
        }


def serve(listener: socket.socket) -> None:
    """Run moto's server on a listening socket until standard input is closed."""
    sys.path.append(str(ROOT / "layers"))
    from dedup.lifeline import end_with_input

    end_with_input()
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *_: object) -> None:
            """Log nothing, since the name of an object may be the name of a person."""

    app = _as_s3_does(DomainDispatcherApplication(create_backend_app))
    host, port = listener.getsockname()
    server = make_server(host, port, app, threaded=True, request_handler=Quiet, fd=listener.fileno())
    server.serve_forever()


def _as_s3_does(app: Any) -> Any:
    """The application, with objects and events like those of S3.

    moto's events lack the version and the sequencer, quote slashes, and are sent before the object has its metadata;
    and completing a multipart upload also sends an event for a PUT. The replaced functions are not moto's public
    interface, so its version is pinned.
    """
    from moto.s3 import notifications

    send, describe = notifications.send_event, notifications._get_s3_event
    request = threading.local()

    def keep(account_id: str, event_name: Any, bucket: Any, key: Any) -> None:
        # A request creates at most one object, and its last event is the right one.
        if event_name.startswith("s3:ObjectCreated:"):
            request.created = (account_id, event_name, bucket, key)

    def described(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        event = describe(event_name, bucket, key, notification_id)
        for record in event["Records"]:
            record |= {
                "userIdentity": {"principalId": "local"},
                "requestParameters": {"sourceIPAddress": HOST},
                "responseElements": {"x-amz-request-id": "local", "x-amz-id-2": "local"},
            }
            found = record["s3"]["object"]
            found |= {"key": found["key"].replace("%2F", "/"), "sequencer": f"{time.time_ns():018X}"}
            if key.version_id != "null":
                found["versionId"] = key.version_id
        return event

    def application(environ: Any, start_response: Any) -> Iterable[bytes]:
        request.created = None
        if environ["REQUEST_METHOD"] == "PUT" and environ.get("CONTENT_TYPE") == FORM:
            # The type that `curl --data-binary` sends by default: moto would parse the object as a form and store
            # nothing.
            environ["CONTENT_TYPE"] = "binary/octet-stream"
        answer: Iterable[bytes] = app(environ, start_response)
        if request.created:
            send(*request.created)
        return answer

    notifications.send_event, notifications._get_s3_event = keep, described
    return application


def _kind(answer: Answer) -> str:
    return str(json.loads(answer.payload)["errorType"]) if answer.failed else "see functions.log"


def _partial_failure(answer: bytes) -> bool:
    result = json.loads(answer)
    return isinstance(result, dict) and bool(result.get("batchItemFailures"))


def _arn(sqs: "SQSClient", url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def _listen(host: str, port: int) -> socket.socket:
    for candidate in (port, 0):
        with suppress(OSError, OverflowError):
            return socket.create_server((host, candidate))
    raise LocalError("No TCP port is free on 127.0.0.1.")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
