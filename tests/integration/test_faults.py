"""Faults of the network and of PostgreSQL, injected for real: what the caller sees, and what is there afterwards.

docs/explanation/consistency-and-faults.md has a row for each of these tests.
"""

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dedup import sets
from dedup.errors import Busy, Superseded, Unavailable
from dedup.sets import EVERYBODY
from dedup.settings import settings
from dedup.store import Store, change_log, connection, open_store
from dedup.store.load_attempt import Decision
from dedup.store.load_effects import RowsLost
from pg8000.native import Connection

from local.postgres import Postgres
from tests.conftest import FULL, connect, ids_of, record, sample_records
from tests.follower import Follower, ids_of_records
from tests.proxy import Fault, Pair, Proxy, half_open, reset_after, reset_before, reset_within

NewStore = Callable[..., Store]
RECORDS = [record(n, source) for n in range(200, 230) for source in ("hubspot", "internal")]
FILE = [(n, f"Customer {n}", f"c{n}@example.com", "hubspot") for n in range(210, 260)]


def terminate(pair: Pair, data: bytes) -> bool:
    """pg_terminate_backend() on the connection."""
    with connect() as admin:
        port = pair.server.getsockname()[1]
        admin.run(f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE client_port = {port}")
    return True


@pytest.fixture
def proxy(environment: pytest.MonkeyPatch) -> Iterator[Proxy]:
    made = Proxy(settings().db_host, settings().db_port)
    yield made
    made.close()


def total(store: Store) -> int:
    return store.questions.select({"ids": EVERYBODY}, {}, 1).records


def everyone(store: Store) -> list[int]:
    return ids_of(store.questions.select({"ids": EVERYBODY}, {}, 10_000))


def until_done(work: Callable[[], Any]) -> tuple[Any, int]:
    """What it returns at last, and how often it was Unavailable before, as a client that tries again sees it."""
    for refused in range(10):
        try:
            return work(), refused
        except (Unavailable, Busy, Superseded):
            time.sleep(0.02 * 2**refused)
    raise AssertionError("it is not done after ten tries")


# One operation each: what a client does, and how many records there are when it is done. Twelve are there before, of
# the upload `first`.


def keyed_upload(store: Store, first: int) -> int:
    assert store.records.add(RECORDS, key="k", digest="d").accepted == len(RECORDS)
    return 12 + len(RECORDS)


def file(store: Store, first: int) -> int:
    """A load as ingest.py does it, whose event comes again until it is done."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    load = store.loads.claim("file", "incoming/hubspot/a.csv", at, "hubspot", "add", lease=0)
    if load:
        store.loads.stage(load, FILE[:20], 20, 0)
        store.loads.stage(load, FILE[20:], len(FILE), 0)
        store.loads.finish(load)
    return 12 + len(FILE)


def snapshot(store: Store, first: int) -> int:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    load = store.loads.claim("file", "incoming/hubspot/a.csv", at, "hubspot", "replace", 0)
    if load:
        store.loads.stage(load, FILE, len(FILE), 0)
        store.loads.finish(load)
    return 8 + len(FILE)


def upsert(store: Store, first: int) -> int:
    """The rows of the file, and a customer who is marked as deleted."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    load = store.loads.claim("file", "incoming/hubspot/a.csv", at, "hubspot", "upsert", 0)
    if load:
        store.loads.stage(load, FILE, len(FILE), 0)
        store.loads.stage(load, [(103, None, None, "hubspot", "true")], len(FILE) + 1, 0, known=["deleted"])
        store.loads.finish(load)
    return 11 + len(FILE)


def preview(store: Store, first: int) -> int:
    return decided(store, "apply")


def held(store: Store, first: int) -> int:
    """A snapshot that removes what is the only upload of a hundred customers."""
    store.records.add([record(n, "hubspot") for n in range(1000, 1100)], key="many", digest="d")
    return decided(store, "release")


def decided(store: Store, decision: Decision) -> int:
    """A snapshot that is compared, decided about and loaded, each step until it is done."""
    at, dry_run = datetime(2026, 1, 1, tzinfo=UTC), decision == "apply"
    while load := store.loads.claim("file", "incoming/hubspot/a.csv", at, "hubspot", "replace", 0, dry_run=dry_run):
        store.loads.stage(load, FILE, len(FILE), 0)
        loaded = store.loads.finish(load, max_removed=0)
        assert loaded == (load.decision == decision)
        if loaded:
            break
        store.previews.decide(load.id, decision)
    upload = store.uploads.with_key("file")
    assert upload
    if upload.status != "done":
        # The answer of finish() was lost.
        store.previews.decide(upload.id, decision)
        return decided(store, decision)
    return 8 + len(FILE)


def delete_upload(store: Store, first: int) -> int:
    store.uploads.delete(first)
    return 0


def erase(store: Store, first: int) -> int:
    store.customers.erase(103)
    return 10


def clear(store: Store, first: int) -> int:
    store.records.clear()
    return 0


def read(store: Store, first: int) -> int:
    assert everyone(store) == [*range(101, 109)]
    return 12


FAULTS: list[Fault] = [reset_before, reset_within, reset_after, terminate]
OPERATIONS = [keyed_upload, file, snapshot, upsert, *[held, preview] * FULL, delete_upload, erase, clear, read]


def cut_at_every_step(
    direct: Store, new_store: NewStore, proxy: Proxy, turn: int, at_least: int
) -> Iterator[tuple[int, Store]]:
    """A store in an empty database, and the step at which its connection is cut: once for each step, until what is done
    with it needs no more. There must be more than `at_least`."""
    for step in itertools.count():
        _empty(direct)
        proxied = new_store(db_port=proxy.port)
        proxy.plan(step, FAULTS[(step + turn) % len(FAULTS)])
        yield step, proxied
        happened = proxy.happened
        proxy.forget()
        proxied.close()
        if not happened:
            assert step > at_least
            return


@pytest.mark.parametrize("turn", range(len(FAULTS)) if FULL else [0])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_connection_cut_at_every_step_loses_and_doubles_nothing(
    new_store: NewStore, proxy: Proxy, operation: Callable[[Store, int], int], turn: int
) -> None:
    """At the first piece that a client sends, at the second, and so on until the operation needs no more; with one
    fault after the other, or in `make test-full` with each of them at each step."""
    direct = new_store()
    for step, proxied in cut_at_every_step(direct, new_store, proxy, turn, at_least=3):
        first = direct.records.add(sample_records()).id
        follower = Follower(direct, "follower")

        expected, _ = until_done(partial(operation, proxied, first))

        assert total(direct) == expected, step
        assert direct.maintenance.verify().agreed, step
        follower.catch_up()
        assert follower.ids == ids_of_records(direct), step


@pytest.mark.parametrize("turn", range(len(FAULTS)) if FULL else [0])
def test_consumer_of_the_change_log_cut_at_every_step_consumes_each_change_once(
    new_store: NewStore, proxy: Proxy, turn: int
) -> None:
    """It writes down the changes in the transaction with its position, as the resolver does with what it derives."""
    direct = new_store()

    def consume(store: Store) -> None:
        while (batch := store.change_log.read("consumer", 5)).changes:

            def work(connection: Connection) -> None:
                for change in batch.changes:
                    connection.run(f"INSERT INTO consumed VALUES {tuple(change)}")
                change_log.commit(connection, "consumer", batch)

            store._database.write(work, repeatable=False)

    with connect() as owner:
        owner.run("CREATE TABLE consumed (entry bigint, operation text, first bigint, last bigint)")
    for step, proxied in cut_at_every_step(direct, new_store, proxy, turn, at_least=8):
        direct.change_log.register("consumer")
        direct.records.add(sample_records())
        direct.customers.erase(103)

        until_done(partial(consume, proxied))

        with connect() as owner:
            consumed = owner.run("DELETE FROM consumed RETURNING operation, first, last")
        [[first]] = direct._database.read(lambda connection: connection.run("SELECT min(id) FROM record"))
        inserted = [["inserted", first + n, min(first + n + 4, first + 11)] for n in range(0, 12, 5)]
        assert consumed == [*inserted, ["deleted", first + 2, first + 2], ["deleted", first + 4, first + 4]], step
        assert direct.maintenance.verify().agreed, step


@pytest.mark.parametrize("fault", [reset_before, reset_after])
def test_upload_without_a_key_is_there_whole_or_not_at_all(new_store: NewStore, proxy: Proxy, fault: Fault) -> None:
    direct, outcomes = new_store(), set()
    for step in itertools.count():
        _empty(direct)
        proxied = new_store(db_port=proxy.port)
        proxy.plan(step, fault)
        outcome = "stored"
        try:
            proxied.records.add(RECORDS)
        except Unavailable as refusal:
            outcome = str(refusal)
        outcomes.add(outcome)
        possible = {0, len(RECORDS)} if "may have been" in outcome else {len(RECORDS) if outcome == "stored" else 0}
        assert total(direct) in possible
        assert direct.maintenance.verify().agreed
        if not proxy.happened:
            break

    assert "stored" in outcomes


def test_half_open_connection_at_every_step_is_given_up_and_its_locks_are_let_go(
    new_store: NewStore, environment: pytest.MonkeyPatch
) -> None:
    """Side by side, as each waits for its timeout. The server never hears that its client is gone."""
    environment.setattr(connection, "_SESSION", {"idle_in_transaction_session_timeout": "1000"})
    steps = 16
    direct = new_store()
    proxies = [Proxy(settings().db_host, settings().db_port) for _ in range(steps)]
    stores = [new_store(db_port=proxy.port, db_statement_timeout=0.5) for proxy in proxies]

    def upload(step: int) -> int:
        proxies[step].plan(step, half_open)
        records = [record(1000 * step + n, "hubspot") for n in range(20)]
        return until_done(lambda: stores[step].records.add(records, key=str(step), digest="d"))[1]

    with ThreadPoolExecutor(steps) as pool:
        refused = list(pool.map(upload, range(steps)))

    assert sum(map(bool, refused)) > 3
    assert total(direct) == 20 * steps
    # Nobody holds a lock any more: this one needs them all.
    assert direct.records.clear() == 20 * steps
    for proxy in proxies:
        proxy.close()


def test_latency_only_takes_time(new_store: NewStore, proxy: Proxy) -> None:
    proxy.latency = 0.03
    store = new_store(db_port=proxy.port)

    store.records.add(sample_records(), key="k", digest="d")

    assert everyone(store) == [*range(101, 109)]
    assert store.maintenance.verify().agreed


def test_deadlock_is_tried_again(new_store: NewStore) -> None:
    ours, other = new_store(), new_store()
    ours.records.add(sample_records())
    locked, through, tries = threading.Event(), threading.Event(), 0

    def lock(connection: Connection, customer: int) -> None:
        connection.run(f"SELECT FROM customer_membership WHERE customer_id = {customer} FOR UPDATE")

    def first_this(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        # A lock that was given up goes to whoever comes first, which may be this one again.
        assert tries == 1 or through.wait(10)
        connection.run("SET LOCAL deadlock_timeout = '100ms'")
        lock(connection, 101)
        if tries == 1:
            locked.set()
            time.sleep(0.3)
        lock(connection, 102)
        connection.run("UPDATE customer_membership SET previous = 0 WHERE customer_id = 101")

    def first_that(connection: Connection) -> None:
        connection.run("SET LOCAL deadlock_timeout = '60s'")
        lock(connection, 102)
        locked.wait(10)
        lock(connection, 101)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(other._database.write, first_that, repeatable=False)
        done.add_done_callback(lambda _: through.set())
        ours._database.write(first_this, repeatable=False)
        done.result()

    assert tries == 2
    assert ours.maintenance.verify().agreed


@pytest.mark.parametrize(("failures", "written"), [(2, 1), (3, 0)])
def test_serialization_failure_is_tried_three_times(store: Store, failures: int, written: int) -> None:
    left = iter(range(failures))

    def work(connection: Connection) -> None:
        connection.run("INSERT INTO region_change VALUES (1, 0, 1)")
        for _ in left:
            connection.run("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")

    if written:
        store._database.write(work, repeatable=False)
    else:
        with pytest.raises(Unavailable, match="40001"):
            store._database.write(work, repeatable=False)

    assert total(store) == written


def _empty(store: Store) -> None:
    """As new: what was uploaded is forgotten too."""
    tables = ["region_change", "deferred_membership", "customer_membership", "record", "record_change"]
    tables += ["upload", "upload_preview"]
    log = "UPDATE change_log SET trimmed_position = last_position, records = 0, id_sum = 0; DELETE FROM change_consumer"
    store._database.write(
        lambda connection: connection.run(";".join([*(f"DELETE FROM {table}" for table in tables), log])),
        repeatable=True,
    )


# A server of its own, which may die


@pytest.fixture
def server(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[Postgres]:
    made = Postgres(tmp_path, durable=False)
    try:
        made.start()
        _lead_to(made, environment)
        yield made
    finally:
        open_store().close()
        made.remove()


def _lead_to(server: Postgres, environment: pytest.MonkeyPatch) -> None:
    for name, value in server.create_database("dedup").environment().items():
        environment.setenv(name, value)
    settings.cache_clear()
    open_store.cache_clear()
    open_store().schema.migrate()


def kill_and_start(server: Postgres) -> None:
    """kill -9 of all of its processes, and a start."""
    assert server._server
    os.kill(server._server.pid, signal.SIGKILL)
    server.stop()
    server.start()


def test_postgresql_killed_amid_uploads_and_started_again_has_all_that_was_answered(server: Postgres) -> None:
    stop, answered, refused = threading.Event(), [0, 0], [0, 0]

    def upload(number: int) -> None:
        store = open_store().with_own_connection()
        while not stop.is_set():
            first = 1_000_000 * number + 200 * answered[number]
            records = [record(n, "hubspot") for n in range(first, first + 200)]
            try:
                store.records.add(records, key=str(first), digest="d")
                answered[number] += 1
            except Unavailable:
                refused[number] += 1
                time.sleep(0.05)
        store.close()

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = sum(answered)
        deadline = time.monotonic() + 20
        while sum(answered) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        kill_and_start(server)
    stop.set()
    for thread in threads:
        thread.join()

    # An upload whose answer was lost may be there as well: its client would have sent it again.
    store = open_store()
    whole = total(store) // 200
    assert total(store) % 200 == 0
    assert sum(answered) <= whole <= sum(answered) + 2
    assert sum(refused) > 0
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("mode", ["add", "replace", "upsert"])
def test_postgresql_killed_amid_a_file_makes_it_load_anew(server: Postgres, mode: str) -> None:
    """The rows that wait do not outlive a crash. A load that goes on after it must not take the rest for the whole."""
    store = open_store()
    store.records.add(sample_records())
    key, at = "file", datetime(2026, 1, 1, tzinfo=UTC)
    load = store.loads.claim(key, "incoming/hubspot/a.csv", at, "hubspot", mode, 60)
    assert load
    store.loads.stage(load, FILE[:20], 20, 0)
    kill_and_start(server)
    until_done(lambda: store.loads.stage(load, FILE[20:], len(FILE), 0))

    with pytest.raises(RowsLost):
        store.loads.finish(load)
    assert total(store) == 12
    store.loads.interrupt(load, "Interrupted")
    again = store.loads.claim(key, "incoming/hubspot/a.csv", at, "hubspot", mode, 60)
    assert again
    store.loads.stage(again, FILE, len(FILE), 0)
    store.loads.finish(again)

    assert total(store) == len(FILE) + (8 if mode == "replace" else 12)
    assert store.maintenance.verify().agreed


def test_disk_that_is_full_refuses_and_loses_nothing(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own can only be mounted by root")
    server = Postgres(tmp_path, durable=False)
    server.place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(server.place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        server.place.rmdir()
        pytest.skip("nothing can be mounted here")
    try:
        server.start()
        _lead_to(server, environment)
        ballast = server.place / "ballast"
        ballast.write_bytes(bytes(os.statvfs(server.place).f_bavail * os.statvfs(server.place).f_bsize - 12_000_000))
        store = open_store()

        def upload(number: int) -> None:
            records = [record(n, "hubspot", name="x" * 200) for n in range(number * 2000, number * 2000 + 2000)]
            store.records.add(records, key=str(number), digest="d")

        answered = 0
        try:
            for answered in range(100):
                upload(answered)
        except Unavailable:
            pass
        else:
            raise AssertionError("the disk is not full")

        ballast.unlink()
        store.close()

        def revived() -> None:
            # The disk was full for its recovery too: it may have ended, or be about to. make run starts it again.
            if server.ended is not None:
                server.restart()
            store.ping()

        until_done(revived)
        until_done(lambda: upload(answered))

        assert total(store) == 2000 * (answered + 1)
        assert sets.count(store.questions.counts()) == 2000 * (answered + 1)
        assert store.maintenance.verify().agreed
        store.close()
    finally:
        server.stop()
        subprocess.run(["umount", str(server.place)], check=True)
        server.remove()


def test_backup_restored_answers_the_same(server: Postgres) -> None:
    """pg_dump and pg_restore, as they come with PostgreSQL."""
    store = open_store()
    store.records.add(sample_records(), key="k", digest="d", principal="me")
    store.customers.erase(108)
    before = (everyone(store), store.questions.counts(), store.records.page(None, 100), store.uploads.page(None, 10))
    at, copy = server.settings("dedup"), server.create_database("restored")
    programs = server._programs()
    environment = {"PGPASSWORD": at.password, "PATH": os.environ["PATH"]}
    where = ["--host", at.host, "--port", str(at.port), "--username", at.user, "--no-password"]
    dump = subprocess.run(
        [programs / "pg_dump", *where, "--format=custom", at.name], env=environment, capture_output=True, check=True
    )
    store.records.add([record(999, "hubspot")])

    subprocess.run(
        [programs / "pg_restore", *where, "--exit-on-error", "--dbname", copy.name],
        input=dump.stdout,
        env=environment,
        capture_output=True,
        check=True,
    )

    restored = Store(connection.Database(settings().model_copy(update={"db_name": copy.name})))
    after = (everyone(restored), restored.questions.counts(), restored.records.page(None, 100))
    assert (*after, restored.uploads.page(None, 10)) == before
    assert restored.schema.migrate() == []
    assert restored.records.add(sample_records(), key="k", digest="d").repeated
    assert restored.maintenance.verify().agreed
    restored.records.add([record(1, "internal")])
    restored.close()
