"""One run of the matching on what the store has: the records are read out into files, matched, and what was found is
read in and activated. It holds no more of them than the engine does.

Many records are matched by Spark, which has them from the bucket and writes there what it found: on this machine in a
process of its own, or on EMR Serverless, which goes on when the function has ended. Then the queue is told to send the
run again, to see how it is.

Every delivery of an event may be the first, a repeat, or one of several at the same moment, and the function may die
anywhere: until the last transaction the run before it stays active."""

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
from dedup.settings import settings as environment
from dedup.store import Claim, Found, Reading, Store, Task
from dedup.store.connection import Database
from dedup.store.entities import MEMBER_COLUMNS
from pydantic import ValidationError

from jobs import BadInput, scratch, storage
from jobs.engines import DuckDB
from jobs.match import Decisions, match
from jobs.scratch import Scratch

LEASE = 60.0
"""Seconds without a sign of life after which another attempt may start over."""

NEAR = 20
"""Pairs nearest to the threshold that are kept with a run."""

LOOK_AGAIN = 60
"""Seconds after which a run on EMR Serverless is looked after again."""

SPARK = "spark"
JAR = "similarity.jar"
"""What Splink brings to Spark, where the code is."""

STAGES = {
    "read": 0.1,
    SPARK: 0.2,
    "rules": 0.2,
    "train": 0.25,
    "score": 0.4,
    "cluster": 0.6,
    "write": 0.75,
    "load": 0.8,
}
"""How far a run is when a stage begins."""

RECORDS, FORMER = "records.parquet", "former.parquet"
_CSV = "(FORMAT csv, HEADER)"


def run(run_id: int, store: Store, remaining_seconds: Callable[[], float] = lambda: 900.0) -> str | None:
    """Works on a run, unless that was done before: how it is now, "done", "failed" or "running" elsewhere; None for
    nothing to do.

    Raises errors.Busy while another attempt is at it, and whatever keeps it from being done now."""
    # A run that ran out of time, or memory, was killed, and its files may be here still.
    scratch.clear()
    claim = store.claim_run(run_id, LEASE)
    if claim is None:
        return None
    try:
        with Scratch("run-") as folder, _Heartbeat(claim) as heart:
            work = _Work(claim, store, Path(folder), heart, remaining_seconds)
            return work.look_after(claim.submitted) if claim.submitted else work.begin()
    except (BadInput, ValidationError) as refusal:
        store.fail_run(claim, _reason(refusal))
        return "failed"
    except Superseded:
        return None
    except Exception as error:
        store.interrupt_run(claim, f"Interrupted ({type(error).__name__})")
        raise


def _reason(refusal: BadInput | ValidationError) -> str:
    if isinstance(refusal, BadInput):
        return str(refusal)
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in refusal.errors()[:5]]
    return f"The settings are not valid: {'; '.join(faults)}"


class _Heartbeat:
    """Renews the run's lease while it works, on a connection of its own, and says how far it is."""

    def __init__(self, claim: Claim) -> None:
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
        """Notes that a stage begins. Raises Superseded where another attempt took over."""
        if self.lost:
            raise Superseded
        self._stage, self._engine = name, engine or self._engine
        self._changed.set()

    def _beat(self) -> None:
        while not self._stopped:
            try:
                self._store.progress(self._claim, self._stage, STAGES.get(self._stage, 0.0), self._engine)
            except Superseded:
                self.lost = True
                return
            except Unavailable:
                pass
            self._changed.wait(LEASE / 4)
            self._changed.clear()


