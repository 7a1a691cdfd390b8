"""One connection to PostgreSQL per Lambda environment: opened on first use, checked after a pause, replaced when dead.

A Lambda freezes between invocations, and its connection may be dead on the next one. A transaction that can be repeated
without writing twice is repeated here; all other failures of the database are raised as Unavailable.
"""

import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from pg8000.core import Context
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from dedup.errors import Unavailable, sqlstate
from dedup.settings import Settings
from dedup.store.credentials import Credentials, credentials

T = TypeVar("T")

BROKEN = (InterfaceError, OSError, struct.error)
"""What pg8000 raises when a connection can't be used any more, also from close()."""

ATTEMPTS = 3
IDLE_BEFORE_CHECK = 1.0
"""Seconds without use after which a connection is checked: longer than the gaps of a busy environment, shorter than a
freeze that matters."""

CHECK_TIMEOUT = 0.7
"""Timeout of the check in seconds. With one attempt to connect, /health answers within three seconds."""

_STRINGS = "standard_conforming_strings"
"""If on, a backslash in a literal is a backslash, which every literal of the store relies on. A database may have it
off by default."""

_SESSION = {
    _STRINGS: "on",
    "idle_in_transaction_session_timeout": "60000",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
"""Settings of the session, in milliseconds, seconds, seconds and attempts. With these, the locks of a client that
disappears are released after a minute. No transaction pauses that long."""

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

_SIGN_IN_REFUSED = "28P01"

_CONFLICT = ("40001", "40P01", "42P01")
"""Serialization failure, deadlock, and a missing table: that of a run which was dropped since it was looked up. Nothing
was written, and the same transaction may succeed."""

_UNAVAILABLE = ("08", "53", "57", "28", "25006", "55P03", *_CONFLICT)
"""Classes of SQLSTATE for failures of the database rather than of a statement: connection, resources, intervention
(shutdown, a statement over its time), refused sign-in, read-only after a failover, a lock not granted. PostgreSQL,
appendix A."""


def _is_rds_proxy(host: str) -> bool:
    return ".proxy-" in host


@cache
def _verified_tls(host: str) -> ssl.SSLContext:
    # Certificates of RDS databases are signed by RDS's own authority; those of its proxies and of other databases by
    # public ones.
    if ".rds." in host and not _is_rds_proxy(host):
        return ssl.create_default_context(cadata=(files("dedup.store") / "rds-roots.pem").read_text("ascii"))
    return ssl.create_default_context()


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "host.docker.internal")


class _Connection(Connection):  # type: ignore[misc] # it has no types
    """pg8000's, where a transaction takes no round trips of its own: it begins with its first statement, and a read is
    over without waiting for its COMMIT to be answered."""

    _begin = ""
    _unanswered: Context | None = None

    def begin(self, statement: str) -> None:
        """Begins a transaction with the next statement."""
        self._begin = statement

    def end_read(self) -> None:
        """Ends a transaction that wrote nothing."""
        if self._begin:
            self._begin = ""
            return
        self._unanswered = Context("COMMIT")
        self.send_QUERY("COMMIT")
        self._sock.flush()

    def run(self, sql: str, stream: Any = None, types: Any = None, **params: Any) -> Any:
        """Runs one statement, as pg8000's run()."""
        unanswered, self._unanswered = self._unanswered, None
        if unanswered:
            self.handle_messages(unanswered)
        begin, self._begin = self._begin, ""
        if begin and stream is None:
            sql = f"{begin}; {sql}"
        elif begin:
            # COPY's protocol takes one statement.
            super().run(begin)
        return super().run(sql, stream, types, **params)


