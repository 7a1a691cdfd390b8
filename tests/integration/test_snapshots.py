"""Snapshots: only what differs is written, records keep their ids, and what cannot be undone is refused."""

import itertools
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dedup.customer_ids import CustomerId
from dedup.errors import NotUndoable
from dedup.matching import normalise
from dedup.matching.rules import conventions_of
from dedup.records import OPTIONAL
from dedup.store import Store, differences, maintenance, snapshots, suspicions
from dedup.store.load_attempt import Decision, Load
from dedup.store.load_effects import Outdated
from dedup.store.matching.run_tables import active_run, settings_of
from dedup.store.previews import Changed
from dedup.store.removal import Deleted, delete_records
from dedup.store.uploads import RecordChanges, Upload
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pg8000.native import Connection

from tests.conftest import api_event, connect, machine_settings
from tests.follower import Follower

MERGE = 7236836
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = ("hubspot", "internal")
NewStore = Callable[..., Store]

Content = tuple[Any, ...]
"""Name, email, and the optional fields of a record."""

_days = itertools.count()


def content(name: str | None = "Ann", email: str | None = "ann@example.com", **fields: Any) -> Content:
    return (name, email, *(fields.get(field) for field in OPTIONAL))


def staged(
    store: Store,
    rows: Sequence[tuple[CustomerId, str, Content]],
    mode: str = "replace",
    source: str | None = "hubspot",
    at: datetime | None = None,
    deleted: Sequence[bool] = (),
    key: str = "",
    *,
    dry_run: bool = False,
) -> Load:
    """A file whose rows wait to be loaded; newer than all before, if no time is given. `deleted`: which rows of an
    upsert are marked as deleted."""
    key = key or str(uuid.uuid4())
    at = at or EPOCH + timedelta(days=1000 + next(_days))
    load = store.loads.claim(key, f"incoming/{key}.csv", at, source, mode, lease=600, dry_run=dry_run)
    assert load
    values: list[Any] = [(who, name, email, of, *more) for who, of, (name, email, *more) in rows]
    known = OPTIONAL
    if any(deleted):
        known = (*OPTIONAL, "deleted")
        values = [(*row, "true" if mark else None) for row, mark in zip(values, deleted, strict=True)]
    # In two parts, as a large file comes.
    for part in (slice(len(values) // 2), slice(len(values) // 2, None)):
        store.loads.stage(load, values[part], len(values), 0, known=known)
    return load


def loaded(store: Store, *rows: tuple[CustomerId, Content], mode: str = "replace", source: str = "hubspot") -> Upload:
    load = staged(store, [(who, source, what) for who, what in rows], mode, source)
    store.loads.finish(load)
    upload = store.uploads.get(load.id)
    assert upload
    return upload


def query(store: Store, sql: str) -> Any:
    return store._database.read(lambda connection: connection.run(sql))


def ids(store: Store) -> list[int]:
    return [record for [record] in query(store, "SELECT id FROM record ORDER BY id")]


def matched(store: Store, **asked: Any) -> int:
    """An active run, by rules alone."""
    pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it")
    from jobs.matching import runs

    run, _ = store.runs.create({"methods": ["rules"]} | asked, None, "")
    assert runs.run(run, store) == "done", store.runs.get(run)
    return run


def resolve(store: Store) -> None:
    """As tests.resolving has it."""
    from tests import resolving

    resolving.resolve(store)


RULES = [{"name": "same_email", "equal": ["email"]}]
"""Unlike the default rules, these do not join all records of one customer."""

FIELDS: dict[str, Any] = {
    "name": "Anna",
    "email": "anna@example.com",
    "emails": ["ann@example.com", "a@example.com"],
    "phones": ["1", "2"],
    "modified_at": "2026-01-02T03:04:05Z",
    "attributes": {"plan": "gold"},
}


@pytest.mark.parametrize("field", ["name", "email", *OPTIONAL])
def test_change_of_any_field_updates_the_record_in_place(store: Store, field: str) -> None:
    changed = content(**{field: FIELDS.get(field, "1990-01-01")})
    first = loaded(store, (1, content()), ("a", content()))

    upload = loaded(store, (1, changed), ("a", content()))
    again = loaded(store, (1, changed), ("a", content()))
    back = loaded(store, (1, content()), ("a", content()))

    assert (first.records, upload.records) == (RecordChanges(2, 0, 0, 0), RecordChanges(0, 1, 0, 1))
    assert (again.records, back.records) == (RecordChanges(0, 0, 0, 2), RecordChanges(0, 1, 0, 1))
    rows = query(store, "SELECT id, upload_id, updated_at IS NULL FROM record ORDER BY id")
    assert rows == [[1, back.id, False], [2, first.id, True]]


def test_records_of_one_customer_are_paired_by_what_they_have_in_common(store: Store) -> None:
    ann, ben, mail = content("Ann", "ann@example.com"), content("Ben", "ben@example.com"), content(None, "x@y.org")
    loaded(store, (1, ann), (1, ben), (1, mail))

    upload = loaded(
        store,
        (1, content("Xenia", "x@y.org")),
        (1, content("Ben", "new@example.com")),
        (1, content("Ann", "ann@example.com", phone="1")),
        (1, ann),
    )

    assert upload.records == RecordChanges(1, 2, 0, 1)
    rows = query(store, "SELECT name FROM record ORDER BY id")
    assert [name for [name] in rows] == ["Ann", "Ben", "Xenia", "Ann"]


def test_duplicates_are_counted(store: Store) -> None:
    loaded(store, *[(1, content())] * 3)

    fewer = loaded(store, *[(1, content())] * 2)
    more = loaded(store, *[(1, content())] * 5)

    assert (fewer.records, more.records) == (RecordChanges(0, 0, 1, 2), RecordChanges(3, 0, 0, 2))
    assert ids(store)[:2] == [1, 2]
    assert fewer.customers == more.customers
    assert store.maintenance.verify().agreed


def test_unchanged_snapshot_writes_next_to_nothing(store: Store) -> None:
    def position() -> int:
        return int(query(store, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0][0])

    def written(rows: list[tuple[CustomerId, Content]]) -> int:
        load = staged(store, [(who, "hubspot", what) for who, what in rows])
        before = position()
        store.loads.finish(load)
        return position() - before

    rows: list[tuple[CustomerId, Content]] = [(n, content(f"Name {n}", f"n{n}@example.com")) for n in range(20_000)]
    first = written(rows)
    versions = query(store, "SELECT xmin::text, count(*) FROM record GROUP BY 1")

    unchanged = written(rows)
    assert query(store, "SELECT xmin::text, count(*) FROM record GROUP BY 1") == versions

    changed = written([(n, content("Other", f"n{n}@example.com") if n % 100 == 0 else what) for n, what in rows])
    assert query(store, "SELECT count(*) FROM record WHERE updated_at IS NOT NULL") == [[200]]
    assert unchanged < first / 50
    assert changed < first / 10


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("believed", [1, 1_000_000])
def test_comparison_has_no_nested_loop_whatever_the_planner_expects(store: Store, believed: int, repeats: bool) -> None:
    loaded(store, *((n, content(f"Name {n}")) for n in range(2_000)))
    load = staged(store, [(n, "hubspot", content(f"Name {n}")) for n in range(1_000, 3_000)])

    def plan(connection: Connection) -> list[str]:
        connection.run(f"ANALYZE record; ANALYZE {load.table}")
        connection.run(
            f"UPDATE pg_class SET reltuples = {believed} WHERE oid IN ('record'::regclass, '{load.table}'::regclass)"
        )
        columns = snapshots.compared_columns(repeats=repeats)
        rows = f"SELECT ctid AS staged, {columns} FROM {load.table}"
        records = f"SELECT id AS record_id, {columns} FROM record WHERE source = 0"
        lines = connection.run(f"EXPLAIN {snapshots._differences(rows, records, repeats=repeats)}")
        snapshots.compare(connection, rows, records, repeats=repeats)
        lines += connection.run(f"EXPLAIN {differences._lost_customers(0)}")
        return [line for [line] in lines]

    lines = store._database.write(plan, repeatable=False)
    assert len([line for line in lines if "Full Join" in line]) == 5
    assert not [line for line in lines if "Nested Loop" in line]


@pytest.mark.parametrize(("removed", "most_named"), [(0, 100), (3, 100), (3, 2)])
def test_removal_does_not_read_the_differences_although_a_vacuum_saw_none_of_the_added_records(
    store: Store, removed: int, most_named: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_MOST_NAMED", most_named)
    loaded(store, *((n, content()) for n in range(removed)))
    lines: list[str] = []

    def planned(connection: Connection, leaving: str) -> Deleted:
        # As autovacuum does: it sees the pages of the records that are not committed, and no record in them.
        connect().run("VACUUM ANALYZE record")
        plan = connection.run(f"EXPLAIN SELECT FROM record WHERE id IN (SELECT id FROM record WHERE {leaving})")
        lines.extend(line for [line] in plan)
        return delete_records(connection, leaving)

    monkeypatch.setattr(snapshots, "delete_records", planned)

    loaded(store, *((n, content(f"Name {n}")) for n in range(removed, 2_000)))

    assert ids(store) == list(range(removed + 1, 2_001))
    assert lines
    assert not [line for line in lines if snapshots.DIFFERENCES in line]


# Undo


def test_snapshot_that_only_added_is_deleted(store: Store) -> None:
    first = loaded(store, (1, content()))
    more = loaded(store, (1, content()), (2, content()))

    with pytest.raises(NotUndoable, match=f"Upload {more.id}, a later snapshot of hubspot, states records"):
        store.uploads.delete(first.id)
    assert store.uploads.delete(more.id) == 1
    assert ids(store) == [1]
    assert store.uploads.delete(first.id) == 1
    assert ids(store) == []
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("rows", [[(1, content("Other"))], [(2, content())]], ids=["changed", "removed"])
def test_snapshot_that_changed_or_removed_records_is_not_deleted(
    store: Store, functions: Callable[..., Any], rows: list[tuple[CustomerId, Content]]
) -> None:
    loaded(store, (1, content()))
    upload = loaded(store, *rows)

    path, parameters = f"/api/v1/uploads/{upload.id}", {"upload_id": str(upload.id)}
    answer = functions("delete_upload", api_event("DELETE", path, parameters=parameters))

    assert answer["statusCode"] == 409
    assert "cannot be restored" in json.loads(answer["body"])["detail"]
    with pytest.raises(NotUndoable):
        store.uploads.request_deletion(upload.id)
    assert query(store, f"SELECT status FROM upload WHERE id = {upload.id}") == [["done"]]
    store.records.clear()
    assert store.uploads.delete(upload.id) == 0


def test_deletion_that_a_snapshot_overtakes_is_given_up_with_the_reason(store: Store) -> None:
    first = loaded(store, (1, content()), (2, content()))
    store.uploads.request_deletion(first.id)
    more = loaded(store, (1, content()), (2, content()), (3, content()))

    assert store.uploads.delete_requested(first.id) is None

    upload = store.uploads.get(first.id)
    assert upload
    assert upload.status == "done"
    assert upload.reason
    assert upload.reason.startswith(f"It was not deleted. Upload {more.id}, a later snapshot")
    assert len(ids(store)) == 3


def test_erasure_names_the_files_of_all_snapshots_that_state_the_customer(store: Store) -> None:
    uploads = [
        loaded(store, (1, content()), (2, content("Ben"))),
        loaded(store, (1, content()), (3, content())),
        loaded(store, (1, content("Anna"))),
        loaded(store, (1, content("Anna")), (3, content())),
        loaded(store, (3, content()), source="internal"),
    ]

    erased = store.customers.erase(1)

    assert erased
    assert erased.files == [upload.object_key for upload in uploads[2:4]]


# The active run


def entities(store: Store) -> dict[int, int]:
    """The entity of each record."""
    [[run]] = query(store, "SELECT active_run FROM match_state")
    return dict(query(store, f"SELECT record_id, entity_id FROM matching.member_{run} ORDER BY 1"))


def test_changed_record_keeps_its_entity_if_a_rule_joins_it_with_the_others(store: Store) -> None:
    loaded(store, (1, content("Ann Lee")), source="internal")
    loaded(store, (7, content("Ann Lee")), (8, content("Ben Oyelaran", "ben@example.com")))
    matched(store)
    before = entities(store)
    assert before[1] == before[2] != before[3]

    loaded(store, (7, content("Ann Lee", phone="2025550101")), (8, content("Ben Oyelaran", "ben@example.com")))
    resolve(store)

    assert entities(store) == before
    assert stale_members(store) == []
    assert store.maintenance.verify().agreed


def test_record_that_became_another_person_leaves_its_entity_and_joins_by_the_rules(store: Store) -> None:
    ann, cleo = content("Ann Lee"), content("Cleo Vance", "cleo@example.com")
    loaded(store, (1, ann), (2, cleo), (3, ann), (4, cleo), source="internal")
    loaded(store, (7, ann))
    matched(store, rules=RULES)
    before = entities(store)
    assert [before[record] for record in (3, 4, 5)] == [before[1], before[2], before[1]]

    loaded(store, (7, cleo))
    resolve(store)
    assert entities(store) == before | {5: before[2]}
    loaded(store, (7, content("Dora Quarterman", "dora@example.com")))
    resolve(store)
    new = entities(store)[5]
    assert new not in before.values()
    assert entities(store) == before | {5: new}
    loaded(store, (7, content("Emil Fontaine", "emil@example.com")))
    resolve(store)

    assert entities(store) == before | {5: new}
    assert stale_members(store) == []
    assert store.maintenance.verify().agreed


def test_records_that_change_while_a_run_works_are_as_they_are_now_in_it(
    new_store: NewStore, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(store, (1, content("Ann Lee")), source="internal")
    loaded(store, (7, content("Ann Lee")), (8, content("Ben Oyelaran", "ben@example.com")))
    other, original = new_store(), store.runs.load

    def meanwhile(*args: Any) -> None:
        loaded(other, (7, content("Zoe Quarterman", "zoe@example.com")), (8, content("Ben Oyelaran", "b@example.com")))
        original(*args)

    monkeypatch.setattr(store.runs, "load", meanwhile)
    matched(store, rules=RULES)

    assert stale_members(store) == []
    assert len({*entities(store).values()}) == 3
    assert store.maintenance.verify().agreed


def stale_members(store: Store) -> list[int]:
    """The members whose normalised values are not those of their records. An exact duplicate has those of its
    representative."""

    def work(connection: Connection) -> list[int]:
        tables = active_run(connection)
        if not tables:
            return []
        conventions, fields = conventions_of(settings_of(connection, tables)), normalise.FIELDS
        columns = ", ".join(
            [*(f"r.{field}" for field in fields), "m.record_id", *(f"v.{column}" for column in normalise.COLUMNS)]
        )
        rows = connection.run(
            f"""SELECT {columns} FROM {tables.member} m JOIN record r ON r.id = m.record_id
                LEFT JOIN {tables.member} v ON v.record_id = coalesce(m.representative, m.record_id)"""
        )
        stale = []
        for row in rows:
            values, [member, *held] = row[: len(fields)], row[len(fields) :]
            true = normalise.record(dict(zip(fields, values, strict=True)), conventions)
            if [true[column] for column in normalise.COLUMNS] != held:
                stale.append(member)
        return stale

    return store._database.read(work)


# Everything in any order, beside a model


@dataclass(frozen=True)
class Kept:
    """A record of the model."""

    who: CustomerId
    source: str
    what: Content
    upload: int
    updated_at: Any = None


Row = tuple[CustomerId, Content, bool]
"""A row of a snapshot or an upsert: the customer, the content, and whether it is marked as deleted."""

Stated = dict[tuple[CustomerId, str], tuple[int, str]]
"""The upload and modified_at of what an upsert stated of a customer and a source without writing a record."""


@dataclass
class File:
    """A file of the model that is done."""

    source: str | None
    mode: str
    at: int
    undoable: bool = True
    cleared: bool = False


@dataclass
class Plan:
    """What a snapshot or an upsert is about to do in the model. `unchanged`: records that are the same; `lost`:
    customers that the source no longer has; `accepted`: rows that are not left out; `stated`: what all upserts will
    state then."""

    added: list[Kept]
    changed: dict[int, Kept]
    gone: set[int]
    unchanged: int
    lost: int
    accepted: int
    stated: Stated

    @property
    def records(self) -> RecordChanges:
        return RecordChanges(len(self.added), len(self.changed), len(self.gone), self.unchanged)


@dataclass
class Undecided:
    """A file of the model that is previewed or held, with what its source had then and the customers that it would have
    removed."""

    key: str
    mode: str
    rows: list[Row]
    source: str
    at: int
    decision: Decision
    before: object
    lost: int


def pair(rows: list[tuple[int, Content]], records: list[tuple[int, Content]]) -> Iterator[tuple[int, int, bool]]:
    """The rows and records of one customer that belong together: position, id, and whether they differ."""
    alike: list[Callable[[Content], Any]] = [lambda c: c, lambda c: c[0], lambda c: c[1], lambda c: True]
    for feature in alike:
        for place, what in list(rows):
            for record, former in records:
                if feature(what) is not None and feature(what) == feature(former):
                    yield place, record, what != former
                    rows.remove((place, what))
                    records.remove((record, former))
                    break


CONTENTS = [
    content(),
    content("Ann", "a@example.com"),
    content("Bea", "a@example.com"),
    content("Bea", None, phone="2025550101"),
    content(None, "ann@example.com", emails=["ann@example.com", "x@example.com"], attributes={"b": "1", "a": "2"}),
    content(None, "ann@example.com", emails=["ann@example.com", "y@example.com"], attributes={"b": "1", "a": "3"}),
    content("Ann", "ann@example.com", modified_at="2026-01-02T03:04:05Z"),
    content("Bea", "a@example.com", modified_at="2026-01-03T00:00:00Z"),
]
MODIFIED = 2 + OPTIONAL.index("modified_at")


@pytest.mark.parametrize("with_run", [False, True], ids=["alone", "with an active run"])
def test_snapshots_in_any_order_with_everything_else_agree_with_a_model(
    store: Store, monkeypatch: pytest.MonkeyPatch, with_run: bool
) -> None:
    who: st.SearchStrategy[CustomerId] = st.sampled_from([0, 1, 2, -5, "a", "3a", 'ä"\\'])
    what = st.sampled_from(CONTENTS)
    rows = st.lists(st.tuples(who, st.sampled_from(SOURCES), what), min_size=1, max_size=6)
    marked = st.lists(st.tuples(who, what, st.sampled_from([False, False, True])), min_size=1, max_size=10)
    days = st.integers(0, 12)
    # As in a large source: each customer that a snapshot removes makes it suspicious.
    monkeypatch.setattr(suspicions, "MIN_CUSTOMERS", 1)
    # A few removed records are named, more are looked up.
    monkeypatch.setattr(snapshots, "_MOST_NAMED", 2)
    if with_run:
        loaded(store, (1, content()))
        matched(store)

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            store.records.clear()
            self.outside = connect()
            self.held = False
            self.log = Follower(store, "machine")
            self.records: dict[int, Kept] = {}
            self.files: dict[int, File] = {}
            self.undecided: dict[int, Undecided] = {}
            [[self.erased]] = query(store, "SELECT count(*) FROM erasure")
            self.stated: Stated = {}

        def teardown(self) -> None:
            self.outside.close()
            if with_run:
                self.resolve()

        # What the database has

        def look(self) -> dict[int, Kept]:
            fields = ", ".join(f"to_json({field})::text" for field in ("name", "email", *OPTIONAL))
            found = query(
                store,
                f"""SELECT id, coalesce(to_json(customer_id), to_json(text_id))::text, s.name, upload_id,
                        updated_at::text, {fields.replace("to_json(name)", "to_json(r.name)")}
                    FROM record r JOIN source s ON s.bit = r.source""",
            )
            return {
                record: Kept(json.loads(of), source, shown(values), upload, updated)
                for record, of, source, upload, updated, *values in found
            }

        def expect(self, gone: Iterable[int], changed: dict[int, Kept], added: Iterable[Kept]) -> None:
            """Compares the records with those of the model after an operation, which the model takes over."""
            before, now = self.records, self.look()
            last = max(before, default=0)
            kept = {record: one for record, one in before.items() if record not in {*gone} and record not in changed}
            assert {record: now.get(record) for record in kept} == kept
            for record, one in changed.items():
                assert now[record].updated_at is not None
                assert now[record].updated_at != before[record].updated_at
                assert replace(now[record], updated_at=None) == one
            new = {record: one for record, one in now.items() if record not in before}
            assert Counter(map(repr, new.values())) == Counter(map(repr, added))
            assert {*now} == {*kept, *changed, *new}
            assert all(record > last for record in new)
            assert self.log.catch_up() == ({*new}, {*changed}, {*before} - {*now})
            self.records = now

        def newer(self, at: int) -> list[int]:
            return [upload for upload, file in self.files.items() if file.at > at]

        def outdated(self, source: str, at: int) -> bool:
            return any(
                self.files[upload].mode == "replace"
                and self.files[upload].source == source
                and not self.files[upload].cleared
                for upload in self.newer(at)
            )

        def stated_later(self, at: int) -> set[tuple[CustomerId, str]]:
            """The customers of sources that newer upserts state."""
            upserts = {
                one for one in self.newer(at) if self.files[one].mode == "upsert" and not self.files[one].cleared
            }
            written = {(one.who, one.source) for one in self.records.values() if one.upload in upserts}
            return written | {customer for customer, (upload, _) in self.stated.items() if upload in upserts}

        # Operations

        @rule()
        def hold(self) -> None:
            if not self.held:
                self.outside.run(f"SELECT pg_advisory_lock({MERGE})")
            self.held = True

        @rule()
        def release(self) -> None:
            if self.held:
                self.outside.run(f"SELECT pg_advisory_unlock({MERGE})")
            self.held = False

        @rule()
        def drain(self) -> None:
            store.maintenance.merge_deferred()
            store.maintenance.compact()

        @precondition(lambda self: with_run)
        @rule()
        def resolve(self) -> None:
            resolve(store)
            [[run]] = query(store, "SELECT active_run FROM match_state")
            assert [lag.records for lag in store.change_log.lags() if lag.consumer == f"run-{run}"] == [0]
            assert entities(store).keys() == self.records.keys()
            assert stale_members(store) == []
            self.everything_agrees()

        @rule(rows=rows)
        def add(self, rows: list[tuple[CustomerId, str, Content]]) -> None:
            made = [
                {
                    "customer_id": who,
                    "source": of,
                    "name": name,
                    "email": email,
                    **dict(zip(OPTIONAL, more, strict=True)),
                }
                for who, of, (name, email, *more) in rows
            ]
            upload = store.records.add(made).id
            self.expect([], {}, [Kept(who, of, shown_of(what), upload) for who, of, what in rows])

        @precondition(lambda self: not self.held)
        @rule(rows=rows, at=days)
        def load(self, rows: list[tuple[CustomerId, str, Content]], at: int) -> None:
            load = staged(store, rows, "add", None, EPOCH + timedelta(days=at))
            later = self.stated_later(at)
            accepted = [row for row in rows if not self.outdated(row[1], at) and row[:2] not in later]
            if not accepted:
                with pytest.raises(Outdated):
                    store.loads.finish(load)
                store.loads.fail(load, "outdated")
            else:
                store.loads.finish(load)
                self.files[load.id] = File(None, "add", at)
                self.told(load.id, RecordChanges(len(accepted), 0, 0, 0), len(accepted))
            self.expect([], {}, [Kept(who, of, shown_of(what), load.id) for who, of, what in accepted])

        @precondition(lambda self: not self.held)
        @rule(
            mode=st.sampled_from(["replace", "upsert"]),
            rows=marked,
            source=st.sampled_from(SOURCES),
            at=days,
            decision=st.sampled_from([None, "apply", "release"]),
        )
        def replace_records(self, mode: str, rows: list[Row], source: str, at: int, decision: Decision | None) -> None:
            """Loaded in any case, or previewed, or held if it is a snapshot that removes a customer."""
            if mode == "replace":
                rows = [(who, what, False) for who, what, _ in rows]
            load = self.stage("", mode, rows, source, at, dry_run=decision == "apply")
            if self.outdated(source, at):
                return self.refused(load, Outdated)
            plan = self.plan(mode, rows, source, at, load.id)
            stops = decision == "apply" or (decision == "release" and mode == "replace" and plan.lost > 0)
            assert store.loads.finish(load, max_removed=0 if decision else 100) == (not stops)
            if not stops:
                return self.replaced(load.id, mode, source, at, plan)
            assert decision
            before = self.of_source(source)
            self.undecided[load.id] = Undecided(self.key_of(load), mode, rows, source, at, decision, before, plan.lost)
            return self.waits(load.id, plan)

        @precondition(lambda self: not self.held and self.undecided)
        @rule(data=st.data(), load_it=st.booleans())
        def decide(self, data: st.DataObject, load_it: bool) -> None:
            upload = data.draw(st.sampled_from(sorted(self.undecided)))
            one = self.undecided.pop(upload)
            if not load_it:
                assert store.uploads.delete(upload) == 0
                return self.expect([], {}, [])
            assert store.previews.decide(upload, one.decision)
            load = self.stage(one.key, one.mode, one.rows, one.source, one.at)
            assert load.id == upload
            if self.outdated(one.source, one.at):
                return self.refused(load, Outdated)
            if one.decision == "apply" and self.of_source(one.source) != one.before:
                return self.refused(load, Changed)
            plan = self.plan(one.mode, one.rows, one.source, one.at, upload)
            stops = one.decision == "release" and plan.lost > one.lost
            assert store.loads.finish(load, max_removed=0) == (not stops)
            if not stops:
                return self.replaced(upload, one.mode, one.source, one.at, plan)
            self.undecided[upload] = replace(one, before=self.of_source(one.source), lost=plan.lost)
            return self.waits(upload, plan)

        # Parts of these

        def stage(self, key: str, mode: str, rows: list[Row], source: str, at: int, *, dry_run: bool = False) -> Load:
            stated = [(who, source, what) for who, what, _ in rows]
            marks = [mark for *_, mark in rows]
            return staged(store, stated, mode, source, EPOCH + timedelta(days=at), marks, key, dry_run=dry_run)

        def key_of(self, load: Load) -> str:
            [[key]] = query(store, f"SELECT object_key FROM upload WHERE id = {load.id}")
            return str(key).removeprefix("incoming/").removesuffix(".csv")

        def of_source(self, source: str) -> object:
            """What a preview is compared with: records, and the upserts that state something else."""
            records = {record: one for record, one in self.records.items() if one.source == source}
            return records, {who: upload for (who, of), (upload, _) in self.stated.items() if of == source}

        def refused(self, load: Load, error: type[Exception]) -> None:
            with pytest.raises(error):
                store.loads.finish(load, max_removed=0)
            store.loads.fail(load, "refused")
            self.expect([], {}, [])

        def waits(self, upload_id: int, plan: Plan) -> None:
            """Says what it would do, and has done nothing."""
            upload = store.uploads.get(upload_id)
            assert upload
            assert upload.records == plan.records
            assert upload.status in ("previewed", "held")
            assert upload.customers
            assert upload.customers.removed == plan.lost
            examples = store.previews.examples(upload_id)
            assert examples
            shown: list[Counter[Any]] = [
                Counter(one["id"] for one in examples["removed"] + examples["changed"]),
                Counter(one["customer_id"] for one in examples["added"]),
            ]
            whole: list[Counter[Any]] = [Counter([*plan.gone, *plan.changed]), Counter(one.who for one in plan.added)]
            # The files are older than any erasure: who was erased, or has an address of theirs, is in no example.
            assert all(some <= all_ for some, all_ in zip(shown, whole, strict=True)) if self.erased else shown == whole
            self.expect([], {}, [])

        def plan(self, mode: str, rows: list[Row], source: str, at: int, upload_id: int) -> Plan:
            work = self.plan_snapshot if mode == "replace" else self.plan_upsert
            plan = work(rows, source, at, upload_id)
            mine = {record: one.who for record, one in self.records.items() if one.source == source}
            kept = {who for record, who in mine.items() if record not in plan.gone}
            return replace(plan, lost=len({mine[record] for record in plan.gone} - kept))

        def plan_snapshot(self, rows: list[Row], source: str, at: int, upload_id: int) -> Plan:
            stay, later = self.newer(at), self.stated_later(at)
            compared = {
                record: one
                for record, one in self.records.items()
                if one.source == source and one.upload not in stay and (one.who, source) not in later
            }
            changed: dict[int, Kept] = {}
            added = []
            found = set()
            stated = [(who, shown_of(what)) for who, what, _ in rows if (who, source) not in later]
            for of in {who for who, _ in stated}:
                theirs = [(place, what) for place, (who, what) in enumerate(stated) if who == of]
                left = {place for place, _ in theirs}
                held = [(record, compared[record].what) for record in sorted(compared) if compared[record].who == of]
                for place, record, differs in pair(theirs, held):
                    found.add(record)
                    left.discard(place)
                    if differs:
                        changed[record] = Kept(of, source, stated[place][1], upload_id)
                added += [Kept(of, source, stated[place][1], upload_id) for place in left]
            kept = {key: said for key, said in self.stated.items() if key[1] != source or key in later}
            unchanged = len(found) - len(changed)
            return Plan(added, changed, {*compared} - found, unchanged, 0, len(stated), kept)

        def plan_upsert(self, rows: list[Row], source: str, at: int, upload_id: int) -> Plan:
            newer = self.newer(at)
            changed: dict[int, Kept] = {}
            added, gone, unchanged, accepted, stated = [], set(), 0, 0, {**self.stated}
            for who in dict.fromkeys(who for who, *_ in rows):
                theirs = [(row[MODIFIED] or "", place) for place, (of, row, _) in enumerate(rows) if of == who]
                modified, place = max(theirs)
                held = {k: one for k, one in sorted(self.records.items()) if (one.who, one.source) == (who, source)}
                said = self.stated.get((who, source))
                before = [shown_time(one.what[MODIFIED]) for one in held.values()] + ([said[1]] if said else [])
                if {one.upload for one in held.values()} & {*newer} or (said and said[0] in newer):
                    continue
                if modified and modified < max(before, default=""):
                    continue
                accepted += len(theirs)
                stated.pop((who, source), None)
                what, deleted = shown_of(rows[place][1]), rows[place][2]
                pairs = [] if deleted else [*pair([(0, what)], [(k, one.what) for k, one in held.items()])]
                gone |= held.keys() - {record for _, record, _ in pairs}
                if not pairs and not deleted:
                    added.append(Kept(who, source, what, upload_id))
                elif pairs and pairs[0][2]:
                    changed[pairs[0][1]] = Kept(who, source, what, upload_id)
                else:
                    unchanged += len(pairs)
                    stated[who, source] = (upload_id, modified)
            return Plan(added, changed, gone, unchanged, 0, accepted, stated)

        def replaced(self, upload_id: int, mode: str, source: str, at: int, plan: Plan) -> None:
            self.files[upload_id] = File(source, mode, at, undoable=not (plan.changed or plan.gone))
            self.stated = plan.stated
            self.told(upload_id, plan.records, plan.accepted)
            self.expect(plan.gone, plan.changed, plan.added)

        def told(self, upload_id: int, records: RecordChanges, accepted: int) -> None:
            upload = store.uploads.get(upload_id)
            assert upload
            assert upload.records == records
            assert upload.accepted == accepted
            assert (upload.reason is not None) == (upload.accepted < upload.rows)

        @precondition(lambda self: not self.held and self.records)
        @rule(data=st.data())
        def delete(self, data: st.DataObject) -> None:
            upload = data.draw(st.sampled_from(sorted({*self.files} | {one.upload for one in self.records.values()})))
            file = self.files.get(upload)
            theirs = {record for record, one in self.records.items() if one.upload == upload}
            restated = any(
                other > upload
                and self.files[other].mode == "replace"
                and (file is None or self.files[other].at >= file.at)
                and any(self.records[record].source == self.files[other].source for record in theirs)
                for other in self.files
            ) or any(
                self.stated.get((self.records[record].who, self.records[record].source), (0,))[0] > upload
                for record in theirs
            )
            if restated or (file and not file.undoable and not file.cleared):
                with pytest.raises(NotUndoable):
                    store.uploads.delete(upload)
                return self.expect([], {}, [])
            assert store.uploads.delete(upload) == len(theirs)
            self.files.pop(upload, None)
            self.stated = {key: said for key, said in self.stated.items() if said[0] != upload}
            return self.expect(theirs, {}, [])

        @precondition(lambda self: not self.held)
        @rule(gone=who)
        def erase(self, gone: CustomerId) -> None:
            self.erased += store.customers.erase(gone) is not None
            self.stated = {key: said for key, said in self.stated.items() if key[0] != gone}
            self.expect({record for record, one in self.records.items() if one.who == gone}, {}, [])

        @precondition(lambda self: not self.held)
        @rule(at=st.integers(0, 4))
        def clear(self, at: int) -> None:
            if at:
                return
            store.records.clear()
            self.stated = {}
            for file in self.files.values():
                file.cleared = True
            self.expect(self.records, {}, [])

        @invariant()
        def everything_agrees(self) -> None:
            found = store._database.read(maintenance._compare)
            assert found.agreed, found

    run_state_machine_as_test(Machine, settings=machine_settings(8, 150, steps=25))


def shown(values: Sequence[str | None]) -> Content:
    """The content of a record as JSON values: equal if the texts in the database are."""
    return tuple(None if value is None else json.loads(value) for value in values)


def shown_of(what: Content) -> Content:
    values = list(what)
    if values[MODIFIED]:
        values[MODIFIED] = values[MODIFIED].replace("Z", "+00:00")
    return tuple(values)


def shown_time(value: str | None) -> str:
    """A time of shown_of() as it was sent; empty if there is none."""
    return (value or "").replace("+00:00", "Z")
