"""`make run`: the whole stack on this machine, until Ctrl-C."""

import errno
import gc
import json
import logging
import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from local import ROOT, LocalError, lock

if TYPE_CHECKING:
    from local.watch import Watched
    from local.workers import Workers

DATABASE = "dedup"
ENVIRONMENT_FILE = "environment.json"
TEMPORARY = "dedup-tmp"
"""The folder of temporary files in the data folder. Its content is deleted at each start, hence the unusual name."""
OWN = ("SOURCES", "ENGINE_THRESHOLD", "SNAPSHOT_MAX_REMOVED", "AUTOMATIC_RUN_BELOW")
"""Variables of the functions that may be set in the caller's environment."""
SCHEDULED = b'{"patience": 300}'
"""The event of scheduled functions. For Sweep: the seconds before it sends a message again."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run until SIGINT or SIGTERM, and return the exit code. An error that the user can fix is printed as one
    sentence."""
    folder = data_folder()
    try:
        run(folder, os.environ.get("PORT") or "3000")
    except KeyboardInterrupt:
        return 0
    except LocalError as error:
        print(error, file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"The package {error.name} is missing: install requirements-run.txt.", file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        print(f"{folder} can't be written to: {error.strerror}.", file=sys.stderr)
    return 1


def run(folder: Path, port: str) -> None:
    """Serve on `port`, with data and logs in `folder`, until interrupted. Raises LocalError and KeyboardInterrupt."""
    for number in STOP_SIGNALS:
        # Shells make background jobs ignore SIGINT: handle it all the same. nohup's SIGHUP stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            servers = start(folder, port, stack)
            while True:
                # Short waits: a signal that arrives just before a wait is only handled after it.
                time.sleep(0.5)
                for server in servers:
                    server.look_after()
        finally:
            # Stopping takes limited time, and a second Ctrl-C must not leave half of the processes running.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def start(folder: Path, port: str, stack: ExitStack) -> list["Watched"]:
    """Start everything in order and print the addresses. `stack` stops it in the opposite order. The caller must poll
    the returned servers. Raises LocalError."""
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise LocalError(f"PORT must be a number from 1 to 65535, not {port}.")
    url = f"http://127.0.0.1:{port}"
    logs = log_folder(folder)
    claim(folder / "run.lock", url, stack)
    # Imported here since it takes a second: the error about another run is printed without that delay.
    from local.s3 import BUCKET, S3

    forget_aws()
    # First, since it starts up in the background.
    s3 = stack.enter_context(S3(int(port) + 1, logs / "s3.log"))
    from local.gateway import Template, listen
    from local.postgres import Postgres
    from local.watch import Schedule, Watched
    from local.workers import Workers

    listener = stack.enter_context(listen(int(port)))
    durable = os.environ.get("DEDUP_LOCAL_FSYNC") != "off"
    postgres = stack.enter_context(Postgres(folder, log=logs / "postgres.log", durable=durable))
    database = postgres.create_database(DATABASE)
    environment = own_environment() | database.environment() | s3.environment()
    template = Template(ROOT / "template.yaml", environment)
    workers = Workers(template.functions, logs / "functions.log", temporary_folder(folder, empty=True))
    stack.callback(workers.close)
    migrate(workers, logs / "functions.log")
    forget_messages(environment, workers=True)
    for poller in s3.create(template.queues):
        poller.start(partial(workers.invoke, poller.queue.function))
        stack.callback(poller.stop)
    for function in template.scheduled:
        stack.callback(Schedule(partial(workers.invoke, function, SCHEDULED)).stop)
    stack.callback(template.serve(workers, listener))
    note_environment(folder, environment)
    print(
        f"page       {url}/app\n"
        f"API        {url}\n"
        f"docs       {url}/docs\n"
        f"database   {database.url}\n"
        f"data       {postgres.place}\n"
        f"S3         {s3.url}, bucket {BUCKET}: objects are deleted when it stops; records are kept\n"
        f"logs       {logs}\n"
        f"try        curl {url}/health\n"
        "           make sample\n"
        "           make upload FILE=samples/customers.csv\n"
        "Ctrl-C stops all of it; the data is kept.",
        flush=True,
    )

    def refill() -> None:
        s3.create(template.queues)
        forget_messages(environment)

    return [
        Watched("PostgreSQL", postgres, postgres.log),
        Watched("The local S3", s3, s3.log, "its objects are lost", refill),
    ]


def migrate(workers: "Workers", log: Path) -> None:
    """Apply the migrations. Raises LocalError, which names the functions' `log`."""
    answer = workers.invoke("Migrate", b"{}")
    if answer.failed:
        error = json.loads(answer.payload)
        if error["errorType"] == "ChangedMigration":
            raise LocalError(
                f"The local database is of another version: {error['errorMessage']}. "
                "Set DEDUP_LOCAL_DIR to another folder to start with an empty one."
            )
        raise LocalError(f"The migrations failed: {error['errorMessage']} (see {log}).")


def forget_messages(environment: Mapping[str, str], *, workers: bool = False) -> None:
    """Adjust the tasks after the local S3 and its queues were lost: uploads end, since their objects are lost, and
    other tasks are enqueued again. `workers`: processes that held leases have ended as well. Raises LocalError."""
    if str(ROOT / "layers") not in sys.path:
        sys.path.append(str(ROOT / "layers"))
    from dedup.errors import Unavailable
    from dedup.settings import Settings
    from dedup.store import Store
    from dedup.store.connection import Database

    known = {name.lower(): value for name, value in environment.items()}
    store = Store(Database(Settings.model_validate(known)))
    try:
        store.uploads.bucket_lost("The local S3 was stopped before the file was loaded: upload it again")
        store.tasks.queues_lost(workers=workers)
    except Unavailable as error:
        raise LocalError(f"{error}: see the logs.") from error
    finally:
        store.close()


def data_folder() -> Path:
    """The folder with the data and the logs of this clone."""
    return Path(os.environ.get("DEDUP_LOCAL_DIR") or ROOT / ".local").absolute()


def log_folder(folder: Path) -> Path:
    """The folder of the logs in `folder`; this process logs to gateway.log in it. Missing folders are created for this
    user only. An existing `folder` keeps its mode, since it may be a home directory. Raises LocalError."""
    logs = folder / "log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalError(
            f"{folder} can't be used for data: {error.strerror}. Set DEDUP_LOCAL_DIR to another folder."
        ) from error
    logging.basicConfig(
        filename=logs / "gateway.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    return logs


def temporary_folder(folder: Path, *, empty: bool = False) -> Path:
    """The folder of the functions' temporary files in `folder`; on Lambda it is /tmp. `empty`: delete what a killed run
    left in it, since that contains records of customers. Raises LocalError."""
    path = folder / TEMPORARY
    try:
        if empty:
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise LocalError(f"{path} can't be used for temporary files: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise LocalError(f"{path} belongs to another user: remove it, or set DEDUP_LOCAL_DIR to another folder.")
    return path


def forget_aws() -> None:
    """Remove AWS variables from the environment, so that no request reaches the real AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]


def note_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """Save the functions' environment of this run, for `local.invoke`. Readable by this user only: it contains the
    password of the database."""
    path = folder / ENVIRONMENT_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(dict(environment), file)


def claim(path: Path, url: str, stack: ExitStack) -> None:
    """Make this the only run of the clone until `stack` ends. Raises LocalError, which names the other run."""
    file = lock(path)
    if not file:
        raise LocalError(f"Another run is in progress: {path.read_text() or path}.")
    stack.enter_context(file)
    file.truncate(0)
    file.write(f"{url}, process {os.getpid()}")
    file.flush()


def own_environment() -> dict[str, str]:
    """The variables of the functions that are set in the caller's environment; they override the template's."""
    return {name: value for name, value in os.environ.items() if name in OWN or name.startswith("POWERTOOLS_")}


if __name__ == "__main__":
    exit_code = main()
    # Python would spend a third of a second on looking for garbage among what SAM CLI left.
    gc.freeze()
    sys.exit(exit_code)
