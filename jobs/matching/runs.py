"""A matching run of the store, from its claim to its activation: records are exported to files and matched, and the
result is loaded. Memory does not depend on the number of records; the engine limits its own.

Many records are matched by Spark, which reads from and writes to the bucket: in a process of this machine, or on EMR
Serverless, which continues after the function has ended. Then the queue delivers the run again after a while, to poll
its state.

A delivery may be the first, a duplicate, or one of several at the same time, and the function may be killed at any
point: until the last transaction the previous run stays active."""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
from dedup.aws import bucket, spark
from dedup.errors import Superseded, Unavailable
from dedup.matching.settings import Settings
from dedup.services import jobs as spark_jobs
from dedup.services import tasks
from dedup.services.resolver import wake
from dedup.settings import settings as environment
from dedup.store import Store
from dedup.store.connection import Database
from dedup.store.matching.resolving import Tables
from dedup.store.matching.run_tables import MEMBER_COLUMNS
from dedup.store.matching.runs import Results, RunAttempt, Snapshot
from dedup.store.task_outbox import Task
from pydantic import ValidationError

from jobs import BadInput, scratch, storage
from jobs.matching import resolver
from jobs.matching.decisions import Decisions
from jobs.matching.duckdb_engine import DuckDB
from jobs.matching.match import match
from jobs.matching.model import Model
from jobs.matching.outputs import EDGE_ROWS, MODEL, REVIEW_ROWS, TERMS
from jobs.scratch import Scratch

LEASE = 60.0
"""Seconds without a renewal after which another attempt may start over."""

NEAR_THRESHOLD = 20
"""Number of pairs nearest to the threshold that are stored with a run."""

POLL_SECONDS = 60
"""Seconds between two polls of a run on EMR Serverless."""

SPARK = "spark"
MODULE = "matching"
"""The module of jobs/ that Spark runs, see jobs/matching/__main__.py."""

JAR = "similarity.jar"
"""Splink's functions for Spark, beside the code in the bucket."""

STAGES = {
    "read": 0.1,
    SPARK: 0.2,
    "rules": 0.2,
    "train": 0.25,
    "score": 0.4,
    "cluster": 0.6,
    "write": 0.75,
    "load": 0.8,
    "resolve": 0.95,
}
"""Progress of a run, from 0 to 1, at the start of each stage."""

RECORDS, PREVIOUS = "records.parquet", "previous.parquet"
"""Names of a matching's input; those of a model version are as in jobs.matching.outputs."""
_CSV = "(FORMAT csv, HEADER false)"


def run(run_id: int, store: Store, remaining_seconds: Callable[[], float] = lambda: 900.0) -> str | None:
    """Works on a run. Returns its status then: "done", "failed", or "running" on EMR Serverless; None if there is
    nothing to do.

    Raises errors.Busy while another attempt holds the lease, and the error that interrupted the work."""
    # Files of attempts that were killed, for example by a timeout or for lack of memory.
    scratch.clear()
    claim = store.runs.claim(run_id, LEASE)
    if claim is None:
        return None
    try:
        with Scratch("run-") as folder, _Heartbeat(claim) as heartbeat:
            attempt = _Attempt(claim, store, Path(folder), heartbeat, remaining_seconds)
            return attempt.poll(claim.submitted) if claim.submitted else attempt.begin()
    except (BadInput, ValidationError) as refusal:
        store.runs.fail(claim, _reason(refusal))
        return "failed"
    except Superseded:
        return None
    except Exception as error:
        store.runs.interrupt(claim, f"Interrupted ({type(error).__name__})")
        raise


def _reason(refusal: BadInput | ValidationError) -> str:
    if isinstance(refusal, BadInput):
        return str(refusal)
    errors = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in refusal.errors()[:5]]
    return f"The settings are not valid: {'; '.join(errors)}"


class _Heartbeat:
    """Renews the lease and stores the progress while an attempt works, on a connection of its own."""

    def __init__(self, claim: RunAttempt) -> None:
        self._claim = claim
        self._store = Store(Database(environment()))
        self._stage = SPARK if claim.submitted else "begin"
        self._engine: str | None = None
        self._changed, self._stopped = threading.Event(), False
        self.lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._changed.set()
        self._thread.join()
        self._store.close()

    def stage(self, name: str, engine: str | None = None) -> None:
        """Stores that a stage begins. Raises Superseded if another attempt took over."""
        if self.lost:
            raise Superseded
        self._stage, self._engine = name, engine or self._engine
        self._changed.set()

    def _beat(self) -> None:
        while not self._stopped:
            try:
                self._store.runs.progress(self._claim, self._stage, STAGES.get(self._stage, 0.0), self._engine)
            except Superseded:
                self.lost = True
                return
            except Unavailable:
                pass
            self._changed.wait(LEASE / 4)
            self._changed.clear()


