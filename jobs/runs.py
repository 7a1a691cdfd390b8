"""One run of the matching on what the store has: the records are read out into files, matched, and what was found is
read in and put in force. It holds no more of them than the engine does.

Every delivery of an event may be the first, a repeat, or one of several at the same moment, and the function may die
anywhere: until the last transaction the run before it stays in force."""

import json
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import duckdb
from dedup.connection import Database, Unavailable
from dedup.match_settings import Settings
from dedup.settings import settings as environment
from dedup.store import Claim, Found, Store, Superseded
from dedup.store.entities import MEMBER_COLUMNS
from pydantic import ValidationError

from jobs.engines import ENGINES, BadInput
from jobs.match import Decisions, match

LEASE = 60.0
"""Seconds without a sign of life after which another attempt may start over."""

NEAR = 20
"""Pairs nearest to the threshold that are kept with a run."""

STAGES = {"read": 0.1, "rules": 0.2, "train": 0.25, "score": 0.4, "cluster": 0.6, "write": 0.75, "load": 0.8}
"""How far a run is when a stage begins."""

_CSV = "(FORMAT csv, HEADER)"


def run(run_id: int, store: Store) -> str | None:
    """Works on a run, unless that was done before: how it ended, "done" or "failed"; None for nothing to do.

    Raises store.Busy while another attempt is at it, and whatever keeps it from being done now."""
    claim = store.claim_run(run_id, LEASE)
    if claim is None:
        return None
    try:
        with _Heartbeat(claim) as heart, TemporaryDirectory(prefix="run-") as folder:
            _work(claim, store, Path(folder), heart)
        return "done"
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
        self._stage = "begin"
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


def _work(claim: Claim, store: Store, folder: Path, heart: _Heartbeat) -> None:
    settings = Settings.over(claim.asked)
    records, former, found = folder / "records.csv", folder / "former.csv", folder / "found"
    with records.open("wb+") as all_of_them, former.open("wb+") as entities:
        reading = store.read_out(all_of_them, entities)
    if not reading.records:
        raise BadInput("There are no records")
    _parquet(records, "all_varchar = true")
    _parquet(former, "columns = {'record_id': 'BIGINT', 'entity_id': 'BIGINT'}")
    records.unlink()
    name = "spark" if reading.records >= environment().engine_threshold else "duckdb"
    heart.stage("read", name)
    said: list[Mapping[str, Any]] = [{"records": [a, b], "decision": verdict} for a, b, verdict in reading.decisions]
    with ENGINES[name](memory=environment().match_memory) as engine:
        done = match(
            engine,
            str(folder / "records.parquet"),
            found,
            settings,
            decisions=Decisions.of(said),
            previous=str(folder / "former.parquet") if (folder / "former.parquet").exists() else None,
            first_id=store.reserve_ids(reading.records),
            report=heart.stage,
        )
    heart.stage("load")
    _load(claim, store, found, settings, done.summary())
    heart.stage("load")
    store.put_in_force(claim, reading)


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


def _load(claim: Claim, store: Store, found: Path, settings: Settings, summary: dict[str, Any]) -> None:
    members, edges = _files(found / "members.parquet"), _files(found / "edges.parquet")
    columns = ", ".join(MEMBER_COLUMNS)
    tables = {
        "members": f"SELECT {columns} FROM {members} ORDER BY record_id",
        # Those that say nothing of an entity are not kept: most scored pairs are two people.
        "edges": f"""SELECT e.record_l, e.record_r, e.rule, e.match_weight, e.match_probability, e.waterfall, e.joins
            FROM {edges} e JOIN {members} l ON l.record_id = e.record_l JOIN {members} r ON r.record_id = e.record_r
            WHERE e.reason <> 'decision' AND (e.joins OR l.entity_id = r.entity_id)""",
        "review": f"""SELECT record_l, record_r, match_weight, match_probability, waterfall, guard, uncertainty
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
                ORDER BY abs(match_weight - {settings.thresholds.match}), 1, 2 LIMIT {NEAR}"""
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
                settings=json.loads((found / "settings.json").read_text()),
                model=json.loads((found / "model.json").read_text()),
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
