"""`make event FUNCTION=Analyze`: runs a function on its sample event, or on the event in the file EVENT, in the same
way as `make run`, which may run at the same time. `make verify` uses it."""

import json
import os
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from rich.console import Console

from local import ROOT, LocalError, lock, sample_event
from local.__main__ import (
    DATABASE,
    ENVIRONMENT_FILE,
    data_folder,
    forget_aws,
    log_folder,
    migrate,
    own_environment,
    temporary_folder,
)


def main() -> int:
    """Invoke the function FUNCTION on the event in the file EVENT, or on its sample event. The exit code is 1 if that
    fails."""
    name = os.environ.get("FUNCTION", "")
    try:
        with ExitStack() as stack:
            return invoke(data_folder(), name, Path(os.environ.get("EVENT") or sample_event(name)), stack)
    except LocalError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename} can't be read: {error.strerror}.", file=sys.stderr)
    return 1


def invoke(folder: Path, name: str, event: Path, stack: ExitStack) -> int:
    """Print the function's response to the event in a file, and its log. Raises LocalError, and OSError if the file
    can't be read."""
    logs = log_folder(folder)
    forget_aws()
    from local.gateway import Template
    from local.workers import Workers

    temporary = temporary_folder(folder)
    beside = running(folder)
    template = Template(ROOT / "template.yaml", beside or start(folder, stack))
    if name not in template.functions:
        raise LocalError(f"FUNCTION must be one of {', '.join(sorted(template.functions))}.")
    if not beside:
        with closing(Workers(template.functions, logs / "functions.log", temporary, size=1)) as workers:
            migrate(workers, logs / "functions.log")
    with tempfile.TemporaryDirectory() as place:
        log = Path(place, "function.log")
        workers = stack.enter_context(closing(Workers(template.functions, log, temporary, size=1)))
        answer = workers.invoke(name, event.read_bytes())
        sys.stderr.write(log.read_text(encoding="utf-8"))
    Console().print_json(answer.payload.decode())
    return int(answer.failed)


def running(folder: Path) -> dict[str, str]:
    """The functions' environment of a `make run` in progress; empty if there is none."""
    claimed = lock(folder / "run.lock")
    if claimed:
        claimed.close()
        return {}
    environment: dict[str, str] = json.loads((folder / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    return environment


def start(folder: Path, stack: ExitStack) -> dict[str, str]:
    """Start the services that functions need, until `stack` ends, and return the functions' environment."""
    from local.postgres import Postgres
    from local.s3 import S3

    s3 = stack.enter_context(S3(0, folder / "log" / "s3.log"))
    postgres = stack.enter_context(Postgres(folder, log=folder / "log" / "postgres.log"))
    database = postgres.create_database(DATABASE)
    s3.create()
    return own_environment() | database.environment() | s3.environment()


if __name__ == "__main__":
    sys.exit(main())