@dataclass(frozen=True)
class _Attempt:
    """One attempt at a run, with a folder for its files."""

    claim: RunAttempt
    store: Store
    folder: Path
    heartbeat: _Heartbeat
    remaining_seconds: Callable[[], float]

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def begin(self) -> str:
        """Does the whole run, or submits it to EMR Serverless. Returns the status."""
        settings, model = self._settings()
        snapshot = self._read_out()
        first_id = self.store.runs.reserve_entity_ids(snapshot.records)
        decisions: list[Mapping[str, Any]] = [
            {"records": [a, b], "decision": verdict} for a, b, verdict in snapshot.decisions
        ]
        if snapshot.records >= environment().engine_threshold:
            return self._on_spark(settings, model, snapshot, decisions, first_id)
        self.heartbeat.stage("read", "duckdb")
        previous = self.folder / PREVIOUS
        with DuckDB(memory=environment().match_memory) as engine:
            match(
                engine,
                str(self.folder / RECORDS),
                str(self.output),
                settings,
                decisions=Decisions.of(decisions),
                previous=str(previous) if previous.exists() else None,
                model=model,
                terms=str(self.folder / TERMS) if model else None,
                first_id=first_id,
                report=self.heartbeat.stage,
            )
        return self._finish(snapshot)

    def poll(self, submitted: Mapping[str, Any]) -> str:
        """Looks at a run that was submitted to EMR Serverless, and loads the result if it has ended. Returns the
        status."""
        over, reason = spark.ended(submitted["run"])
        if not over:
            return self._leave_submitted(submitted)
        if reason:
            storage.remove(submitted["storage"])
            raise BadInput(f"Spark: {reason}")
        storage.download(f"{submitted['storage']}/output", self.output)
        status = self._finish(Snapshot(**submitted["snapshot"]))
        storage.remove(submitted["storage"])
        return status

    def _settings(self) -> tuple[Settings, Model | None]:
        """The settings of the run. And, if it takes the model version of another run, that version, of which the term
        frequencies become a file. Raises BadInput."""
        if self.claim.model_of is None:
            return Settings.over(self.claim.asked), None
        terms = (self.folder / TERMS).with_suffix(".csv")
        with terms.open("wb+") as stream:
            try:
                settings, model = self.store.runs.version(self.claim.model_of, stream)
            except LookupError as gone:
                raise BadInput(str(gone)) from gone
        _convert_to_parquet(terms, "columns = {'field': 'VARCHAR', 'value': 'VARCHAR', 'records': 'BIGINT'}")
        return Settings.model_validate(settings), Model.of(model)

    def _read_out(self) -> Snapshot:
        """Exports the records, and the entities of the active run, as Parquet files."""
        records, previous = self.folder / "records.csv", self.folder / "previous.csv"
        with records.open("wb+") as all_records, previous.open("wb+") as entities:
            snapshot = self.store.runs.read_records(all_records, entities)
        if not snapshot.records:
            raise BadInput("There are no records")
        _convert_to_parquet(records, "all_varchar = true")
        _convert_to_parquet(previous, "columns = {'record_id': 'BIGINT', 'entity_id': 'BIGINT'}")
        records.unlink()
        return snapshot

    def _on_spark(
        self,
        settings: Settings,
        model: Model | None,
        snapshot: Snapshot,
        decisions: list[Mapping[str, Any]],
        first_id: int,
    ) -> str:
        self.heartbeat.stage(SPARK, SPARK)
        if not spark_jobs.available():
            raise BadInput(
                f"{snapshot.records} records are matched by Spark, from {environment().engine_threshold} records on: "
                "deploy the stack with CreateBatch=true, or with a larger EngineThreshold"
            )
        attempt = f"{self.claim.id}-{self.claim.attempt}"
        location = bucket.s3_url(f"jobs/match/{attempt}")
        arguments = self._upload_input(location, settings, model, decisions, first_id)
        if environment().batch_application:
            outside = spark.submit(MODULE, f"match-{attempt}", arguments, jars=[JAR])
            return self._leave_submitted(
                {"run": outside, "storage": location, "snapshot": asdict(replace(snapshot, decisions=()))}
            )
        try:
            reason = spark_jobs.run_locally(MODULE, arguments, self.remaining_seconds())
            if reason:
                raise BadInput(f"Spark: {reason}")
            storage.download(f"{location}/output", self.output)
        finally:
            storage.remove(location)
        return self._finish(snapshot)

    def _upload_input(
        self,
        location: str,
        settings: Settings,
        model: Model | None,
        decisions: list[Mapping[str, Any]],
        first_id: int,
    ) -> list[str]:
        """Uploads the input of a Spark job. Returns the job's arguments."""
        folder = self.folder / "input"
        folder.mkdir()
        (folder / "settings.json").write_text(settings.model_dump_json())
        (folder / "decisions.json").write_text("".join(f"{json.dumps(one)}\n" for one in decisions))
        arguments = [
            f"{location}/input/{RECORDS}",
            f"{location}/output",
            "--engine",
            SPARK,
            "--first-id",
            str(first_id),
        ]
        arguments += ["--settings", f"{location}/input/settings.json"]
        arguments += ["--decisions", f"{location}/input/decisions.json"]
        arguments += ["--memory", environment().match_memory]
        if model:
            (folder / MODEL).write_text(model.text())
            arguments += ["--model", f"{location}/input"]
        for name in (RECORDS, PREVIOUS, TERMS):
            if (self.folder / name).exists():
                (self.folder / name).rename(folder / name)
        if (folder / PREVIOUS).exists():
            arguments += ["--previous", f"{location}/input/{PREVIOUS}"]
        storage.upload(folder, f"{location}/input")
        return arguments

    def _leave_submitted(self, submitted: Mapping[str, Any]) -> str:
        """Ends this attempt while EMR Serverless works, and has the run delivered again."""
        self.store.runs.submitted(self.claim, submitted)
        tasks.enqueue(Task("run", self.claim.id), self.store, POLL_SECONDS)
        return "running"

    def _finish(self, snapshot: Snapshot) -> str:
        self.heartbeat.stage("load")
        _load(self.claim, self.store, self.output)
        self.heartbeat.stage("resolve")
        resolver.follow(self.store, self.claim.id, self.remaining_seconds)
        self.heartbeat.stage("resolve")
        self.store.runs.finish(self.claim, snapshot)
        wake()
        return "done"


