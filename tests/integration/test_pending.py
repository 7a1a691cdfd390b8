"""Uploads beside whoever holds the merge lock: nobody waits, and every count and list is exact at every moment."""

import itertools
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest
from dedup import sets
from dedup.customer_ids import CustomerId, order
from dedup.errors import Conflict, NotUndoable, Unavailable
from dedup.sets import EVERYBODY, SetQuery
from dedup.store import Store, maintenance, records
from dedup.store.load_attempt import Load
from dedup.store.load_effects import Outdated
from dedup.store.maintenance import MERGE_ROWS
from dedup.store.uploads import CustomerChanges, RecordChanges
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from pg8000.native import Connection

from tests.conftest import connect, ids_of, machine_settings, record

SOURCES = ("salesforce", "hubspot", "internal")
MERGE = 7236836
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_days = itertools.count()
NewStore = Callable[..., Store]


@pytest.fixture
def outside(store: Store) -> Iterator[Connection]:
    """A connection of somebody else, to hold locks with."""
    with closing(connect()) as connection:
        yield connection


def waiting_load(
    store: Store, rows: Iterable[tuple[CustomerId, str]], mode: str = "add", source: str | None = None
) -> Load:
    """A file, newer than all before, whose rows wait to be made records of."""
    key = str(uuid.uuid4())
    load = store.loads.claim(key, key, EPOCH + timedelta(days=next(_days)), source, mode, lease=600)
    assert load
    made = [record(who, of) for who, of in rows]
    staged = [(one["customer_id"], one["name"], one["email"], one["source"]) for one in made]
    store.loads.stage(load, staged, len(staged), 0)
    return load


def until_it_waits(store: Store, locktype: str = "transactionid") -> None:
    """Returns once some transaction waits for another's lock of that type."""
    query = f"SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = '{locktype}'"
    for _ in range(3000):
        if store._database.read(lambda connection: connection.run(query))[0][0]:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


def pending(store: Store) -> int:
    query = "SELECT count(*) FROM deferred_membership"
    return int(store._database.read(lambda connection: connection.run(query))[0][0])


class Truth:
    """What the database must say, kept as plain records."""

    def __init__(self) -> None:
        self.records: list[tuple[CustomerId, str, int]] = []

    def add(self, upload: int, rows: Iterable[tuple[CustomerId, str]]) -> None:
        self.records += [(who, source, upload) for who, source in rows]

    def keep(self, condition: Callable[[CustomerId, str, int], bool]) -> None:
        self.records = [line for line in self.records if condition(*line)]

    def regions(self) -> dict[sets.Region, set[CustomerId]]:
        sources: defaultdict[CustomerId, set[str]] = defaultdict(set)
        for who, source, _ in self.records:
            sources[who].add(source)
        found: defaultdict[sets.Region, set[CustomerId]] = defaultdict(set)
        for who, names in sources.items():
            found[frozenset(names)].add(who)
        return dict(found)

    def check(self, store: Store, page: int = 10_000) -> None:
        """Counts, and the ids of every region, of every source and of all, page by page."""
        regions = self.regions()
        assert store.questions.counts() == {region: len(ids) for region, ids in regions.items()}
        questions = {"all": EVERYBODY}
        questions |= {f"in {source}": SetQuery(within=frozenset({source})) for source in SOURCES}
        questions |= {str(sorted(region)): SetQuery(region, frozenset(SOURCES) - region) for region in regions}
        walked: defaultdict[str, list[CustomerId]] = defaultdict(list)
        after: Mapping[str, CustomerId] | None = {}
        while after is not None:
            found = store.questions.select(questions, after, page)
            assert found.records == len(self.records)
            for name in found.pages:
                walked[name] += ids_of(found, name)
            after = found.next_positions(after)
        for name, query in questions.items():
            expected = itertools.chain.from_iterable(regions[region] for region in query.select(regions))
            assert walked[name] == sorted(expected, key=order), name