@dataclass(frozen=True)
class _Work:
    """One attempt at a run, with a folder for its files."""

    claim: Claim
    store: Store
    folder: Path
    heart: _Heartbeat
    remaining_seconds: Callable[[], float]

    @property
    def found(self) -> Path:
        return self.folder / "found"

    def begin(self) -> str:
        """The whole run, or as far as it is done here."""
        settings = Settings.over(self.claim.asked)
        reading = self._read_out()
        first_id = self.store.reserve_ids(reading.records)
        said: list[Mapping[str, Any]] = [
            {"records": [a, b], "decision": verdict} for a, b, verdict in reading.decisions
        ]
        if reading.records >= environment().engine_threshold:
            return self._on_spark(settings, reading, said, first_id)
        self.heart.stage("read", "duckdb")
        former = self.folder / FORMER
        with DuckDB(memory=environment().match_memory) as engine:
            match(
                engine,
                str(self.folder / RECORDS),
                str(self.found),
                settings,
                decisions=Decisions.of(said),
                previous=str(former) if former.exists() else None,
                first_id=first_id,
                report=self.heart.stage,
            )
        return self._activate(reading)

    def look_after(self, submitted: Mapping[str, Any]) -> str:
        """What there is to do for a run that EMR Serverless works on."""
        over, reason = spark.ended(submitted["run"])
        if not over:
            return self._hand_over(submitted)
        if reason:
            storage.remove(submitted["place"])
            raise BadInput(f"Spark: {reason}")
        storage.fetch(f"{submitted['place']}/found", self.found)
        ended = self._activate(Reading(**submitted["reading"]))
        storage.remove(submitted["place"])
        return ended

    def _read_out(self) -> Reading:
        records, former = self.folder / "records.csv", self.folder / "former.csv"
        with records.open("wb+") as all_of_them, former.open("wb+") as entities:
            reading = self.store.read_out(all_of_them, entities)
        if not reading.records:
            raise BadInput("There are no records")
        _parquet(records, "all_varchar = true")
        _parquet(former, "columns = {'record_id': 'BIGINT', 'entity_id': 'BIGINT'}")
        records.unlink()
        return reading

    def _on_spark(self, settings: Settings, reading: Reading, said: list[Mapping[str, Any]], first_id: int) -> str:
        self.heart.stage(SPARK, SPARK)
        if not spark_jobs.available():
            raise BadInput(
                f"{reading.records} records are for Spark, from {environment().engine_threshold} on: deploy the stack "
                "with CreateBatch=true, or a larger EngineThreshold"
            )
        attempt = f"{self.claim.run}-{self.claim.attempt}"
        place = bucket.s3_url(f"jobs/match/{attempt}")
        given = self.folder / "given"
        given.mkdir()
        (given / "settings.json").write_text(settings.model_dump_json())
        (given / "decisions.json").write_text("".join(f"{json.dumps(one)}\n" for one in said))
        arguments = [f"{place}/given/{RECORDS}", f"{place}/found", "--engine", SPARK, "--first-id", str(first_id)]
        arguments += ["--settings", f"{place}/given/settings.json", "--decisions", f"{place}/given/decisions.json"]
        arguments += ["--memory", environment().match_memory]
        for name in (RECORDS, FORMER):
            if (self.folder / name).exists():
                (self.folder / name).rename(given / name)
        if (given / FORMER).exists():
            arguments += ["--previous", f"{place}/given/{FORMER}"]
        storage.send(given, f"{place}/given")
        if environment().batch_application:
            outside = spark.submit("match", f"match-{attempt}", arguments, jars=[JAR])
            return self._hand_over({"run": outside, "place": place, "reading": asdict(replace(reading, decisions=()))})
        try:
            reason = spark_jobs.run_locally("match", arguments, self.remaining_seconds())
            if reason:
                raise BadInput(f"Spark: {reason}")
            storage.fetch(f"{place}/found", self.found)
        finally:
            storage.remove(place)
        return self._activate(reading)

    def _hand_over(self, submitted: Mapping[str, Any]) -> str:
        self.store.note_submitted(self.claim, submitted)
        tasks.enqueue(Task("run", self.claim.run), self.store, LOOK_AGAIN)
        return "running"

    def _activate(self, reading: Reading) -> str:
        self.heart.stage("load")
        _load(self.claim, self.store, self.found)
        self.heart.stage("load")
        self.store.activate(self.claim, reading)
        return "done"


def _parquet(path: Path, how: str) -> None:
    if path.stat().st_size:
        # As PostgreSQL writes it: nothing is guessed.
        options = (
            f"header = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', auto_detect = false, {how}"
        )
        if "columns" not in how:
            header = path.open(encoding="utf-8").readline().strip().split(",")
            options += ", columns = {" + ", ".join(f"'{name}': 'VARCHAR'" for name in header) + "}"
        with duckdb.connect() as database:
            database.execute(
                f"COPY (SELECT * FROM read_csv('{path}', {options})) TO '{path.with_suffix('.parquet')}' (FORMAT parquet)"
            )


def _load(claim: Claim, store: Store, found: Path) -> None:
    settings, summary, model = (
        json.loads((found / f"{name}.json").read_text()) for name in ("settings", "run", "model")
    )
    # What decides about these records from now on is what decided in the run. One that Spark began before a deployment
    # may not say what it waived.
    settings["constraints"] |= {name: [] for name in summary.get("waived", ())}
    members, edges = _files(found / "members.parquet"), _files(found / "edges.parquet")
    columns = ", ".join(MEMBER_COLUMNS)
    tables = {
        "members": f"SELECT {columns} FROM {members} ORDER BY record_id",
        # Those that say nothing of an entity are not kept: most scored pairs are two people.
        "edges": f"""SELECT e.record_l, e.record_r, e.rule, e.match_weight, e.match_probability, e.waterfall, e.joins
            FROM {edges} e JOIN {members} l ON l.record_id = e.record_l JOIN {members} r ON r.record_id = e.record_r
            WHERE e.reason <> 'decision' AND (e.joins OR l.entity_id = r.entity_id)""",
        "review": f"""SELECT record_l, record_r, match_weight, match_probability, waterfall, constraint_name, uncertainty
            FROM {_files(found / "review.parquet")}""",
        "terms": f"SELECT field, value, records FROM {_files(found / 'terms.parquet')}",
    }
    with duckdb.connect() as database:
        for name, query in tables.items():
            database.execute(f"COPY ({query}) TO '{found / name}.csv' {_CSV}")
        bars = database.sql(
            f"SELECT match_weight, pairs FROM {_files(found / 'histogram.parquet')} ORDER BY 1"
        ).fetchall()
        near = database.sql(
            f"""SELECT record_l, record_r, match_weight, match_probability FROM {_files(found / "review.parquet")}
                WHERE match_weight IS NOT NULL
                ORDER BY abs(match_weight - {settings["thresholds"]["match"]}), 1, 2 LIMIT {NEAR}"""
        ).fetchall()
    with ExitStack() as opened:
        members_csv, edges_csv, review_csv, terms_csv = (
            opened.enter_context((found / f"{name}.csv").open("rb")) for name in tables
        )
        store.load_run(
            claim,
            members_csv,
            edges_csv,
            review_csv,
            terms_csv,
            Found(
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


def _files(path: Path) -> str:
    """DuckDB's name for a Parquet file, or for the folder of them that Spark writes."""
    return f"read_parquet('{path}/**/*.parquet')" if path.is_dir() else f"read_parquet('{path}')"
