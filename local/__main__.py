"""`make run`: the whole stack on this machine, until Ctrl-C."""

import errno
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
"""The folder of temporary files in the data folder. Nobody has one of that name: what is in it is deleted."""
OWN = ("SOURCES", "ENGINE_THRESHOLD")
"""Variables of the functions that the caller's environment may say."""
SCHEDULED = b'{"patience": 300}'
"""What functions get that a schedule starts. Sweep: messages come again after a minute at most here."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run until SIGINT or SIGTERM; return the exit code. What the person at the terminal can mend is one sentence."""
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
        # SIGINT too, which a shell has a background job ignore; but what nohup ignores stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            servers = start(folder, port, stack)
            while True:
                # In pieces: a signal that comes just as a wait begins is only seen when it ends.
                time.sleep(0.5)
                for server in servers:
                    server.look_after()
        finally:
            # Stopping is bounded in time, and a second Ctrl-C must not leave half of it running.
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def start(folder: Path, port: str, stack: ExitStack) -> list["Watched"]:
    """Start everything in order and say where it is; `stack` stops it in the opposite order. What is returned has to be
    looked after meanwhile. Raises LocalError."""
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise LocalError(f"PORT must be a number from 1 to 65535, not {port}.")
    url = f"http://127.0.0.1:{port}"
    logs = log_folder(folder)
    claim(folder / "run.lock", url, stack)
    # Imported only now, because it takes a second that the sentence about another run should not.
    from local.s3 import BUCKET, S3

    forget_aws()
    # First, because it gets ready by itself meanwhile.
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
        f"S3         {s3.url}, bucket {BUCKET}: objects are gone when it stops; the records stay\n"
        f"logs       {logs}\n"
        f"try        curl {url}/health\n"
        "           make sample\n"
        "           make upload FILE=samples/customers.csv\n"
        "Ctrl-C stops all of it; the data stays.",
        flush=True,
    )

    def refill() -> None:
        s3.create(template.queues)
        forget_messages(environment)

    return [
        Watched("PostgreSQL", postgres, postgres.log),
        Watched("The local S3", s3, s3.log, "its objects are gone", refill),
    ]


def migrate(workers: "Workers", log: Path) -> None:
    """Bring the database's tables up to date. Raises LocalError, which names the functions' `log`."""
    answer = workers.invoke("Migrate", b"{}")
    if answer.failed:
        raise LocalError(f"The migrations failed: {json.loads(answer.payload)['errorMessage']} (see {log}).")


def forget_messages(environment: Mapping[str, str], *, workers: bool = False) -> None:
    """Note what went with the S3 that was there before. Uploads end, for their objects are gone; the other tasks are
    sent to their queues anew. `workers`: those who worked on them are gone as well. Raises LocalError."""
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
    """Where the data and the logs of this clone are."""
    return Path(os.environ.get("DEDUP_LOCAL_DIR") or ROOT / ".local").absolute()


def log_folder(folder: Path) -> Path:
    """The folder of the logs in `folder`, both made for this user alone when they are not there; what is logged here
    goes to gateway.log. A folder that is there keeps its mode: it may be somebody's home. Raises LocalError."""
    logs = folder / "log"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{folder} can't hold the data: {error.strerror}. Set DEDUP_LOCAL_DIR to a folder.") from error
    logging.basicConfig(
        filename=logs / "gateway.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    return logs


def temporary_folder(folder: Path, *, empty: bool = False) -> Path:
    """The folder of the functions' temporary files in `folder`; on Lambda it is /tmp. `empty`: without what a run that
    was killed left in it, which holds everybody's records. Raises LocalError."""
    path = folder / TEMPORARY
    try:
        if empty:
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise LocalError(f"{path} can't hold temporary files: {error.strerror}.") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise LocalError(f"{path} belongs to somebody else: remove it, or set DEDUP_LOCAL_DIR to another folder.")
    return path


def forget_aws() -> None:
    """Drop what the caller's environment says about AWS, so that nothing here reaches the real one."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]


def note_environment(folder: Path, environment: Mapping[str, str]) -> None:
    """Write down what the functions are told of this run, for `local.invoke`. Its user alone may read it: it has the
    database's password."""
    path = folder / ENVIRONMENT_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(dict(environment), file)


def claim(path: Path, url: str, stack: ExitStack) -> None:
    """Make this the one run of the clone until `stack` ends. Raises LocalError, saying where the other one is."""
    file = lock(path)
    if not file:
        raise LocalError(f"It runs already: {path.read_text() or path}.")
    stack.enter_context(file)
    file.truncate(0)
    file.write(f"{url}, process {os.getpid()}")
    file.flush()


def own_environment() -> dict[str, str]:
    """What the caller's environment says about the functions' configuration, over what the template does."""
    return {name: value for name, value in os.environ.items() if name in OWN or name.startswith("POWERTOOLS_")}


if __name__ == "__main__":
    sys.exit(main())