def test_uploads_are_stored_while_a_load_merges_its_changes(new_store: NewStore, outside: Connection) -> None:
    loading, uploading = new_store(db_statement_timeout=600), new_store(db_statement_timeout=3)
    truth, ids = Truth(), range(200_000)
    load = waiting_load(loading, ((who, "hubspot") for who in ids))
    # The load adds customers in id order, and waits for this one of them.
    outside.run("BEGIN")
    outside.run("INSERT INTO customer_membership (customer_id, sources) VALUES (100000, 1)")
    chance = random.Random(3)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(loading.loads.finish, load)
        until_it_waits(uploading)

        for source in ("hubspot", "hubspot", "internal", "salesforce"):
            rows = [(chance.choice(ids), source) for _ in range(200)]
            truth.add(uploading.records.add([record(*row) for row in rows]).id, rows)
            truth.check(uploading)
        assert not done.done()
        assert pending(uploading) > 0

        outside.run("ROLLBACK")
        done.result()
    truth.add(load.id, ((who, "hubspot") for who in ids))

    truth.check(uploading)
    assert pending(uploading) == 0
    assert uploading.maintenance.verify().agreed


def test_load_that_is_killed_while_its_changes_are_merged_blocks_nothing(
    new_store: NewStore, outside: Connection
) -> None:
    loading, uploading = new_store(db_statement_timeout=600), new_store(db_statement_timeout=3)
    truth = Truth()
    load = waiting_load(loading, ((who, "hubspot") for who in range(5000)))
    outside.run("BEGIN")
    outside.run("INSERT INTO customer_membership (customer_id, sources) VALUES (2000, 1)")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(loading.loads.finish, load)
        until_it_waits(uploading)
        rows = [(who, "hubspot") for who in range(1990, 2010)]
        truth.add(uploading.records.add([record(*row) for row in rows]).id, rows)
        outside.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE '%staging.upload_%'"
            " AND pid <> pg_backend_pid() AND state = 'active'"
        )
        # It connects again, and waits again: a killed process would not.
        outside.run("ROLLBACK")
        done.result()
    truth.add(load.id, ((who, "hubspot") for who in range(5000)))

    truth.check(uploading)
    assert pending(uploading) == 0


def test_next_upload_merges_the_changes_that_were_deferred(store: Store, outside: Connection) -> None:
    truth = Truth()
    outside.run(f"SELECT pg_advisory_lock({MERGE})")
    truth.add(store.records.add([record(1, "hubspot"), record(2, "hubspot")]).id, [(1, "hubspot"), (2, "hubspot")])
    outside.run(f"SELECT pg_advisory_unlock({MERGE})")
    assert pending(store) == 2
    truth.check(store, page=1)

    truth.add(store.records.add([record(2, "internal")]).id, [(2, "internal")])

    assert pending(store) == 0
    truth.check(store, page=1)
    assert store.maintenance.verify().agreed


def test_concurrent_merges_count_each_deferred_change_once(new_store: NewStore, outside: Connection) -> None:
    stores, truth = [new_store() for _ in range(4)], Truth()
    outside.run(f"SELECT pg_advisory_lock({MERGE})")
    for source in SOURCES:
        rows = [(who, source) for who in range(MERGE_ROWS + 1000)]
        truth.add(stores[0].records.add([record(*row) for row in rows]).id, rows)
    outside.run(f"SELECT pg_advisory_unlock({MERGE})")
    start = threading.Barrier(4)

    def drain(number: int) -> None:
        start.wait()
        if number % 2:
            stores[number].records.add([record(number, "hubspot")])
        stores[number].maintenance.merge_deferred()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drain, range(4)))
    truth.add(0, [(1, "hubspot"), (3, "hubspot")])

    truth.check(stores[0])
    # One may have left to another the rows that it held, and that one may have been at its end.
    stores[0].maintenance.merge_deferred()
    assert pending(stores[0]) == 0
    assert stores[0].maintenance.verify().agreed


