"""The resolver: keeps the entities of the active run up to date with the records, by the change log.

It reads a batch of changes, computes what follows from them in its state (incremental.py), and writes that to the run's
tables in one transaction with the position that it has reached. If another process has written meanwhile, or it was
killed, its state is made again from the tables, which are always those of their position."""

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from dedup.errors import Superseded
from dedup.matching import normalise
from dedup.matching.rules import IDENTITY, conventions_of
from dedup.matching.settings import Settings
from dedup.services import tasks
from dedup.settings import settings as environment
from dedup.store import Store
from dedup.store.change_log import Batch, Position
from dedup.store.matching.run_tables import RunTables
from pyarrow import csv

from jobs.matching import state_files
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.engine import RECORDS_SCHEMA, normalise_batch
from jobs.matching.incremental import State
from jobs.matching.model import Model
from jobs.scratch import Scratch

BATCH = 10_000
"""Changed records that are resolved together."""

POLL_SECONDS = 0.2
"""Between two looks at the change log while nothing is left to do."""

AWAKE_SECONDS = 3.0
"""How long the resolver looks at the change log after the last change. Wake-ups are sent once per second."""

RESERVED_SECONDS = 60.0
"""No batch is begun if fewer seconds remain."""

FEW = 1_000
"""A batch of fewer records is the last one before a run is made active."""

PRINCIPAL = "resolver"
"""Who starts the run that resolves a backlog, in the audit trail."""

WHOLE_FROM, WHOLE_SHARE = 50_000, 0.1
"""A backlog of so many records, and of this share of the run's records, is resolved by a run. Measured: of a million
records, a run takes as long as the batches of 90,000; of a hundred thousand, as those of 50,000."""


@dataclass(frozen=True)
class Worked:
    """How many records were resolved, and how old the oldest change is that is left, in seconds."""

    records: int
    seconds: float


def work(store: Store, remaining_seconds: Callable[[], float]) -> Worked:
    """Resolves what the active run has not read of the change log, until nothing came for AWAKE_SECONDS or no time
    remains. Does nothing while another process does."""
    resolver = _of(store)
    records, last, ends = 0, 0.0, False
    while remaining_seconds() > RESERVED_SECONDS and store.resolving.take_lease(resolver.name):
        _start_run_if_due(store)
        run = store.runs.active()
        found = resolver.step(run) if run else 0
        records += found
        if found:
            last, ends = time.monotonic(), False
        elif records and time.monotonic() - last < AWAKE_SECONDS:
            time.sleep(POLL_SECONDS)
        elif ends:
            break
        else:
            # Once more after the lease was free: a wake-up before did nothing.
            ends = True
            store.resolving.release_lease(resolver.name)
    store.resolving.release_lease(resolver.name)
    return Worked(records, store.resolving.backlog().seconds)


def _start_run_if_due(store: Store) -> None:
    """So that questions by entity are answered before anybody starts a run."""
    if environment().match_queue and store.resolving.automatic_run_is_due():
        _start_run(store, automatic=True)


def _start_run(store: Store, **of: Any) -> None:
    created = store.runs.create({}, None, "", principal=PRINCIPAL, **of)
    tasks.enqueue_created("run", created, store)


def follow(store: Store, run: int, remaining_seconds: Callable[[], float]) -> None:
    """Resolves most of what a run that is not active has not read of the change log."""
    with Resolver(store) as resolver:
        while remaining_seconds() > RESERVED_SECONDS and resolver.step(run) >= FEW:
            pass


@cache
def _of(store: Store) -> "Resolver":
    """The resolver of this process: its state serves the next invocation."""
    return Resolver(store)


class Resolver:
    """Resolves the changes of one run at a time."""

    def __init__(self, store: Store) -> None:
        self.name = str(uuid.uuid4())
        self._store = store
        self._resolved: _Resolved | None = None

    def step(self, run: int) -> int:
        """Resolves the next batch of changes of a run; returns how many records they were. 0 if there are none, or if
        others are at it."""
        try:
            batch = self._store.change_log.read(RunTables(run).consumer, BATCH)
            return self._resolve(run, batch) if batch.changes else 0
        except (LookupError, Superseded):
            # The run is not kept any more, or another process has written.
            self.close()
            return 0
        except BaseException:
            self.close()
            raise

    def _resolve(self, run: int, batch: Batch) -> int:
        if batch.records >= BATCH and self._leave_to_run(run):
            return 0
        for position, change in reversed([*enumerate(batch.changes, 1)]):
            if change.operation == "cleared":
                self.close()
                done = Batch(batch.changes[:position], batch.before, Position(change.entry))
                self._store.resolving.clear(run, done)
                return position
        if not self._resolved or (self._resolved.run, self._resolved.position) != (run, batch.before):
            self.close()
            self._resolved = _Resolved(self._store, run)
            if self._resolved.position != batch.before:
                raise Superseded("The run's tables were written meanwhile")
        return self._resolved.resolve(batch)

    def _leave_to_run(self, run: int) -> bool:
        """Whether the backlog is left to a run, which is started if there is none."""
        found = self._store.resolving.backlog()
        if run != found.run or found.records < max(WHOLE_FROM, WHOLE_SHARE * found.members) or found.run_failed:
            return False
        if not found.run_is_open and environment().match_queue:
            _start_run(self._store, model_of=run)
            return True
        return found.run_is_open

    def close(self) -> None:
        """Forgets the state. The next step makes it again."""
        if self._resolved:
            self._resolved.close()
        self._resolved = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Resolved:
    """The state of one run at a position of the change log. Raises LookupError if the run has no tables."""

    def __init__(self, store: Store, run: int) -> None:
        self._store, self.run = store, run
        self._folder = Scratch("resolver-")
        self._engine = DuckDB(memory=environment().match_memory)
        try:
            with ExitStack() as opened:
                version = store.resolving.read_run(run, state_files.open_tables(self._path, opened))
            settings = Settings.model_validate(version.settings)
            self._conventions = conventions_of(version.settings)
            self._state = State(self._engine, settings, Model.of(version.model))
            state_files.restore(self._state, self._path)
            self.position = version.position
        except BaseException:
            self.close()
            raise

    @property
    def _path(self) -> Path:
        return Path(self._folder.name)

    def resolve(self, batch: Batch) -> int:
        """Resolves a batch, which begins at the state's position; returns how many records it names."""
        store, state, begun = self._store, self._state, time.monotonic()
        ids = {record for change in batch.changes for record in range(change.first, change.last + 1)}
        arrived = self._read(ids)
        decisions = [{"records": [a, b], "decision": verdict} for a, b, verdict in store.resolving.decisions()]
        change = state.change(arrived, ids.difference(arrived.column("id").to_pylist()), Decisions.of(decisions))
        if new := change.new_entities:
            change.number(store.runs.reserve_entity_ids(new))
        with ExitStack() as opened:
            store.resolving.write(self.run, batch, state_files.write(state, self._path, opened), begun)
        change.keep()
        self.position = batch.after
        return len(ids)

    def _read(self, ids: Iterable[int]) -> pa.Table:
        """The normalised values of those of some records that there are."""
        path = self._path / "records.csv"
        with path.open("wb+") as records:
            self._store.resolving.read_records(ids, records)
        read = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(("id", *IDENTITY, *normalise.FIELDS), pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        batches = [normalise_batch(self._conventions, batch) for batch in read.to_batches()]
        return pa.Table.from_batches(batches, RECORDS_SCHEMA)

    def close(self) -> None:
        """Ends the engine, and removes all files."""
        self._engine.__exit__(None, None, None)
        self._folder.cleanup()
