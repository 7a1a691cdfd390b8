"""Matching runs: from the request to the activation of their entities, and comparing two of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from pg8000.native import Connection

from dedup.errors import Superseded
from dedup.store import change_log
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.locks import ENTITIES_LOCK_EXCLUSIVE
from dedup.store.maintenance import Maintenance
from dedup.store.matching import activation, successors
from dedup.store.matching.forgetting import forget_missing
from dedup.store.matching.resolving import Tables, copy_members, copy_pairs, copy_records, decided_pairs
from dedup.store.matching.run_tables import (
    RunTables,
    active_run,
    require_active_run,
    settings_of,
    settings_text,
)
from dedup.store.region_counts import recount
from dedup.store.sql import TIMES, bigints, jsonb, text
from dedup.store.task_table import SEEN, TRIES, TaskTable, below, done, failed

CHANGES = 100
"""Entities of each kind that a comparison of two runs shows."""

CHANGED_RECORDS = 500
"""Records that it shows of each."""

_TASKS = TaskTable("match_run", action="match", external="lease_until IS NULL", polled=True, attempts="attempt - polls")
"""A run on EMR Serverless has no lease, except while a worker polls it, which is not an attempt."""
OUTBOX = _TASKS.outbox("run")


@dataclass(frozen=True)
class RunAttempt:
    """One attempt at one run."""

    id: int
    attempt: int
    lease: float
    """Seconds without a renewal after which another attempt may start over."""
    asked: Mapping[str, Any]
    """The settings that the request changes."""
    submitted: Mapping[str, Any] | None = None
    """What was recorded when the run was submitted to EMR Serverless, if it was."""
    model_of: int | None = None
    """The run whose settings and model version it takes, if it does."""


@dataclass(frozen=True)
class Snapshot:
    """What a run read: at which time of the database, the number of records, and the decisions: pairs of records and
    the verdict, the latest last."""

    at: str
    records: int
    decisions: Sequence[tuple[int, int, str]]


@dataclass(frozen=True)
class Results:
    """What a run found, as it is stored with it."""

    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    engine: str
    pairs: int
    histogram: Sequence[Mapping[str, Any]]
    near_threshold: Sequence[Mapping[str, Any]]


class Runs:
    """The matching runs of one database."""

    def __init__(self, database: Database, maintenance: Maintenance) -> None:
        self._database = database
        self._maintenance = maintenance

    def create(
        self,
        asked: Mapping[str, Any],
        key: str | None,
        digest: str,
        principal: str = UNKNOWN,
        *,
        model_of: int | None = None,
        activate: bool = True,
        automatic: bool = False,
    ) -> tuple[int, str]:
        """Adds a run, once for a `key`; returns its id and status. `model_of`: the run whose settings and model version
        it takes. `activate`: whether its entities become the active ones. `automatic`: whether the resolver starts it
        because of the number of records. Raises KeyReused, and LookupError with the reason if `model_of` cannot be
        used."""
        columns = {"asked": json.dumps(asked), "activate": str(activate), "automatic": str(automatic)}

        def work(connection: Connection) -> tuple[int, str]:
            if model_of is None:
                return _TASKS.create(connection, columns, key, digest, principal)
            if not connection.run(f"SELECT FROM match_run WHERE key = salted({text(key)})"):
                _require_kept(connection, model_of)
            return _TASKS.create(connection, columns | {"model_of": str(model_of)}, key, digest, principal)

        return self._database.write(work, repeatable=key is not None)

    def claim(self, run: int, lease: float) -> RunAttempt | None:
        """Starts an attempt at a run, or claims one on EMR Serverless to poll it. None if it has ended or does not
        exist. Raises Busy while another attempt is at it."""

        def work(connection: Connection) -> RunAttempt | None:
            claimed = _TASKS.claim(
                connection,
                run,
                lease,
                "attempt, asked::text, submitted::text, model_of",
                """started_at = CASE WHEN submitted IS NULL THEN now() ELSE started_at END,
                    progress = CASE WHEN submitted IS NULL THEN 0 ELSE progress END,
                    stage = CASE WHEN submitted IS NULL THEN 'begin' ELSE stage END""",
            )
            if not claimed:
                return None
            attempt, asked, submitted, model_of = claimed
            # What another attempt left behind.
            tables = RunTables(run)
            tables.drop(connection)
            if not submitted:
                successors.move_decisions(connection)
                connection.run(f"DELETE FROM change_consumer WHERE name = {text(tables.consumer)}")
                # Before the records are read: what changes from here on is resolved when the run is done.
                change_log.register(connection, tables.consumer)
            return RunAttempt(run, attempt, lease, json.loads(asked), submitted and json.loads(submitted), model_of)

        return self._database.write(work, repeatable=True)

    def progress(self, attempt: RunAttempt, stage: str, progress: float, engine: str | None = None) -> None:
        """Records how far the run is, from 0 to 1, and renews its lease. Raises Superseded."""
        changes = f"stage = {text(stage)}, progress = {progress}, engine = coalesce({text(engine)}, engine)"
        self._database.write(lambda connection: _TASKS.renew(connection, attempt, changes), repeatable=True)

    def submitted(self, attempt: RunAttempt, submitted: Mapping[str, Any]) -> None:
        """Ends the attempt and leaves the run to EMR Serverless, until a worker claims it to poll it. Raises
        Superseded."""
        changes = f"""submitted = {jsonb(submitted)}, attempt = attempt + 1, polls = attempt + 1,
            lease_until = NULL, {SEEN}"""
        self._database.write(lambda connection: _TASKS.update(connection, attempt, changes), repeatable=False)

    def fail(self, attempt: RunAttempt, reason: str) -> None:
        """Ends the run for a reason that its caller can understand; the active run stays active."""
        self._end(attempt, failed(reason))

    def interrupt(self, attempt: RunAttempt, reason: str) -> None:
        """Gives the run back for another attempt; after the last one, it has failed."""
        self._end(attempt, _TASKS.interrupted(reason))

    def _end(self, attempt: RunAttempt, changes: str) -> None:
        def work(connection: Connection) -> None:
            if _TASKS.end(connection, attempt, changes):
                RunTables(attempt.id).drop(connection)

        self._database.write(work, repeatable=True)

    def read_records(self, records: BinaryIO, former: BinaryIO) -> Snapshot:
        """Writes all records as CSV, and the entities that they have in the active run (record_id, entity_id), both of
        one state; returns that state. The database makes the rows, in batches."""

        def work(connection: Connection) -> Snapshot:
            for stream in (records, former):
                stream.seek(0)
                stream.truncate()
            [[at]] = connection.run("SELECT now()::text")
            copy_records(connection, records)
            count = connection.row_count
            tables = active_run(connection)
            if tables:
                connection.run(
                    f"COPY (SELECT record_id, entity_id FROM {tables.member}) TO STDOUT WITH (FORMAT csv, HEADER)",
                    stream=former,
                )
            return Snapshot(at, count, decided_pairs(connection))

        return self._database.read(work)

    def reserve_entity_ids(self, count: int) -> int:
        """The first of so many entity ids that nobody else gets."""

        def work(connection: Connection) -> int:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            [[first]] = connection.run("SELECT nextval('entity_id')")
            connection.run(f"SELECT setval('entity_id', {first + count})")
            return int(first)

        return self._database.write(work, repeatable=True)

    def load(self, attempt: RunAttempt, files: Tables, results: Results) -> None:
        """Fills the run's tables. Nobody sees them yet. Raises Superseded."""

        def work(connection: Connection) -> None:
            self._require(connection, attempt)
            tables = RunTables(attempt.id)
            tables.create(connection)
            _copy_in(connection, tables, files)
            tables.index(connection, results.settings)
            recount(connection, tables.counted)
            # Last: until then the lease can be renewed, and an attempt that lost it meanwhile writes nothing.
            _TASKS.update(
                connection,
                attempt,
                f"""settings = {jsonb(results.settings)}, model = {jsonb(results.model)},
                    engine = {text(results.engine)}, pairs = {results.pairs}, histogram = {jsonb(results.histogram)},
                    near_threshold = {jsonb(results.near_threshold)}""",
            )

        self._database.write(work, repeatable=True)

    def finish(self, attempt: RunAttempt, snapshot: Snapshot) -> None:
        """Ends the run. Its entities become the active ones if its request said so, unless those of a later run are.
        Raises Superseded."""
        tables = RunTables(attempt.id)

        def work(connection: Connection) -> None:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            self._require(connection, attempt)
            [[activates]] = connection.run(
                f"""SELECT activate AND NOT EXISTS (
                        SELECT FROM match_run a JOIN match_state ON a.id = active_run
                        WHERE a.started_at > {text(snapshot.at)}::timestamptz)
                    FROM match_run WHERE id = {attempt.id}"""
            )
            if activates:
                activation.keep_ids(connection, tables)
                activation.activate(connection, attempt.id)
            else:
                forget_missing(connection, tables)
            changes = f"""progress = 1, stage = NULL, kept = true, records = (SELECT count(*) FROM {tables.member}),
                entities = (SELECT count(*) FROM {tables.membership.table})"""
            _TASKS.update(connection, attempt, done(changes))

        self._database.write(work, repeatable=True)
        self._maintenance.sweep()

    def activate(self, run: int, principal: str = UNKNOWN) -> dict[str, Any] | None:
        """Makes a run that is done the active one; returns it. The resolver brings it up to date with what was changed
        and decided since it was done. Nothing changes if it is active. None if it does not exist. Raises Conflict if it
        is not done, not kept any more, or lacks too many records."""

        def work(connection: Connection) -> None:
            connection.run(f"SELECT {ENTITIES_LOCK_EXCLUSIVE}")
            if activation.lock_inactive(connection, run):
                activation.activate(connection, run)
                connection.run(f"UPDATE match_run SET automatic = false WHERE id = {run}")
                record_action(connection, "activate run", principal)

        try:
            self._database.write(work, repeatable=True)
        except LookupError:
            return None
        return self.get(run)

    @staticmethod
    def _require(connection: Connection, attempt: RunAttempt) -> None:
        if not connection.run(f"SELECT FROM match_run WHERE {_TASKS.current(attempt)}"):
            raise Superseded

    def get(self, run: int) -> dict[str, Any] | None:
        """One run; None if it does not exist."""
        found = self._find(f"id = {run}", 1)
        return found[0] if found else None

    def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The runs, the newest first, from below id `before`; at most `limit`."""
        return self._find(below(before), limit)

    def _find(self, condition: str, limit: int) -> list[dict[str, Any]]:
        query = f"""
            SELECT row_to_json(r)::text FROM (
                SELECT id, {_TASKS.status} AS status,
                    CASE WHEN status = 'running' AND ({_TASKS.status}) = 'failed'
                        THEN 'It was interrupted {TRIES} times' ELSE reason END AS reason,
                    engine, progress, stage,
                    id = coalesce((SELECT active_run FROM match_state), 0) AS active, kept, automatic, model_of,
                    records, pairs, entities, model,
                    coalesce(histogram, '[]') AS histogram, coalesce(near_threshold, '[]') AS near_threshold,
                    {TIMES}
                FROM match_run WHERE {condition} ORDER BY id DESC LIMIT {limit}) AS r"""
        return [json.loads(row) for [row] in self._database.read(lambda connection: connection.run(query))]

    def active(self) -> int | None:
        """The id of the active run; None before the first."""
        tables = self._database.read(active_run)
        return tables.run if tables else None

    def require_active(self) -> int:
        """The id of the active run. Raises NoRun."""
        return self._database.read(lambda connection: require_active_run(connection).run)

    def model(self, run: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """A run's settings, without the constraints that were waived, and its model."""

        def work(connection: Connection) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            [[model]] = connection.run(f"SELECT model::text FROM match_run WHERE id = {run}")
            return settings_of(connection, RunTables(run)), json.loads(model)

        return self._database.read(work)

    def version(self, run: int, terms: BinaryIO) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """A run's settings, with all constraints, and its model; its term frequencies are written as CSV. Raises
        LookupError with the reason."""

        def work(connection: Connection) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
            terms.seek(0)
            terms.truncate()
            _require_kept(connection, run)
            tables = RunTables(run)
            connection.run(
                f"COPY (SELECT field, value, records FROM {tables.term}) TO STDOUT WITH (FORMAT csv, HEADER)",
                stream=terms,
            )
            [[model]] = connection.run(f"SELECT model::text FROM match_run WHERE id = {run}")
            return json.loads(settings_text(connection, tables)), json.loads(model)

        return self._database.read(work)

    def changes(self, run: int, since: int) -> dict[str, Any] | None:
        """What was merged and what was split between two runs, of the records that both know: entities of one whose
        records had several in the other. None if the tables of either are gone."""

        def work(connection: Connection) -> dict[str, Any] | None:
            if len(connection.run(f"SELECT FROM match_run WHERE id IN ({run}, {since}) AND kept")) != len({run, since}):
                return None
            new, old = RunTables(run), RunTables(since)
            merged, merged_count = _divided(connection, new, old)
            split, split_count = _divided(connection, old, new)
            return {"merged": merged, "split": split, "merged_count": merged_count, "split_count": split_count}

        return self._database.read(work)