def test_upload_waits_for_the_lock_if_too_many_changes_are_deferred(
    monkeypatch: pytest.MonkeyPatch, new_store: NewStore, outside: Connection
) -> None:
    monkeypatch.setattr(records, "MAX_DEFERRED", 10)
    impatient, patient = new_store(db_statement_timeout=1), new_store()
    outside.run(f"SELECT pg_advisory_lock({MERGE})")
    truth = Truth()
    rows = [(who, "hubspot") for who in range(20)]
    truth.add(patient.records.add([record(*row) for row in rows]).id, rows)

    with pytest.raises(Unavailable):
        impatient.records.add([record(50, "hubspot")])
    truth.check(patient)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(patient.records.add, [record(60, "hubspot")])
        until_it_waits(impatient, "advisory")
        outside.run(f"SELECT pg_advisory_unlock({MERGE})")
        truth.add(done.result().id, [(60, "hubspot")])
    truth.check(impatient)
    assert pending(impatient) == 0


def test_deferred_customers_count_as_unchanged_in_a_snapshot(store: Store, outside: Connection) -> None:
    outside.run(f"SELECT pg_advisory_lock({MERGE})")
    store.records.add([record(1, "hubspot"), record(2, "hubspot")])
    outside.run(f"SELECT pg_advisory_unlock({MERGE})")
    load = waiting_load(store, [(2, "hubspot"), (3, "hubspot")], "replace", "hubspot")

    store.loads.finish(load)

    upload = store.uploads.get(load.id)
    assert upload
    assert upload.customers == CustomerChanges(1, 1, 1, new=1)
    assert store.maintenance.verify().agreed


def test_upload_that_is_being_loaded_is_not_deleted(new_store: NewStore, outside: Connection) -> None:
    loading, deleting = new_store(), new_store(db_statement_timeout=2)
    load = waiting_load(loading, [(1, "hubspot")])
    outside.run(f"SELECT pg_advisory_lock({MERGE})")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(loading.loads.finish, load)
        until_it_waits(deleting, "advisory")

        with pytest.raises(Conflict):
            deleting.uploads.delete(load.id)

        outside.run(f"SELECT pg_advisory_unlock({MERGE})")
        done.result()
    assert deleting.uploads.delete(load.id) == 1


def test_any_order_of_what_may_happen_counts_exactly(store: Store, outside: Connection) -> None:
    """Every operation after every other, with the lock held by somebody else or not, against brute force."""
    ids: st.SearchStrategy[CustomerId] = st.sampled_from([0, 1, 2, 3, "3a", "a", 'ä"\\', "0035g00000XyZ1aAAF"])
    rows = st.lists(st.tuples(ids, st.sampled_from(SOURCES)), min_size=1, max_size=6)

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            store.records.clear()
            self.truth, self.held = Truth(), False
            self.snapshots: list[tuple[int, str, bool]] = []
            """The upload and source of each, and whether it removed records. None changes any: all records of a
            customer in one source are equal here."""

        def teardown(self) -> None:
            self.release()

        @rule()
        def hold(self) -> None:
            if not self.held:
                outside.run(f"SELECT pg_advisory_lock({MERGE})")
                self.held = True

        @rule()
        def release(self) -> None:
            if self.held:
                outside.run(f"SELECT pg_advisory_unlock({MERGE})")
                self.held = False

        @rule(rows=rows)
        def upload(self, rows: list[tuple[CustomerId, str]]) -> None:
            self.truth.add(store.records.add([record(*row) for row in rows]).id, rows)

        @rule()
        def drain(self) -> None:
            store.maintenance.merge_deferred()
            store.maintenance.compact()

        @precondition(lambda self: not self.held)
        @rule(rows=rows)
        def load(self, rows: list[tuple[CustomerId, str]]) -> None:
            load = waiting_load(store, rows)
            before = {(who, of) for who, of, _ in self.truth.records}
            store.loads.finish(load)
            loaded = store.uploads.get(load.id)
            assert loaded
            customers, added = {who for who, _ in rows}, {who for who, _ in {*rows} - before}
            new = len(customers - {who for who, _ in before})
            assert loaded.customers == CustomerChanges(len(added), 0, len(customers - added), new)
            self.truth.add(load.id, rows)

        @precondition(lambda self: not self.held)
        @rule(customers=st.lists(ids, min_size=1, max_size=6), source=st.sampled_from(SOURCES))
        def snapshot(self, customers: list[CustomerId], source: str) -> None:
            load = waiting_load(store, [(who, source) for who in customers], "replace", source)
            before = {who for who, of, _ in self.truth.records if of == source}
            anywhere = {who for who, *_ in self.truth.records}
            store.loads.finish(load)
            loaded = store.uploads.get(load.id)
            assert loaded
            assert loaded.customers == CustomerChanges(
                len(set(customers) - before),
                len(before - set(customers)),
                len(set(customers) & before),
                len(set(customers) - anywhere),
            )
            records, rest = len(self.truth.records), Counter(customers)

            def stays(who: CustomerId, of: str, _upload: int) -> bool:
                rest[who] -= of == source
                return of != source or rest[who] >= 0

            self.truth.keep(stays)
            removed, added = records - len(self.truth.records), list((+rest).elements())
            assert loaded.records == RecordChanges(len(added), 0, removed, len(customers) - len(added))
            self.truth.add(load.id, [(who, source) for who in added])
            self.snapshots.append((load.id, source, removed > 0))

        @precondition(lambda self: not self.held and self.truth.records)
        @rule(data=st.data())
        def delete(self, data: st.DataObject) -> None:
            gone = data.draw(st.sampled_from(sorted({upload for *_, upload in self.truth.records})))
            counts = Counter(upload for *_, upload in self.truth.records)
            sources = {of for _, of, upload in self.truth.records if upload == gone}
            if any(upload == gone and removed for upload, _, removed in self.snapshots) or any(
                upload > gone and of in sources for upload, of, _ in self.snapshots
            ):
                with pytest.raises(NotUndoable):
                    store.uploads.delete(gone)
                return
            assert store.uploads.delete(gone) == counts[gone]
            self.truth.keep(lambda _who, _of, upload: upload != gone)
            self.snapshots = [one for one in self.snapshots if one[0] != gone]

        @precondition(lambda self: not self.held)
        @rule(gone=ids)
        def erase(self, gone: CustomerId) -> None:
            store.customers.erase(gone)
            self.truth.keep(lambda who, _of, _upload: who != gone)

        @precondition(lambda self: not self.held)
        @rule()
        def verify(self) -> None:
            assert store.maintenance.verify().agreed

        @invariant()
        def says_what_the_records_say(self) -> None:
            self.truth.check(store, page=2)
            assert store._database.read(maintenance._compare).agreed

    run_state_machine_as_test(Machine, settings=machine_settings(8, 50, steps=25))


