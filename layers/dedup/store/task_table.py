"""The state machine of asynchronous tasks: uploads of files, exports, jobs, matching runs and erasures.

Each kind has a table with a row for each task: what was asked for, and how far it is. A worker claims a task and holds
a lease, which it renews; when the lease runs out, another attempt may start over.

    waiting ─claim─▶ running ─▶ done | failed
       ◀──interrupted, or the lease ran out, while attempts are left

A worker writes only as long as its attempt is the current one, which the same statement checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pg8000.native import Connection

from dedup.errors import Busy, KeyReused, Superseded
from dedup.store.audit import record_action
from dedup.store.sql import TIMES, text

TRIES = 3
"""Attempts that a queue gives a message."""

SEEN = "enqueued_at = now(), sends = 1"
"""The changes to the row of a task for which a message came, or will come again by itself."""

CUT_OFF = "It was interrupted"
NEVER_CLAIMED = "Its queue delivered no message: ask for it again"


class Attempt(Protocol):
    """One attempt at one task."""

    @property
    def id(self) -> int:
        """The id of the task."""

    @property
    def attempt(self) -> int:
        """The number of the attempt."""


class LeasedAttempt(Attempt, Protocol):
    """One attempt that holds a lease."""

    @property
    def lease(self) -> float:
        """Seconds without a renewal after which another attempt may start over."""


@dataclass(frozen=True)
class Outbox:
    """Which tasks of a table need a message: conditions on its rows. The table has the columns `enqueued_at` and
    `sends`, as in SEEN."""

    kind: str
    """What messages call a task of this kind."""
    table: str
    open: str
    """It has not ended: the condition of a partial index of the table."""
    waits: str
    """It can't continue without a message."""
    end: str
    """The changes to a row that end the task and give the reason."""
    over: str = "false"
    """It has no attempts left: a message would not help."""
    may: str = "true"
    """Another attempt is allowed."""


