"""The runs of the matching, and what they found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from math import inf
from typing import Any, BinaryIO

from pg8000.native import Connection

from dedup.errors import Busy, Superseded
from dedup.matching import normalise
from dedup.store import decisions, entities
from dedup.store.base import TIMES, UNKNOWN, Base, bigints, compact, text
from dedup.store.entities import ALONE, MEMBER_COLUMNS, Tables, active_run, require_active_run, stands
from dedup.store.records import record_text, state_of
from dedup.store.task_table import SEEN, TRIES, TaskTable, done, failed

KEPT = 5
"""Runs whose tables are kept, the active one among them: so far back can they be compared."""

CHANGES = 100
"""Entities of each kind that a comparison of two runs shows."""

SHOWN = 500
"""Records that are shown of an entity: those that stand for themselves, then the latest. Every night's copy of a
customer is one more, and an answer has 6 MB."""

SHOWN_EDGES = 2_000
"""Edges that are shown between these: those that join first."""

PAGE_RECORDS = 20_000
"""Records that are read for a page of entities, which ends earlier where it would need more."""

_TASKS = TaskTable("match_run", action="match", elsewhere="lease_until IS NULL", attempts="attempt - polls")
"""A run that was submitted over has no lease, but while somebody looks how it is, which is no attempt."""
OUTBOX = _TASKS.outbox("run", followed=True)

_LATE = "15 minutes"
"""When an upload finished, or a decision was made or went over, is written before its commit, by this at most: no
function lives longer."""


@dataclass(frozen=True)
class Claim:
    """One attempt at one run."""

    run: int
    attempt: int
    lease: float
    """Seconds that an attempt may be silent before another may start over."""
    asked: Mapping[str, Any]
    """The settings that were asked for, over the defaults."""
    submitted: Mapping[str, Any] | None = None
    """Where EMR Serverless works on it: what was noted when it was submitted over."""

    @property
    def current(self) -> str:
        """The condition in SQL that this attempt still is the one that works."""
        return f"id = {self.run} AND attempt = {self.attempt} AND status = 'running'"


@dataclass(frozen=True)
class Reading:
    """The state of the records that a run is about: when it was, in the database's time, what had taken records away
    before it, how many records there were, and what people had said and not taken back: pairs of records and the
    verdict, the latest last."""

    at: str
    removals: int
    records: int
    decisions: Sequence[tuple[int, int, str]]


@dataclass(frozen=True)
class Found:
    """What a run found, as it is kept with it."""

    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    engine: str
    pairs: int
    histogram: Sequence[Mapping[str, Any]]
    near_threshold: Sequence[Mapping[str, Any]]


class Matching(Base):
    """Runs and entities of one database."""

    # Runs

    def expect_run(
        self, asked: Mapping[str, Any], key: str | None, digest: str, principal: str = UNKNOWN
    ) -> tuple[int, str]:
        """Notes a run that waits to begin; its id and status: of the first one where the key came before. Raises
        KeyReused."""
        return self._database.write(
            lambda connection: _TASKS.expect(connection, {"asked": json.dumps(asked)}, key, digest, principal),
            repeatable=key is not None,
        )

    def claim_run(self, run: int, lease: float) -> Claim | None:
        """Begins to work on a run; None where it was finished or given up before, or there is none. Raises Busy while
        another attempt is at it."""

        def work(connection: Connection) -> Claim | None:
            rows = connection.run(
                f"""UPDATE match_run SET status = 'running', attempt = attempt + 1, reason = NULL,
                        started_at = CASE WHEN submitted IS NULL THEN now() ELSE started_at END,
                        progress = CASE WHEN submitted IS NULL THEN 0 ELSE progress END,
                        stage = CASE WHEN submitted IS NULL THEN 'begin' ELSE stage END,
                        lease_until = now() + interval '{lease} s', {SEEN}
                    WHERE id = {run} AND {_TASKS.more} AND (status = 'waiting'
                        OR status = 'running' AND (lease_until < now() OR lease_until IS NULL))
                    RETURNING attempt, asked::text, submitted::text"""
            )
            if rows:
                [[attempt, asked, submitted]] = rows
                # What another attempt left behind.
                Tables(run).drop(connection)
                if not submitted:
                    decisions.follow(connection)
                return Claim(run, attempt, lease, json.loads(asked), submitted and json.loads(submitted))
            busy = connection.run(
                f"SELECT FROM match_run WHERE id = {run} AND status = 'running' AND lease_until >= now()"
            )
            if busy:
                raise Busy
            return None

        return self._database.write(work, repeatable=True)

    def progress(self, claim: Claim, stage: str, progress: float, engine: str | None = None) -> None:
        """Says how far the run is, from 0 to 1, and renews its lease. Raises Superseded."""

        def work(connection: Connection) -> None:
            rows = connection.run(
                f"""UPDATE match_run SET stage = {text(stage)}, progress = {progress},
                        engine = coalesce({text(engine)}, engine),
                        lease_until = now() + interval '{claim.lease} s' WHERE {claim.current} RETURNING id"""
            )
            if not rows:
                raise Superseded

        self._database.write(work, repeatable=True)

    def note_submitted(self, claim: Claim, submitted: Mapping[str, Any]) -> None:
        """Ends the attempt, and leaves the run to EMR Serverless, until somebody claims it to see how it is. Raises
        Superseded."""

        def work(connection: Connection) -> None:
            rows = connection.run(
                f"""UPDATE match_run SET submitted = {_jsonb(submitted)}, attempt = attempt + 1, polls = attempt + 1,
                        lease_until = NULL, {SEEN} WHERE {claim.current} RETURNING id"""
            )
            if not rows:
                raise Superseded

        self._database.write(work, repeatable=False)

    def fail_run(self, claim: Claim, reason: str) -> None:
        """Ends the run for a reason that its caller can understand; the last one stays active."""
        self._end_run(claim, failed(reason))

    def interrupt_run(self, claim: Claim, reason: str) -> None:
        """Gives the run back, to be begun again by the next delivery; after the last attempt it failed."""
        self._end_run(claim, _TASKS.interrupted(reason))

    def _end_run(self, claim: Claim, changes: str) -> None:
        def work(connection: Connection) -> None:
            rows = connection.run(f"UPDATE match_run SET {changes} WHERE {claim.current} RETURNING id")
            if rows:
                Tables(claim.run).drop(connection)

        self._database.write(work, repeatable=True)

    def read_out(self, records: BinaryIO, former: BinaryIO) -> Reading:
        """Writes all records as CSV, in batches that the database makes, and the entities that they have in the run in
        force (record_id, entity_id), both of one state; which state that was, and what had been said in it."""
        fields = ", ".join(f"r.{field}" for field in ("customer_id", *normalise.FIELDS))

        def work(connection: Connection) -> Reading:
            for stream in (records, former):
                stream.seek(0)
                stream.truncate()
            [[at, removals]] = connection.run("SELECT now()::text, removals FROM match_state")
            connection.run(
                f"""COPY (SELECT r.id, s.name AS source, {fields} FROM record r JOIN source s ON s.bit = r.source)
                    TO STDOUT WITH (FORMAT csv, HEADER)""",
                stream=records,
            )
            count = connection.row_count
            tables = active_run(connection)
            if tables:
                connection.run(
                    f"COPY (SELECT record_id, entity_id FROM {tables.member}) TO STDOUT WITH (FORMAT csv, HEADER)",
                    stream=former,
                )
            said = connection.run(
                """SELECT p.record_a, p.record_b, d.verdict FROM decision_pair p
                   JOIN decision d ON d.id = p.decision_id ORDER BY d.id"""
            )
            return Reading(at, removals, count, [(a, b, verdict) for a, b, verdict in said])

        return self._database.read(work)

    def reserve_ids(self, count: int) -> int:
        """The first of so many entity ids that nobody else gets."""

        def work(connection: Connection) -> int:
            connection.run(f"SELECT {ALONE}")
            [[first]] = connection.run("SELECT nextval('entity_id')")
            connection.run(f"SELECT setval('entity_id', {first + count})")
            return int(first)

        return self._database.write(work, repeatable=True)

    def load_run(
        self, claim: Claim, members: BinaryIO, edges: BinaryIO, review: BinaryIO, terms: BinaryIO, found: Found
    ) -> None:
        """Fills the run's tables from CSV with headers, in the order of their columns; `source` of the members is a
        source's name. Nobody sees them yet. Raises Superseded."""

        def work(connection: Connection) -> None:
            self._require(connection, claim)
            tables = Tables(claim.run)
            tables.create(connection)
            for stream in (members, edges, review, terms):
                stream.seek(0)
            for table, stream in ((tables.edge, edges), (tables.review, review), (tables.term, terms)):
                connection.run(f"COPY {table} FROM STDIN WITH (FORMAT csv, HEADER)", stream=stream)
            connection.run(f"CREATE TEMP TABLE came (LIKE {tables.member}) ON COMMIT DROP")
            connection.run("ALTER TABLE came ALTER COLUMN source TYPE text")
            connection.run("COPY came FROM STDIN WITH (FORMAT csv, HEADER)", stream=members)
            columns = ", ".join(f"came.{c}" for c in MEMBER_COLUMNS if c != "source")
            names = ", ".join(c for c in MEMBER_COLUMNS if c != "source")
            connection.run(
                f"""INSERT INTO {tables.member} ({names}, source)
                    SELECT {columns}, s.bit FROM came JOIN source s ON s.name = came.source"""
            )
            tables.index(connection, found.settings)
            entities.count_all(connection, tables)
            self._keep(
                connection,
                claim,
                f"""settings = {_jsonb(found.settings)}, model = {_jsonb(found.model)},
                    engine = {text(found.engine)}, pairs = {found.pairs}, histogram = {_jsonb(found.histogram)},
                    near_threshold = {_jsonb(found.near_threshold)}""",
            )

        self._database.write(work, repeatable=True)

    def activate(self, claim: Claim, reading: Reading) -> None:
        """Makes the run's entities, with what came and went since it read the records, those that are asked about,
        unless those of a run that began later are. Until the commit, uploads wait at their end; what changed is caught
        up with before, but for the last of it. Raises Superseded."""
        tables = Tables(claim.run)
        read = f"{text(reading.at)}::timestamptz"
        since = f"""r.upload_id = ANY (ARRAY(SELECT u.id FROM upload u
            WHERE u.status IN ('done', 'deleting') AND u.finished_at > {read} - interval '{_LATE}'))"""

        def work(connection: Connection, alone: bool) -> None:
            self._require(connection, claim)
            [[removals]] = connection.run("SELECT removals FROM match_state")
            entities.catch_up(connection, tables, since, removed=removals != reading.removals)
            if not alone:
                return
            self._decide_again(connection, tables, reading)
            connection.run(
                f"""UPDATE match_state SET active_run = {claim.run} WHERE NOT EXISTS (
                        SELECT FROM match_run r WHERE r.id = active_run AND r.started_at > {read})"""
            )
            changes = f"""progress = 1, stage = NULL, kept = true, records = (SELECT count(*) FROM {tables.member}),
                entities = (SELECT count(*) FROM {tables.counted.table})"""
            self._keep(connection, claim, done(changes))

        def in_turn(connection: Connection) -> None:
            connection.run(f"SELECT {ALONE}")
            work(connection, alone=True)

        self._database.write(lambda connection: work(connection, alone=False), repeatable=True)
        self._database.write(in_turn, repeatable=True)
        self.sweep()

    def _decide_again(self, connection: Connection, tables: Tables, reading: Reading) -> None:
        """What was said, taken back, or went over to other records while the run worked holds in it too."""
        rows = connection.run(
            f"""SELECT DISTINCT unnest(record_ids) FROM decision WHERE greatest(created_at, revoked_at, followed_at)
                > {text(reading.at)}::timestamptz - interval '{_LATE}'"""
        )
        if rows:
            decisions.resolve_again(connection, tables, [record for [record] in rows], active_run(connection))

    def sweep(self) -> None:
        """Drops tables that nobody needs any more, those of old runs and of such as died too."""
        super().sweep()

        def work(connection: Connection) -> None:
            connection.run(
                f"""UPDATE match_run SET kept = false WHERE kept AND id NOT IN (
                        SELECT id FROM match_run WHERE kept ORDER BY finished_at DESC LIMIT {KEPT}
                    ) AND id <> coalesce((SELECT active_run FROM match_state), 0)"""
            )
            entities.sweep(connection)

        self._database.write(work, repeatable=True)

    @staticmethod
    def _require(connection: Connection, claim: Claim) -> None:
        if not connection.run(f"SELECT FROM match_run WHERE {claim.current}"):
            raise Superseded

    @staticmethod
    def _keep(connection: Connection, claim: Claim, changes: str) -> None:
        """The last thing in a transaction: until then the lease can be renewed, and an attempt that lost it meanwhile
        writes nothing."""
        if not connection.run(f"UPDATE match_run SET {changes} WHERE {claim.current} RETURNING id"):
            raise Superseded

    def runs(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The runs, the newest first, from below id `before`."""
        return self._runs("true" if before is None else f"id < {before}", limit)

    def run(self, run: int) -> dict[str, Any] | None:
        """One run; None where there is none of that id."""
        found = self._runs(f"id = {run}", 1)
        return found[0] if found else None

    def _runs(self, condition: str, limit: int) -> list[dict[str, Any]]:
        query = f"""
            SELECT row_to_json(r)::text FROM (
                SELECT id, {_TASKS.status} AS status,
                    CASE WHEN status = 'running' AND ({_TASKS.status}) = 'failed'
                        THEN 'It was interrupted {TRIES} times' ELSE reason END AS reason,
                    engine, progress, stage,
                    id = coalesce((SELECT active_run FROM match_state), 0) AS active, records, pairs, entities, model,
                    coalesce(histogram, '[]') AS histogram, coalesce(near_threshold, '[]') AS near_threshold,
                    {TIMES}
                FROM match_run WHERE {condition} ORDER BY id DESC LIMIT {limit}) AS r"""
        return [json.loads(row) for [row] in self._database.read(lambda connection: connection.run(query))]

    def run_changes(self, run: int, since: int) -> dict[str, Any] | None:
        """What came together and what came apart between two runs, of the records that both know: entities of the one
        whose records had several in the other. None where the tables of either are gone."""

        def work(connection: Connection) -> dict[str, Any] | None:
            if len(connection.run(f"SELECT FROM match_run WHERE id IN ({run}, {since}) AND kept")) != len({run, since}):
                return None
            new, old = Tables(run), Tables(since)
            together, together_count = _parted(connection, new, old)
            apart, apart_count = _parted(connection, old, new)
            return {
                "merged": together,
                "split": apart,
                "merged_count": together_count,
                "split_count": apart_count,
            }

        return self._database.read(work)

    # Entities

    def entities(
        self,
        choose: Callable[[Mapping[frozenset[str], int]], Any],
        after: int | None,
        limit: int,
        min_records: int,
    ) -> tuple[list[dict[str, Any]], bool, Mapping[str, Any]]:
        """A page of the active run: entities in the regions that `choose` names, with so many records at least, in
        id order, each with its number of records and SHOWN of them; whether more follow; and the run's settings.
        Raises NoRun."""

        def work(connection: Connection) -> tuple[list[dict[str, Any]], bool, Mapping[str, Any]]:
            tables = require_active_run(connection)
            state = state_of(connection, "entity")
            chosen = choose(state.regions)
            settings = entities.settings_of(connection, tables)
            if not chosen:
                return [], False, settings
            masks = ", ".join(str(state.masks[region]) for region in chosen)
            inside = "true" if len(chosen) == len(state.regions) else f"sources IN ({masks})"
            several = f"AND records > 1 AND records >= {min_records}" if min_records > 1 else ""
            counts = connection.run(
                f"""SELECT entity_id, records FROM {tables.counted.table}
                    WHERE {inside} {several} AND entity_id > {after or 0} ORDER BY entity_id LIMIT {limit + 1}"""
            )
            shown = _page(dict(counts[:limit]))
            records = _records_of(connection, tables, list(shown))
            page = [
                {"id": entity, "total_records": count, "records": records.get(entity, [])}
                for entity, count in shown.items()
            ]
            return page, len(counts) > len(shown), settings

        return self._database.read(work)

    def entity(self, entity_id: int) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
        """One entity of the active run: its number of records, SHOWN of them, the edges between these, and the
        decisions about them; and the run's settings. None where there is none of that id. Raises NoRun."""

        def work(connection: Connection) -> tuple[dict[str, Any], Mapping[str, Any]] | None:
            tables = require_active_run(connection)
            records = _records_of(connection, tables, [entity_id]).get(entity_id)
            if not records:
                return None
            ids = bigints(record["id"] for record in records)
            edges = connection.run(
                f"""SELECT record_a, record_b, rule, weight, probability, waterfall FROM (
                        SELECT * FROM {tables.edge} WHERE record_a = ANY ({ids}) AND record_b = ANY ({ids})
                        ORDER BY joins DESC, record_a, record_b LIMIT {SHOWN_EDGES}
                    ) AS e ORDER BY 1, 2, rule NULLS LAST"""
            )
            said = decisions.said(connection, f"record_ids && {ids}", 1_000)
            [[total]] = connection.run(f"SELECT records FROM {tables.counted.table} WHERE entity_id = {entity_id}")
            found = {
                "id": entity_id,
                "total_records": total,
                "records": records,
                "edges": _edges(edges),
                "decisions": said,
            }
            return found, entities.settings_of(connection, tables)

        return self._database.read(work)

    def entities_of(self, record_ids: Sequence[int]) -> dict[int, int]:
        """The entity of each record in the active run, of those that it knows. Raises NoRun."""
        return self._database.read(
            lambda connection: entities.entities_of(connection, require_active_run(connection), record_ids)
        )

    def is_matched(self) -> bool:
        """Whether a run is active, so that uploads are matched."""
        return self._database.read(active_run) is not None

    def active_run(self) -> int:
        """The run whose entities are asked about. Raises NoRun."""
        return self._database.read(lambda connection: require_active_run(connection).run)

    def scoring(self, run: int) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
        """A run's settings and model, and how many records it was about."""

        def work(connection: Connection) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
            [[settings, model, records]] = connection.run(
                f"SELECT settings::text, model::text, records FROM match_run WHERE id = {run}"
            )
            return json.loads(settings), json.loads(model), records

        return self._database.read(work)

    def candidates(
        self,
        run: int,
        form: Mapping[str, Any],
        keys: Sequence[Sequence[str]],
        terms: Sequence[str],
        most: int,
        most_in_all: int,
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str | None, int]]]:
        """Members of a run that share a key with a normalised record, one of those that say the same, at most so many
        of each key, and in all those of the first keys: their comparable forms, `source` by its name. And for each
        column of `terms` how many records have the record's value (by it, where several do) and how many have any (by
        None)."""
        tables = Tables(run)
        said = ", ".join(normalise.SAID)
        scans = [
            f"""(SELECT DISTINCT ON ({said}) m.* FROM (
                    SELECT * FROM {tables.member} m
                    WHERE {" AND ".join(f"m.{c} = {_sought(c, form[c])}" for c in key)} AND {entities.stands("m")}
                    LIMIT {entities.ALIKE}
                ) AS m ORDER BY {said}, record_id LIMIT {most})"""
            for key in keys
            if all(form.get(column) is not None for column in key)
        ]
        asked = " OR ".join(
            ["false", *(f"field = {text(t)} AND (value IS NULL OR value = {text(form.get(t) or '')})" for t in terms)]
        )

        def work(connection: Connection) -> tuple[list[dict[str, Any]], dict[str, dict[str | None, int]]]:
            columns = ", ".join("s.name" if c == "source" else f"m.{c}" for c in MEMBER_COLUMNS)
            found = f"SELECT * FROM ({' UNION ALL '.join(scans)}) AS m LIMIT {most_in_all}"
            query = f"SELECT DISTINCT ON (m.record_id) {columns} FROM ({found}) AS m JOIN source s ON s.bit = m.source"
            rows = connection.run(query) if scans else []
            shares: dict[str, dict[str | None, int]] = {}
            for field, value, records in connection.run(
                f"SELECT field, value, records FROM {tables.term} WHERE {asked}"
            ):
                shares.setdefault(field, {})[value] = records
            return [dict(zip(MEMBER_COLUMNS, row, strict=True)) for row in rows], shares

        return self._database.read(work)

    def records_of(self, entity_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """Records of entities of the active run, SHOWN of each at most, in id order."""
        return self._database.read(
            lambda connection: _records_of(connection, require_active_run(connection), entity_ids)
        )

    # Review

    def review(self, limit: int) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
        """The pairs that a person should look at, the most uncertain first, of which nobody has spoken: those of the
        active run whose records are there; and the run's settings. Raises NoRun."""

        def work(connection: Connection) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
            tables = require_active_run(connection)
            rows = connection.run(
                f"""SELECT v.record_a, v.record_b, v.weight, v.probability, v.waterfall, v.constraint_name
                    FROM {tables.review} v
                    WHERE NOT EXISTS (SELECT FROM decision_pair p
                                      WHERE p.record_a = v.record_a AND p.record_b = v.record_b)
                    ORDER BY uncertainty DESC, record_a, record_b LIMIT {limit}"""
            )
            ids = sorted({record for row in rows for record in row[:2]})
            records = _records(connection, ids)
            pairs = [
                {
                    "record_a": records[a],
                    "record_b": records[b],
                    "weight": weight,
                    "probability": probability,
                    "constraint_name": constraint_name,
                    "waterfall": waterfall,
                }
                for a, b, weight, probability, waterfall, constraint_name in rows
                if a in records and b in records
            ]
            return pairs, entities.settings_of(connection, tables)

        return self._database.read(work)

    def drain(self, batches: float = inf) -> None:
        """Folds in what is pending, and matches the records that are: all of it, or so many batches."""
        super().drain(batches)
        while batches > 0 and self._database.write(decisions.attach_pending, repeatable=True):
            batches -= 1

    def compact(self) -> None:
        """Replaces the changes of each region by their sum, those of the active run too."""
        super().compact()

        def work(connection: Connection) -> None:
            if tables := active_run(connection):
                compact(connection, tables.counted)

        self._database.write(work, repeatable=True)


def _jsonb(value: Any) -> str:
    return f"{text(json.dumps(value))}::jsonb"


def _sought(column: str, value: str | int) -> str:
    known = str(value) if isinstance(value, int) else text(value)
    return f"(SELECT bit FROM source WHERE name = {known})" if column == "source" else known


def _parted(connection: Connection, whole: Tables, parts: Tables) -> tuple[list[dict[str, Any]], int]:
    """Entities of the run `whole` whose records have several entities in `parts`: the first CHANGES, and how many there
    are."""
    found = connection.run(
        f"""SELECT w.entity_id, count(*) OVER () FROM {whole.counted.table} k
            JOIN {whole.member} w USING (entity_id) JOIN {parts.member} p USING (record_id)
            WHERE k.records > 1
            GROUP BY w.entity_id HAVING min(p.entity_id) <> max(p.entity_id) ORDER BY w.entity_id LIMIT {CHANGES}"""
    )
    rows = connection.run(
        f"""SELECT w.entity_id, (array_agg(w.record_id ORDER BY w.record_id))[:{SHOWN}]
            FROM {whole.member} w JOIN {parts.member} p USING (record_id)
            WHERE w.entity_id = ANY ({bigints(entity for entity, _ in found)})
            GROUP BY w.entity_id ORDER BY w.entity_id"""
    )
    return [{"entity_id": entity, "record_ids": records} for entity, records in rows], found[0][1] if found else 0


def _records(connection: Connection, record_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    chosen = f"SELECT * FROM record WHERE id = ANY ({bigints(record_ids)})"
    return {record: json.loads(line) for record, line in connection.run(record_text(chosen))}


def _page(counts: Mapping[int, int]) -> dict[int, int]:
    """The first entities, of some with their number of records, that PAGE_RECORDS allow: one at least."""
    read = accumulate(min(SHOWN, count) for count in counts.values())
    page = list(takewhile(lambda so_far: so_far <= PAGE_RECORDS, read))
    return dict(list(counts.items())[: max(1, len(page))])


def _records_of(connection: Connection, tables: Tables, entity_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    members = connection.run(
        f"""SELECT m.record_id, m.entity_id FROM unnest({bigints(entity_ids)}) AS e (entity_id) CROSS JOIN LATERAL (
                SELECT record_id, entity_id FROM {tables.member} m WHERE m.entity_id = e.entity_id
                ORDER BY {stands("m")} DESC, record_id DESC LIMIT {SHOWN}
            ) AS m ORDER BY m.record_id"""
    )
    records = _records(connection, [record for record, _ in members])
    found: dict[int, list[dict[str, Any]]] = {}
    for record, entity in members:
        if record in records:
            found.setdefault(entity, []).append(records[record])
    return found


def _edges(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    names = ("record_a", "record_b", "rule", "weight", "probability", "waterfall")
    return [dict(zip(names, row, strict=True)) for row in rows]