class Database:
    """The connection of this environment, and transactions on it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: _Connection | None = None
        self._used_at = 0.0

    def ping(self) -> None:
        """Returns when the database answers; raises Unavailable, within three seconds, when it does not."""
        self._attempt(lambda: self._live(check_always=True))

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, given a connection in a read-only transaction that sees one state of the database.

        `work` may be called again when the connection was lost. Raises Unavailable."""
        return self._transaction(_READ, work, repeatable=True)

    def write(self, work: Callable[[Connection], T], *, repeatable: bool) -> T:
        """What `work` returns, given a connection in a transaction that is committed after it; whatever it raises
        rolls back.

        `work` may be called again when its transaction certainly was not committed, or when that would write nothing
        twice (`repeatable`). Raises Unavailable; its text says so when the outcome is unknown."""
        return self._transaction("BEGIN", work, repeatable=repeatable)

    def with_own_connection(self) -> "Database":
        """The same database, on a connection of its own."""
        return Database(self._settings)

    def close(self) -> None:
        """Closes the connection, if there is one, however broken it is."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*BROKEN):
                connection.close()

    def _transaction(self, begin: str, work: Callable[[Connection], T], *, repeatable: bool) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                connection = self._attempt(self._live)
                connection.begin(begin)
                result = work(connection)
                committing = True
                if begin == _READ:
                    connection.end_read()
                else:
                    connection.run("COMMIT")
            except BROKEN as error:
                self.close()
                if committing and not repeatable:
                    raise Unavailable("The connection was lost while committing: it may have been written") from error
                if isinstance(error, TimeoutError) or attempt == ATTEMPTS:
                    raise Unavailable("The connection to the database was lost") from error
            except DatabaseError as error:
                self._roll_back()
                code = sqlstate(error)
                if not code.startswith(_UNAVAILABLE):
                    raise
                if code not in _CONFLICT or attempt == ATTEMPTS:
                    self.close()
                    raise Unavailable(f"The database could not do this now ({code})") from error
            except BaseException:
                self._roll_back()
                raise
            else:
                self._used_at = time.time()
                return result
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _attempt(self, connect: Callable[[], T]) -> T:
        try:
            return connect()
        except (*BROKEN, DatabaseError) as error:
            self.close()
            raise Unavailable("The database can't be reached") from error

    def _live(self, check_always: bool = False) -> _Connection:
        if self._connection is not None and (check_always or time.time() - self._used_at > IDLE_BEFORE_CHECK):
            self._check(self._connection)
        if self._connection is None:
            self._connection = self._connect()
        self._used_at = time.time()
        return self._connection

    def _check(self, connection: Connection) -> None:
        try:
            connection._usock.settimeout(CHECK_TIMEOUT)
            connection.run("SELECT 1")
            connection._usock.settimeout(self._socket_timeout)
        except (*BROKEN, DatabaseError):
            self.close()

    def _roll_back(self) -> None:
        # An error may have come out of the middle of a COPY, where the connection can't be used again.
        try:
            if self._connection is not None:
                self._connection.run("ROLLBACK")
        except (*BROKEN, DatabaseError):
            self.close()

    @property
    def _socket_timeout(self) -> float:
        # The server gives up first, so that its answer is the error rather than a dead socket.
        return self._settings.db_statement_timeout + 2

    def _connect(self) -> _Connection:
        settings = self._settings
        try:
            return self._sign_in(credentials(settings))
        except DatabaseError as error:
            if sqlstate(error) != _SIGN_IN_REFUSED or not settings.db_secret_arn:
                raise
            # The password was rotated since the secret was fetched.
            return self._sign_in(credentials(settings, changed=True))

    def _sign_in(self, who: Credentials) -> _Connection:
        settings = self._settings
        # pg8000's own socket lacks TCP_NODELAY: every COPY would wait 40 ms for a delayed acknowledgement.
        sock = socket.create_connection((settings.db_host, settings.db_port), settings.db_connect_timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # RDS Proxy refuses these options: behind it the role has them, set by migrate.
            session = _SESSION | {"statement_timeout": str(int(settings.db_statement_timeout * 1000))}
            connection = _Connection(
                who.user,
                host=settings.db_host,
                database=settings.db_name,
                password=who.password,
                sock=sock,
                ssl_context=False if _is_local(settings.db_host) else _verified_tls(settings.db_host),
                application_name="dedup",
                startup_params={} if _is_rds_proxy(settings.db_host) else session,
            )
            connection._usock.settimeout(self._socket_timeout)
            if connection.parameter_statuses.get(_STRINGS) != "on":
                # Behind a proxy, for a role that migrate did not create. It pins the proxy's connection.
                connection.run(f"SET {_STRINGS} = on")
        except BaseException:
            sock.close()
            raise
        return connection