@dataclass(frozen=True)
class TaskTable:
    """The tasks of one kind."""

    name: str
    """The table."""
    action: str | None = None
    """What the audit trail calls a request for a task, if that is not the table's name."""
    running: str = "running"
    """The status of a task that is being worked on."""
    external: str = "false"
    """The condition that a running task runs in an external system, where no lease is held."""
    polled: bool = False
    """Whether an external task is claimed to see how it is."""
    attempts: str = "attempt"
    """How many of TRIES a task has had."""
    limited: bool = True
    """Whether a task has no more than TRIES attempts."""

    @property
    def more(self) -> str:
        """The condition that another attempt is allowed."""
        return f"{self.attempts} < {TRIES}" if self.limited else "true"

    @property
    def status(self) -> str:
        """An expression for the status. A task whose lease ran out waits for the next attempt, if there is one."""
        return f"""CASE WHEN status <> '{self.running}' OR {self.external} OR lease_until >= now() THEN status
            WHEN {self.more} THEN 'waiting' ELSE 'failed' END"""

    @property
    def waits(self) -> str:
        """The condition that a task waits to be claimed."""
        polled = f" OR status = '{self.running}' AND {self.external}" if self.polled else ""
        return f"(({self.status}) = 'waiting'{polled})"

    def outbox(self, kind: str) -> Outbox:
        """Which tasks need a message."""
        return Outbox(
            kind,
            self.name,
            open=f"status IN ('waiting', '{self.running}')",
            waits=self.waits,
            over=f"({self.status}) = 'failed'",
            end=f"""status = 'failed', lease_until = NULL, finished_at = clock_timestamp(), reason = CASE
                WHEN attempt = 0 THEN {text(NEVER_CLAIMED)} ELSE coalesce(reason, {text(CUT_OFF)}) END""",
        )

    def current(self, attempt: Attempt) -> str:
        """The condition that an attempt is the current one, in a row of the table."""
        return f"id = {attempt.id} AND attempt = {attempt.attempt} AND status = '{self.running}'"

    def create(
        self, connection: Connection, asked: Mapping[str, str], key: str | None, digest: str, principal: str
    ) -> tuple[int, str]:
        """Adds a task, with the columns in `asked`, once for a `key`; returns its id and status. Raises KeyReused."""
        rows = connection.run(
            f"""INSERT INTO {self.name} ({", ".join(asked)}, key, digest)
                VALUES ({", ".join(map(text, asked.values()))}, salted({text(key)}), {text(digest)})
                ON CONFLICT (key) DO NOTHING RETURNING id, status"""
        )
        if rows:
            record_action(connection, self.action or self.name, principal)
            return rows[0][0], rows[0][1]
        [[task, status, first]] = connection.run(
            f"SELECT id, {self.status}, digest FROM {self.name} WHERE key = salted({text(key)})"
        )
        if first != digest:
            raise KeyReused
        return task, status

    def claim(
        self, connection: Connection, task: int, lease: float, columns: str, changes: str = "started_at = now()"
    ) -> list[Any] | None:
        """Starts an attempt at a task that waits, with these changes to its row; returns the columns. None if the task
        has ended or does not exist. Raises Busy while another attempt holds the lease."""
        rows: list[list[Any]] = connection.run(
            f"""UPDATE {self.name} SET status = '{self.running}', attempt = attempt + 1, reason = NULL, {changes},
                    lease_until = now() + interval '{lease} s', {SEEN}
                WHERE id = {task} AND {self.waits} RETURNING {columns}"""
        )
        if rows:
            return rows[0]
        if connection.run(
            f"""SELECT FROM {self.name}
                WHERE id = {task} AND ({self.status}) IN ('waiting', '{self.running}') AND NOT ({self.external})"""
        ):
            raise Busy
        return None

    def renew(self, connection: Connection, attempt: LeasedAttempt, changes: str = "") -> None:
        """Renews the lease, with changes to the row. Raises Superseded."""
        lease = f"lease_until = now() + interval '{attempt.lease} s'"
        self.update(connection, attempt, f"{changes}, {lease}" if changes else lease)

    def update(self, connection: Connection, attempt: Attempt, changes: str) -> None:
        """Changes the row. Raises Superseded."""
        if not self.end(connection, attempt, changes):
            raise Superseded

    def end(self, connection: Connection, attempt: Attempt, changes: str) -> bool:
        """Changes the row, unless superseded; whether it did."""
        return bool(connection.run(f"UPDATE {self.name} SET {changes} WHERE {self.current(attempt)} RETURNING id"))

    def found(
        self, connection: Connection, columns: str, condition: str, limit: int, kept_days: int
    ) -> list[list[Any]]:
        """The tasks that meet a condition, the newest first: id, status, the columns, the reason for a failure, when it
        was created, started and finished, and whether it finished less than so many days ago."""
        found: list[list[Any]] = connection.run(
            f"""SELECT id, {self.status}, {columns},
                CASE WHEN status = '{self.running}' AND ({self.status}) <> '{self.running}' THEN {text(CUT_OFF)}
                    ELSE reason END,
                {TIMES}, coalesce(finished_at > now() - interval '{kept_days} days', false)
            FROM {self.name} WHERE {condition} ORDER BY id DESC LIMIT {limit}"""
        )
        return found

    def interrupted(self, reason: str) -> str:
        """The changes to a row that give the task back for another attempt; after the last one, it has failed."""
        return f"""reason = {text(reason)}, lease_until = NULL, {SEEN},
            status = CASE WHEN {self.more} THEN 'waiting' ELSE 'failed' END,
            finished_at = CASE WHEN {self.more} THEN NULL ELSE clock_timestamp() END"""


def below(before: int | None) -> str:
    """The condition for a page of tasks, the newest first: those below id `before`."""
    return "true" if before is None else f"id < {before}"


def done(changes: str = "reason = NULL") -> str:
    """The changes to a row that end a task well, with others."""
    return f"status = 'done', {changes}, lease_until = NULL, finished_at = clock_timestamp()"


def failed(reason: str) -> str:
    """The changes to a row that end a task as failed."""
    return f"status = 'failed', reason = {text(reason)}, lease_until = NULL, finished_at = clock_timestamp()"