def _convert_to_parquet(path: Path, options: str) -> None:
    """Makes a Parquet file beside a CSV file of the store; none if that is empty. `options`: of DuckDB's read_csv."""
    if path.stat().st_size:
        # The format in which PostgreSQL writes CSV, so that DuckDB detects nothing.
        options = (
            f"header = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', auto_detect = false, {options}"
        )
        if "columns" not in options:
            header = path.open(encoding="utf-8").readline().strip().split(",")
            options += ", columns = {" + ", ".join(f"'{name}': 'VARCHAR'" for name in header) + "}"
        with duckdb.connect() as database:
            database.execute(
                f"""COPY (SELECT * FROM read_csv('{path}', {options}))
                    TO '{path.with_suffix(".parquet")}' (FORMAT parquet)"""
            )


def _load(claim: RunAttempt, store: Store, output: Path) -> None:
    """Loads the output of a matching into the tables of the run."""
    settings, summary, model = (
        json.loads((output / f"{name}.json").read_text()) for name in ("settings", "run", "model")
    )
    members, edges = _parquet(output / "members.parquet"), _parquet(output / "edges.parquet")
    columns = ", ".join(MEMBER_COLUMNS)
    tables = {
        "members": f"SELECT {columns} FROM {members} ORDER BY record_id",
        "edges": f"{EDGE_ROWS} {edges} WHERE reason <> 'decision'",
        "review": f"{REVIEW_ROWS} {_parquet(output / 'review.parquet')}",
        "decisions": f"SELECT record_l, record_r, rule FROM {edges} WHERE reason = 'decision'",
        "terms": f"SELECT field, value, records FROM {_parquet(output / TERMS)}",
    }
    with duckdb.connect() as database:
        for name, query in tables.items():
            database.execute(f"COPY ({query}) TO '{output / name}.csv' {_CSV}")
        bars = database.sql(
            f"SELECT match_weight, pairs FROM {_parquet(output / 'histogram.parquet')} ORDER BY 1"
        ).fetchall()
        near = database.sql(
            f"""SELECT record_l, record_r, match_weight, match_probability FROM {_parquet(output / "review.parquet")}
                WHERE match_weight IS NOT NULL
                ORDER BY abs(match_weight - {settings["thresholds"]["match"]}), 1, 2 LIMIT {NEAR_THRESHOLD}"""
        ).fetchall()
    with ExitStack() as opened:
        files = [opened.enter_context((output / f"{name}.csv").open("rb")) for name in tables]
        store.runs.load(
            claim,
            Tables(*files),
            Results(
                settings=settings,
                model=model,
                engine=summary["engine"],
                pairs=summary["counts"].get("scored_pairs", 0),
                histogram=[{"weight": weight, "pairs": pairs} for weight, pairs in bars],
                near_threshold=[
                    dict(zip(("record_a", "record_b", "weight", "probability"), row, strict=True)) for row in near
                ],
            ),
        )


def _parquet(path: Path) -> str:
    """DuckDB's table function for a Parquet file, or for a folder of them, as Spark writes it."""
    return f"read_parquet('{path}/**/*.parquet')" if path.is_dir() else f"read_parquet('{path}')"