def test_everything_at_once_is_exact_at_every_moment(new_store: NewStore) -> None:
    """Uploads, files, snapshots, deletions, erasures and clearings side by side; another looks all the time."""
    chance, ended = random.Random(5), threading.Event()
    uploads: list[int] = []
    looked = 0

    def rows(most: int) -> list[tuple[CustomerId, str]]:
        return [(chance.randrange(300), chance.choice(SOURCES)) for _ in range(chance.randrange(1, most))]

    def api(store: Store) -> None:
        for _ in range(120):
            uploads.append(store.records.add([record(*row) for row in rows(40)]).id)

    def load(store: Store) -> None:
        for _ in range(12):
            load = waiting_load(store, rows(600))
            # Where a snapshot that is newer was faster, and all rows are of its source.
            with suppress(Outdated):
                store.loads.finish(load)
                uploads.append(load.id)

    def snapshot(store: Store) -> None:
        for _ in range(8):
            store.loads.finish(waiting_load(store, [(who, "hubspot") for who, _ in rows(300)], "replace", "hubspot"))

    def remove(store: Store) -> None:
        for number in range(40):
            with suppress(Conflict):
                store.uploads.delete(chance.choice(uploads or [0]))
            store.customers.erase(chance.randrange(300))
            if number % 20 == 19:
                store.records.clear()

    def look(store: Store) -> None:
        nonlocal looked
        while not ended.is_set():
            assert store._database.read(maintenance._compare).agreed
            looked += 1

    with ThreadPoolExecutor(7) as pool:
        looking = pool.submit(look, new_store())
        jobs = [pool.submit(do, new_store()) for do in (api, api, load, load, snapshot, remove)]
        try:
            for job in jobs:
                job.result()
        finally:
            ended.set()
        looking.result()

    store = new_store()
    assert looked > 0
    assert store.maintenance.verify().agreed
    assert pending(store) == 0
