"""Work that is noted when it is asked for and done by a function that a queue starts.

Each kind has a table with a row for each piece: what was asked, and what became of it. Whoever is at it holds a lease;
when that runs out, another attempt may start over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pg8000.native import Connection

from dedup.errors import Busy, KeyReused
from dedup.store.base import TIMES, note, text

TRIES = 3
"""Attempts, as many as the queue gives."""

SEEN = "enqueued_at = now(), sends = 1"
"""The changes in SQL to a row for which a message came, or will come again by itself."""

CUT_OFF = "It was cut off"
NOT_BEGUN = "Its queue delivered no message: ask for it again"


@dataclass(frozen=True)
class Outbox:
    """What makes messages of the rows of a table: conditions in SQL on them. The table has the columns `enqueued_at`
    and `sends`, as SEEN has them."""

    kind: str
    """What messages call a task of this kind."""
    table: str
    open: str
    """It may need a message: the condition of a partial index of the table."""
    waits: str
    """It does not go on until a message comes."""
    end: str
    """The changes to a row that end it, and say why."""
    over: str = "false"
    """It can't go on whatever comes."""
    may: str = "true"
    """There may be another attempt."""


@dataclass(frozen=True)
class TaskTable:
    """Work of one kind: the name of its table, and of what the audit calls it, where that is no other."""

    name: str
    action: str | None = None
    elsewhere: str = "false"
    """The condition in SQL that a piece that runs does so where nobody has to hold a lease."""
    attempts: str = "attempt"
    """How many of TRIES a piece has had, in SQL."""

    @property
    def more(self) -> str:
        """The condition in SQL that there may be another attempt."""
        return f"{self.attempts} < {TRIES}"

    @property
    def status(self) -> str:
        """The status in SQL, of a piece whose lease ran out too: it waits for the next attempt, if there is one."""
        return f"""CASE WHEN status <> 'running' OR {self.elsewhere} OR lease_until >= now() THEN status
            WHEN {self.more} THEN 'waiting' ELSE 'failed' END"""

    def outbox(self, kind: str, *, followed: bool = False) -> Outbox:
        """What makes messages of its rows. `followed`: pieces that run elsewhere are looked after by messages."""
        outside = f" OR status = 'running' AND {self.elsewhere}" if followed else ""
        return Outbox(
            kind,
            self.name,
            open="status IN ('waiting', 'running')",
            waits=f"(({self.status}) = 'waiting'{outside})",
            over=f"({self.status}) = 'failed'",
            end=f"""status = 'failed', lease_until = NULL, finished_at = clock_timestamp(),
                reason = CASE WHEN attempt = 0 THEN {text(NOT_BEGUN)} ELSE coalesce(reason, {text(CUT_OFF)}) END""",
        )

    def expect(
        self, connection: Connection, asked: Mapping[str, str], key: str | None, digest: str, principal: str
    ) -> tuple[int, str]:
        """Notes what `principal` asked for, column by column, once for a `key`: its id and status. Raises KeyReused."""
        rows = connection.run(
            f"""INSERT INTO {self.name} ({", ".join(asked)}, key, digest)
                VALUES ({", ".join(map(text, asked.values()))}, salted({text(key)}), {text(digest)})
                ON CONFLICT (key) DO NOTHING RETURNING id, status"""
        )
        if rows:
            note(connection, self.action or self.name, principal)
            return rows[0][0], rows[0][1]
        [[piece, status, first]] = connection.run(
            f"SELECT id, {self.status}, digest FROM {self.name} WHERE key = salted({text(key)})"
        )
        if first != digest:
            raise KeyReused
        return piece, status

    def claim(self, connection: Connection, piece: int, lease: float, columns: str) -> list[Any] | None:
        """Begins a piece that waits: its columns; None where that was done before, or there is none. Raises Busy while
        another attempt is at it."""
        rows: list[list[Any]] = connection.run(
            f"""UPDATE {self.name} SET status = 'running', attempt = attempt + 1, reason = NULL, started_at = now(),
                    lease_until = now() + interval '{lease} s', {SEEN}
                WHERE id = {piece} AND ({self.status}) = 'waiting' RETURNING {columns}"""
        )
        if rows:
            return rows[0]
        if connection.run(
            f"SELECT FROM {self.name} WHERE id = {piece} AND ({self.status}) = 'running' AND NOT ({self.elsewhere})"
        ):
            raise Busy
        return None

    def found(
        self, connection: Connection, columns: str, condition: str, limit: int, kept_days: int
    ) -> list[list[Any]]:
        """What is known of the pieces that fit a condition, the newest first: id, status, the columns, why it failed,
        when it was asked for, begun and ended, and whether it ended less than so many days ago."""
        found: list[list[Any]] = connection.run(
            f"""SELECT id, {self.status}, {columns},
                CASE WHEN status = 'running' AND ({self.status}) <> 'running' THEN {text(CUT_OFF)} ELSE reason END,
                {TIMES}, coalesce(finished_at > now() - interval '{kept_days} days', false)
            FROM {self.name} WHERE {condition} ORDER BY id DESC LIMIT {limit}"""
        )
        return found

    def interrupted(self, reason: str) -> str:
        """The changes in SQL to a row that give the piece back, to be done by the next delivery; where this was the
        last, it failed."""
        return f"""reason = {text(reason)}, lease_until = NULL, {SEEN},
            status = CASE WHEN {self.more} THEN 'waiting' ELSE 'failed' END,
            finished_at = CASE WHEN {self.more} THEN NULL ELSE clock_timestamp() END"""


def done(changes: str) -> str:
    """The changes in SQL to a row that end a piece well, with others."""
    return f"status = 'done', {changes}, lease_until = NULL, finished_at = clock_timestamp()"


def failed(reason: str) -> str:
    """The changes in SQL to a row that end a piece without an answer, and say why."""
    return f"status = 'failed', reason = {text(reason)}, lease_until = NULL, finished_at = clock_timestamp()"
