"""The change log: consumers see every change of records once, in an order in which it can be replayed."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dedup.errors import Busy, NotUndoable, Superseded, Unavailable
from dedup.settings import settings
from dedup.store import Store, change_log
from dedup.store.change_log import Batch, Position
from dedup.store.load_effects import Outdated
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pg8000.native import Connection

from tests.conftest import connect, machine_settings, record, sample_records
from tests.follower import Follower, ids_of_records
from tests.proxy import Fault, Proxy, reset_after, reset_before, reset_within

NewStore = Callable[..., Store]
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MERGE = 7236836
_keys = itertools.count()


def query(store: Store, sql: str) -> Any:
    return store._database.read(lambda connection: connection.run(sql))


def write(store: Store, sql: str) -> None:
    store._database.write(lambda connection: connection.run(sql), repeatable=False)


def consume(store: Store, batch: Batch) -> None:
    store._database.write(lambda connection: change_log.commit(connection, "c", batch), repeatable=False)


def load(store: Store, key: str, ids: list[int], mode: str, day: int, name: str = "Ann") -> int:
    """A file of one source; returns its upload."""
    load = store.loads.claim(key, key, EPOCH + timedelta(days=day), "hubspot", mode, lease=600)
    assert load
    store.loads.stage(load, [(n, name, "ann@example.com", "hubspot") for n in ids], len(ids), 0)
    store.loads.finish(load)
    return load.id


@pytest.fixture
def followed(store: Store) -> Store:
    """A store with the consumer c."""
    store.change_log.register("c")
    return store


# What is appended


def test_each_operation_appends_ranges_in_the_order_of_what_happened(followed: Store) -> None:
    store = followed
    upload = store.records.add(sample_records()).id
    store.records.add([record(1, "hubspot")])
    store.records.add([record("a", "hubspot"), record(2, "internal")])
    load(store, "file", [3, 4, 5], "add", day=1)
    load(store, "snapshot", [103, 104, 106, 1, 4, 5], "replace", day=2, name="Bea")
    store.customers.erase(106)
    store.uploads.delete(load(store, "more", [7], "add", day=3))
    store.records.clear()

    assert [*store.change_log.read("c", 100).changes] == [
        (1, "inserted", 1, 12),
        (2, "inserted", 13, 13),
        (3, "inserted", 14, 15),
        (4, "inserted", 16, 18),
        (5, "updated", 5, 6),
        (5, "updated", 8, 8),
        (5, "updated", 13, 13),
        (5, "updated", 17, 18),
        (6, "deleted", 7, 7),
        (6, "deleted", 16, 16),
        (7, "deleted", 14, 14),
        (8, "deleted", 8, 8),
        (9, "inserted", 19, 19),
        (10, "deleted", 19, 19),
        (11, "cleared", 0, 0),
    ]
    assert upload == 1


def test_rows_that_are_left_out_of_a_file_are_not_among_the_records(followed: Store) -> None:
    load(followed, "snapshot", [1], "replace", day=2)
    late = followed.loads.claim("late", "late", EPOCH, None, "add", lease=600)
    assert late
    followed.loads.stage(late, [(2, "Ann", "a@example.com", of) for of in ("hubspot", "internal")], 2, 0)
    followed.loads.finish(late)

    assert [change[1:] for change in followed.change_log.read("c", 9).changes] == [
        ("inserted", 1, 1),
        ("inserted", 2, 3),
        ("deleted", 2, 2),
    ]


def test_writes_without_an_effect_append_nothing(followed: Store) -> None:
    followed.records.add([])
    load(followed, "one", [1], "replace", day=1)
    before = followed.change_log.read("c", 9)

    load(followed, "same", [1], "replace", day=2)
    followed.customers.erase(999)

    assert followed.change_log.read("c", 9) == before


def test_bulk_load_is_one_range_and_scattered_deletions_are_entries_of_bounded_size(
    followed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_log, "MAX_RANGES", 100)
    load(followed, "file", [*range(2_000)], "replace", day=1)
    load(followed, "half", [*range(0, 2_000, 2)], "replace", day=2)

    sizes = query(
        followed,
        """SELECT operation, size, (SELECT count(*) FROM unnest(records)) FROM record_change ORDER BY id""",
    )
    assert sizes == [["inserted", 2000, 1], *[["deleted", 100, 100]] * 10]


def test_uploads_whose_ids_interleave_are_logged_exactly(new_store: NewStore) -> None:
    stores = [new_store() for _ in range(4)]
    followers = [Follower(stores[0], name) for name in ("a", "b")]
    done = threading.Event()

    def upload(store: Store, number: int) -> None:
        for turn in range(10):
            store.records.add([record(n, "hubspot") for n in range(300)])
            if turn % 5 == number:
                load(store, f"{number} {turn}", [*range(500)], "add", day=turn)

    def follow() -> None:
        while not done.is_set():
            followers[0].read(limit=700)

    with ThreadPoolExecutor(4) as pool:
        following = pool.submit(follow)
        jobs = [pool.submit(upload, store, number) for number, store in enumerate(stores[1:])]
        for job in jobs:
            job.result()
        done.set()
        following.result()

    for follower in followers:
        follower.catch_up(limit=100_000)
        assert follower.ids == ids_of_records(stores[0])
    assert stores[0].maintenance.verify().agreed


# Positions


@pytest.fixture
def outside(store: Store) -> Iterator[Connection]:
    with closing(connect()) as connection:
        yield connection


def test_entry_that_is_committed_late_gets_a_later_position(followed: Store, outside: Connection) -> None:
    outside.run("BEGIN")
    outside.run("INSERT INTO record (customer_id, upload_id, source) VALUES (1, 999, 0)")
    [[late]] = outside.run("SELECT id FROM record")
    outside.run(f"WITH one AS (SELECT {late} AS id), {change_log.logged_one('inserted', 'one')} SELECT")
    followed.records.add([record(2, "hubspot")])
    first = followed.change_log.read("c", 9)
    consume(followed, first)
    assert not followed.change_log.read("c", 9).changes

    outside.run("COMMIT")

    assert [*first.changes] == [(1, "inserted", late + 1, late + 1)]
    assert [*followed.change_log.read("c", 9).changes] == [(2, "inserted", late, late)]


def test_readers_at_the_same_moment_see_the_same_positions(new_store: NewStore) -> None:
    stores = [new_store() for _ in range(4)]
    for number in range(len(stores)):
        stores[0].change_log.register(str(number))
    for n in range(50):
        stores[0].records.add([record(n, "hubspot")])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: stores[number].change_log.read(str(number), 100), range(4)))

    assert [found[0]] * 4 == found
    assert [change.entry for change in found[0].changes] == [*range(1, 51)]


# Consumers


def test_long_entries_are_read_in_batches_of_the_given_size(followed: Store) -> None:
    store = followed
    load(store, "file", [*range(10)], "replace", day=1)
    load(store, "snapshot", [0, 2, 4, 6, 8, 9], "replace", day=2)
    batches = []
    while (batch := store.change_log.read("c", 3)).changes:
        batches.append([change[1:] for change in batch.changes])
        [lag] = store.change_log.lags()
        assert lag.records == 14 - sum(len(range(first, last + 1)) for done in batches[:-1] for _, first, last in done)
        consume(store, batch)

    assert batches == [
        [("inserted", 1, 3)],
        [("inserted", 4, 6)],
        [("inserted", 7, 9)],
        [("inserted", 10, 10)],
        [("deleted", 2, 2), ("deleted", 4, 4), ("deleted", 6, 6)],
        [("deleted", 8, 8)],
    ]
    assert batch.after == Position(2)
    assert [(lag.consumer, lag.entries, lag.records) for lag in store.change_log.lags()] == [("c", 0, 0)]


def test_batch_is_committed_once(followed: Store) -> None:
    followed.records.add(sample_records())
    batch = followed.change_log.read("c", 5)
    assert followed.change_log.read("c", 5) == batch
    consume(followed, batch)

    with pytest.raises(Superseded):
        consume(followed, batch)

    assert followed.change_log.read("c", 100).before == batch.after == Position(0, 5)


def test_consumer_sees_what_happens_after_its_registration(store: Store) -> None:
    store.records.add(sample_records())
    assert store.change_log.register("c") == Position(1)
    store.records.add([record(1, "hubspot")])
    assert store.change_log.register("c") == Position(1)

    assert [*store.change_log.read("c", 9).changes] == [(2, "inserted", 13, 13)]


def test_consumer_that_is_not_registered_reads_nothing(store: Store) -> None:
    with pytest.raises(LookupError, match="c is not registered"):
        store.change_log.read("c", 9)


# Maintenance


def test_log_keeps_what_a_consumer_has_not_consumed_and_nothing_else(store: Store) -> None:
    def entries() -> int:
        return int(query(store, "SELECT count(*) FROM record_change")[0][0])

    store.records.add(sample_records())
    assert entries() == 1
    store.maintenance.compact()
    assert entries() == 0
    store.change_log.register("c")
    store.change_log.register("d")
    for n in range(5):
        store.records.add([record(n, "hubspot")])
    consume(store, store.change_log.read("c", 3))
    store.maintenance.compact()
    assert entries() == 5

    store.change_log.unregister("d")
    store.maintenance.compact()

    assert entries() == 2
    assert [change.entry for change in store.change_log.read("c", 9).changes] == [4, 5]
    store.change_log.unregister("c")
    store.maintenance.compact()
    assert entries() == 0
    assert store.maintenance.verify().agreed


def test_verify_says_how_far_a_consumer_is_behind(followed: Store) -> None:
    followed.records.add(sample_records())
    followed.records.add([record(1, "hubspot")])

    [lag] = followed.maintenance.verify().consumers

    assert (lag.consumer, lag.entries, lag.records) == ("c", 2, 13)
    assert 0 < lag.seconds < 600


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM record WHERE id = 3",
        "INSERT INTO record (customer_id, upload_id, source) VALUES (1, 999, 0)",
        "INSERT INTO record_change (operation, size, records) VALUES ('deleted', 1, '{[3,4)}')",
        "UPDATE change_log SET last_position = last_position + 1",
        "UPDATE change_log SET id_sum = id_sum + 1",
        "UPDATE change_consumer SET position = position + 1000",
    ],
)
def test_verify_starts_a_wrong_log_anew_for_every_consumer(store: Store, damage: str, trimmed: bool) -> None:
    store.records.add(sample_records())
    store.change_log.register("c")
    store.records.add([record(n, "hubspot") for n in range(5)])
    store.customers.erase(3)
    if trimmed:
        consume(store, store.change_log.read("c", 100))
        store.maintenance.compact()
    write(store, damage)

    found = store.maintenance.verify()

    assert (found.agreed, found.wrong_changes > 0) == (False, True)
    assert store.maintenance.verify().agreed
    changes = store.change_log.read("c", 100).changes
    assert changes[0].operation == "cleared"
    assert {n for change in changes[1:] for n in range(change.first, change.last + 1)} == ids_of_records(store)
    assert {change.operation for change in changes[1:]} == {"inserted"}


def test_verify_beside_writers_finds_no_mistake(new_store: NewStore) -> None:
    stores = [new_store() for _ in range(3)]
    stores[0].change_log.register("c")
    done = threading.Event()

    def write() -> None:
        for n in range(40):
            stores[1].records.add([record(m, "hubspot") for m in range(n + 1)])
            stores[1].customers.erase(n)
            if n % 10 == 9:
                stores[1].records.clear()
        done.set()

    def trim() -> None:
        while not done.is_set():
            batch = stores[2].change_log.read("c", 100)
            consume(stores[2], batch)
            stores[2].maintenance.compact()

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(write), pool.submit(trim)]
        while not done.is_set():
            assert stores[0].maintenance.verify().wrong_changes == 0
        for job in jobs:
            job.result()


# Everything in any order


class LateUpload:
    """An upload that is stored and not committed. It holds no lock, because its membership is deferred."""

    def __init__(self, store: Store, ids: Sequence[int]) -> None:
        self._go, self._thread = threading.Event(), ThreadPoolExecutor(1)
        stored, write = threading.Event(), store._database.write

        def held(work: Callable[[Connection], Any], *, repeatable: bool) -> Any:
            def then_wait(connection: Connection) -> Any:
                result = work(connection)
                stored.set()
                assert self._go.wait(30)
                return result

            return write(then_wait, repeatable=repeatable)

        with closing(connect()) as outside, pytest.MonkeyPatch.context() as patch:
            patch.setattr(store._database, "write", held)
            outside.run(f"SELECT pg_advisory_lock({MERGE})")
            self._upload = self._thread.submit(store.records.add, [record(n, "hubspot") for n in ids])
            assert stored.wait(30)

    def commit(self) -> int:
        self._go.set()
        upload = self._upload.result(30).id
        self._thread.shutdown()
        return upload


def test_log_agrees_with_the_records_whatever_happens_in_any_order(new_store: NewStore) -> None:
    """With commits that come late, connections that are cut, and consumers that start and stop anywhere."""
    store, other = new_store(), new_store()
    # It has registered its sources now, and writes nothing but uploads later.
    other.records.add(sample_records())
    proxy = Proxy(settings().db_host, settings().db_port)
    people = st.lists(st.integers(0, 6), min_size=1, max_size=8)
    days = st.integers(0, 6)
    limits = st.sampled_from([1, 2, 5, 1000])
    sources = st.sampled_from(["hubspot", "internal"])

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            store.records.clear()
            self.late: LateUpload | None = None
            self.uploads: list[int] = []
            self.auditor = Follower(store, "auditor")
            self.followers: list[Follower] = []
            self.records = self.look()

        def teardown(self) -> None:
            if self.late:
                self.late.commit()
            for follower in self.followers:
                follower.catch_up()
                assert follower.ids == ids_of_records(store)

        def look(self) -> dict[int, Any]:
            """What each record is, from which a change can be told."""
            return dict(query(store, "SELECT id, row_to_json(r)::text FROM record r"))

        def compare(self) -> None:
            """The log must say what changed since the last time, and nothing else."""
            before, now = self.records, self.look()
            changed = {one for one in before.keys() & now.keys() if before[one] != now[one]}
            assert self.auditor.catch_up() == (now.keys() - before.keys(), changed, before.keys() - now.keys())
            self.records = now

        # Writers. A store whose connection is cut may or may not have done it

        def do(self, work: Callable[[Store], int | None], cut: tuple[int, Fault] | None) -> None:
            if not cut:
                upload = work(store)
            else:
                cuttable = new_store(db_port=proxy.port)
                proxy.plan(*cut)
                upload = None
                with suppress(Unavailable, Busy, Superseded):
                    upload = work(cuttable)
                proxy.forget()
                cuttable.close()
                self.settle()
            if upload:
                self.uploads.append(upload)
            self.compare()

        def settle(self) -> None:
            """Waits until the server has noticed which connections are cut."""
            open_transactions = """SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
                AND datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"""
            deadline = time.monotonic() + 30
            while query(store, open_transactions) != [[1 if self.late else 0]]:
                assert time.monotonic() < deadline
                time.sleep(0.005)

        cuts = st.none() | st.tuples(st.integers(0, 15), st.sampled_from([reset_before, reset_within, reset_after]))

        @rule(ids=people, source=sources, cut=cuts)
        def add(self, ids: list[int], source: str, cut: tuple[int, Fault] | None) -> None:
            self.do(lambda at: at.records.add([record(n, source) for n in ids], key=str(next(_keys))).id, cut)

        @rule(ids=people, replaces=st.booleans(), source=sources, name=st.sampled_from("ab"), at=days, cut=cuts)
        def load(
            self, ids: list[int], replaces: bool, source: str, name: str, at: int, cut: tuple[int, Fault] | None
        ) -> None:
            def work(at_store: Store) -> int | None:
                key = str(next(_keys))
                mode, of = ("replace", source) if replaces else ("add", None)
                load = at_store.loads.claim(key, key, EPOCH + timedelta(days=at), of, mode, lease=600)
                assert load
                rows = [(n, name, "a@example.com", source) for n in ids]
                if not replaces:
                    rows.append((0, name, "a@example.com", "salesforce"))
                at_store.loads.stage(load, rows, len(rows), 0)
                with suppress(Outdated):
                    at_store.loads.finish(load)
                    return load.id
                return None

            self.do(work, cut)

        @precondition(lambda self: self.uploads)
        @rule(data=st.data(), cut=cuts)
        def undo(self, data: st.DataObject, cut: tuple[int, Fault] | None) -> None:
            upload = data.draw(st.sampled_from(self.uploads))

            def work(at: Store) -> None:
                with suppress(NotUndoable):
                    at.uploads.delete(upload)

            self.do(work, cut)

        @rule(who=st.integers(0, 6), cut=cuts)
        def erase(self, who: int, cut: tuple[int, Fault] | None) -> None:
            def work(at: Store) -> None:
                at.customers.erase(who)

            self.do(work, cut)

        @precondition(lambda self: not self.late)
        @rule(often=st.integers(0, 4), cut=cuts)
        def clear(self, often: int, cut: tuple[int, Fault] | None) -> None:
            if not often:
                self.do(lambda at: at.records.clear() and None, cut)

        @precondition(lambda self: not self.late)
        @rule(ids=people)
        def begin_late(self, ids: list[int]) -> None:
            self.late = LateUpload(other, ids)
            self.compare()

        @precondition(lambda self: self.late)
        @rule()
        def commit_late(self) -> None:
            assert self.late
            self.uploads.append(self.late.commit())
            self.late = None
            self.compare()

        # Readers

        @precondition(lambda self: len(self.followers) < 3)
        @rule()
        def register(self) -> None:
            self.followers.append(Follower(store, str(len(self.followers))))

        @precondition(lambda self: self.followers)
        @rule(data=st.data(), limit=limits)
        def follow(self, data: st.DataObject, limit: int) -> None:
            data.draw(st.sampled_from(self.followers)).read(limit)

        @rule()
        def maintain(self) -> None:
            store.maintenance.merge_deferred()
            store.maintenance.compact()

        @invariant()
        def verify_finds_no_mistake(self) -> None:
            assert store._database.read(change_log.find_errors) == 0

    try:
        run_state_machine_as_test(Machine, settings=machine_settings(10, 150, steps=30))
    finally:
        proxy.close()
