"""What happens to a caller when connections die: between requests, inside them, silently, or all the time."""

import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import pytest
from dedup.errors import Unavailable
from dedup.sets import EVERYBODY, Region, SetQuery
from dedup.settings import settings
from dedup.store import Store, connection

from tests.conftest import connect, ids_of, record, sample_records
from tests.proxy import Proxy


@pytest.fixture
def kill_all(environment: pytest.MonkeyPatch) -> Callable[[], int]:
    """Cuts every connection of the functions to this test's database; how many there were."""

    def kill() -> int:
        with connect() as admin:
            return len(
                admin.run(
                    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name = 'dedup'"""
                )
            )

    return kill


def total(store: Store) -> int:
    return store.questions.select({"ids": EVERYBODY}, {}, 1).records


def test_connection_killed_between_requests_is_replaced(store: Store, kill_all: Callable[[], int]) -> None:
    store.records.add(sample_records())
    assert kill_all() >= 1

    store.records.add([record(109, "hubspot")])

    assert total(store) == 13


def test_a_read_leaves_no_transaction_behind(store: Store) -> None:
    store.records.add(sample_records())
    assert total(store) == 12

    def states() -> set[str]:
        with connect() as admin:
            rows = admin.run(
                """SELECT state FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'dedup'"""
            )
        return {state for [state] in rows}

    deadline = time.monotonic() + 10
    while states() != {"idle"} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert states() == {"idle"}


def test_read_killed_inside_is_read_again(store: Store, kill_all: Callable[[], int]) -> None:
    store.records.add(sample_records())
    kills = iter([kill_all])

    class Killing(SetQuery):
        def select(self, regions: Collection[Region]) -> set[Region]:
            for kill in kills:
                kill()
            return super().select(regions)

    assert ids_of(store.questions.select({"ids": Killing()}, {}, 100)) == [*range(101, 109)]


@pytest.mark.parametrize("key", [None, "k"])
def test_write_killed_inside_is_written_once(store: Store, kill_all: Callable[[], int], key: str | None) -> None:
    kills = iter([kill_all])

    def work(connection: Any) -> None:
        connection.run("INSERT INTO region_change VALUES (1, 0, 1)")
        for kill in kills:
            kill()
        connection.run("SELECT 1")

    store._database.write(work, repeatable=key is not None)

    assert total(store) == 1


def test_commit_that_is_lost_is_not_repeated_without_a_key(store: Store, kill_all: Callable[[], int]) -> None:
    def work(connection: Any) -> None:
        connection.run("INSERT INTO region_change VALUES (1, 0, 1)")
        kill_all()

    with pytest.raises(Unavailable, match="may have been written"):
        store._database.write(work, repeatable=False)

    assert total(store) in (0, 1)


def test_kills_all_the_time_lose_and_double_nothing(
    new_store: Callable[..., Store], kill_all: Callable[[], int]
) -> None:
    done = threading.Event()
    stores = [new_store() for _ in range(3)]
    answered: list[int] = []

    def upload(number: int) -> None:
        for batch in range(25):
            first = (number * 25 + batch) * 200
            records = [record(n, "hubspot") for n in range(first, first + 200)]
            while True:
                with suppress(Unavailable):
                    stores[number].records.add(records, key=f"{number}-{batch}", digest="d")
                    answered.append(len(records))
                    break

    def kill() -> None:
        while not done.is_set():
            kill_all()
            time.sleep(0.03)

    killer = threading.Thread(target=kill)
    uploaders = [threading.Thread(target=upload, args=(number,)) for number in range(3)]
    for thread in [killer, *uploaders]:
        thread.start()
    for thread in uploaders:
        thread.join()
    done.set()
    killer.join()

    assert total(stores[0]) == sum(answered) == 3 * 25 * 200
    assert stores[0].maintenance.verify().agreed


def test_silent_connection_is_noticed_before_it_is_used(new_store: Callable[..., Store]) -> None:
    proxy = Proxy(settings().db_host, settings().db_port)
    store = new_store(db_port=proxy.port)
    store.records.add(sample_records())
    store._database._used_at -= 60
    stale = store._database._connection
    proxy.silent.set()
    threading.Timer(0.3, proxy.silent.clear).start()

    assert total(store) == 12
    assert store._database._connection is not stale
    proxy.close()


def test_health_answers_within_three_seconds_when_the_database_is_silent(new_store: Callable[..., Store]) -> None:
    proxy = Proxy(settings().db_host, settings().db_port)
    store = new_store(db_port=proxy.port)
    store.ping()
    proxy.silent.set()
    started = time.monotonic()

    with pytest.raises(Unavailable):
        store.ping()

    assert time.monotonic() - started < 3
    proxy.close()


def test_database_that_does_not_listen_is_unavailable(new_store: Callable[..., Store]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(Unavailable):
        new_store(db_port=port).ping()


def test_wrong_password_is_unavailable_and_not_shown(new_store: Callable[..., Store]) -> None:
    with pytest.raises(Unavailable) as refused:
        new_store(db_password="wrong-password").ping()

    assert "wrong-password" not in str(refused.value)


def test_statement_over_its_time_is_unavailable_and_leaves_a_connection_that_works(
    new_store: Callable[..., Store],
) -> None:
    store = new_store(db_statement_timeout=0.2)

    with pytest.raises(Unavailable, match="57014"):
        store._database.read(lambda connection: connection.run("SELECT pg_sleep(5)"))

    store.records.add(sample_records())
    assert total(store) == 12


BACKSLASHES = [
    "C:\\Users\\Ann",
    "\\",
    "\\'",
    "\\' || pg_sleep(60)::text || '",
    "\\'); DELETE FROM record; --",
    "\\n\\u0041",
]


@pytest.fixture
def escapes(store: Store) -> Iterator[None]:
    """The database takes backslashes in literals for escapes, as PostgreSQL did before 9.1."""
    with connect() as owner:
        owner.run(f"ALTER DATABASE {settings().db_name} SET standard_conforming_strings = off")
        yield
        owner.run(f"ALTER DATABASE {settings().db_name} RESET standard_conforming_strings")


@pytest.mark.parametrize("option", ["sent", "refused"])
def test_backslash_is_a_backslash_whatever_the_database_takes_it_for(
    escapes: None, new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    if option == "refused":
        # A proxy takes no options.
        monkeypatch.delitem(connection._SESSION, "standard_conforming_strings")
    store = new_store()

    # One by one in literals, and together by COPY.
    for name in BACKSLASHES:
        store.records.add([record(1, "hubspot", name=name)])
    store.records.add([record(2, "hubspot", name=name) for name in BACKSLASHES])

    stored = json.loads(store.records.page(None, 100)[0])
    assert [one["name"] for one in stored] == [*BACKSLASHES, *BACKSLASHES]
    with connect() as other:
        assert other.run("SHOW standard_conforming_strings") == [["off"]]