def _require_kept(connection: Connection, run: int) -> None:
    """Raises LookupError with the reason unless a run is done and its tables exist."""
    rows = connection.run(f"SELECT status, kept FROM match_run WHERE id = {run}")
    if not rows:
        raise LookupError(f"Run {run} does not exist")
    [[status, kept]] = rows
    if status != "done":
        raise LookupError(f"Run {run} is not done: its status is {status}")
    if not kept:
        raise LookupError(f"The model version of run {run} was deleted: those of the last runs only are kept")


def _copy_in(connection: Connection, tables: RunTables, files: Tables) -> None:
    for stream in files.files:
        stream.seek(0)
    for table, stream in ((tables.decision, files.decisions), (tables.term, files.terms)):
        connection.run(f"COPY {table} FROM STDIN WITH (FORMAT csv)", stream=stream)
    copy_members(connection, tables, files.members)
    copy_pairs(connection, tables, files.edges, files.review)


def _divided(connection: Connection, whole: RunTables, parts: RunTables) -> tuple[list[dict[str, Any]], int]:
    """Entities of the run `whole` whose records have several entities in `parts`: the first CHANGES, and how many there
    are."""
    found = connection.run(
        f"""SELECT w.entity_id, count(*) OVER () FROM {whole.membership.table} k
            JOIN {whole.member} w USING (entity_id) JOIN {parts.member} p USING (record_id)
            WHERE k.records > 1
            GROUP BY w.entity_id HAVING min(p.entity_id) <> max(p.entity_id) ORDER BY w.entity_id LIMIT {CHANGES}"""
    )
    rows = connection.run(
        f"""SELECT w.entity_id, (array_agg(w.record_id ORDER BY w.record_id))[:{CHANGED_RECORDS}]
            FROM {whole.member} w JOIN {parts.member} p USING (record_id)
            WHERE w.entity_id = ANY ({bigints(entity for entity, _ in found)})
            GROUP BY w.entity_id ORDER BY w.entity_id"""
    )
    return [{"entity_id": entity, "record_ids": records} for entity, records in rows], found[0][1] if found else 0
