import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest
from dedup import sets
from dedup.customer_ids import CustomerId
from dedup.errors import KeyReused
from dedup.sets import EVERYBODY, SetQuery
from dedup.store import Store
from dedup.store.records import COMPACT_EVERY
from dedup.store.set_questions import Selection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import budget, ids_of, record, sample_records


def everyone(store: Store, limit: int = 10_000) -> Selection:
    return store.questions.select({"ids": EVERYBODY}, {}, limit)


def walk(store: Store, query: SetQuery, limit: int) -> Iterable[list[int]]:
    after: Mapping[str, CustomerId] | None = {}
    while after is not None:
        found = store.questions.select({"ids": query}, after, limit)
        yield ids_of(found)
        after = found.next_positions(after)


def test_duplicates_inside_one_source_are_kept_and_counted(store: Store) -> None:
    store.records.add([record(1, "hubspot"), record(1, "hubspot"), record(1, "hubspot")])
    store.records.add([record(1, "hubspot")])

    found = everyone(store)

    assert (found.records, sets.count(found.regions)) == (4, 1)


def test_customer_moves_to_the_region_of_its_new_source(store: Store) -> None:
    store.records.add([record(1, "hubspot"), record(2, "hubspot")])
    store.records.add([record(1, "internal")])

    assert store.questions.counts() == {frozenset({"hubspot"}): 1, frozenset({"hubspot", "internal"}): 1}


def test_keyed_upload_sent_again_gets_the_first_answer_and_writes_nothing(store: Store) -> None:
    first = store.records.add(sample_records(), key="k", digest="d")

    again = store.records.add(sample_records(), key="k", digest="d")

    assert (again.id, again.accepted, again.repeated) == (first.id, first.accepted, True)
    assert everyone(store).records == 12


def test_key_with_other_content_is_refused(store: Store) -> None:
    store.records.add(sample_records(), key="k", digest="d")

    with pytest.raises(KeyReused):
        store.records.add(sample_records(), key="k", digest="other")

    assert everyone(store).records == 12


def test_same_key_at_the_same_moment_writes_once(new_store: Callable[..., Store]) -> None:
    stores = [new_store() for _ in range(6)]
    records = [record(n, "hubspot") for n in range(2000)]
    start = threading.Barrier(len(stores))

    def upload(store: Store) -> Any:
        start.wait()
        return store.records.add(records, key="k", digest="d")

    with ThreadPoolExecutor(len(stores)) as pool:
        uploads = list(pool.map(upload, stores))

    assert len({upload.id for upload in uploads}) == 1
    assert Counter(upload.repeated for upload in uploads) == {False: 1, True: 5}
    assert everyone(stores[0], 1).records == 2000


def test_failed_upload_leaves_nothing(store: Store) -> None:
    impossible = {**record(2, "hubspot"), "customer_id": 2**70}

    with pytest.raises(Exception, match="out of range"):
        store.records.add([record(1, "hubspot"), impossible], key="k", digest="d")

    assert everyone(store).records == 0
    assert not store.records.add([record(1, "hubspot")], key="k", digest="e").repeated


def test_overlapping_concurrent_uploads_count_exactly(new_store: Callable[..., Store]) -> None:
    stores = [new_store() for _ in range(4)]
    sources = ("salesforce", "hubspot", "internal")

    def upload(number: int) -> None:
        for batch in range(5):
            ids = [(number * 131 + batch * 57 + n * 7919) % 3000 for n in range(1000)]
            stores[number].records.add([record(who, sources[(number + batch) % 3]) for who in ids])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(4)))

    assert everyone(stores[0], 1).records == 20_000
    assert stores[0].maintenance.verify().agreed


def test_clear_beside_uploads_leaves_whole_uploads_only(new_store: Callable[..., Store]) -> None:
    uploading, clearing = new_store(), new_store()
    done = threading.Event()
    deleted = []

    def clear() -> None:
        while not done.is_set():
            deleted.append(clearing.records.clear())

    thread = threading.Thread(target=clear)
    thread.start()
    for _ in range(40):
        uploading.records.add([record(n, "hubspot") for n in range(100)])
    done.set()
    thread.join()

    left = everyone(uploading, 1).records
    assert sum(deleted) + left == 4000
    assert all(count % 100 == 0 for count in [*deleted, left])
    assert uploading.maintenance.verify().agreed


def test_clear_forgets_no_key(store: Store) -> None:
    first = store.records.add(sample_records(), key="k", digest="d")
    store.records.clear()

    assert store.records.add(sample_records(), key="k", digest="d").id == first.id
    assert everyone(store).records == 0


def test_walk_gives_each_id_once_while_others_upload(new_store: Callable[..., Store]) -> None:
    reading, writing = new_store(), new_store()
    there = list(range(0, 4000, 2))
    reading.records.add([record(n, "hubspot") for n in there])
    done = threading.Event()

    def write() -> None:
        number = 1
        while not done.is_set():
            writing.records.add([record(n % 4000, "internal") for n in range(number, number + 200, 2)])
            number += 200

    thread = threading.Thread(target=write)
    thread.start()
    walked = list(chain.from_iterable(walk(reading, EVERYBODY, 50)))
    records = []
    after: int | None = 0
    while after is not None:
        text, after = reading.records.page(after, 100)
        records += [line["id"] for line in json.loads(text)]
    done.set()
    thread.join()

    assert walked == sorted(set(walked))
    assert set(there) <= set(walked)
    assert records == sorted(set(records))
    assert len(records) >= len(there)


def test_four_sources_answer_every_set_question(
    environment: pytest.MonkeyPatch, new_store: Callable[..., Store]
) -> None:
    environment.setenv("SOURCES", "salesforce,hubspot,internal,web_shop")
    from dedup.settings import settings as current

    current.cache_clear()
    store = new_store()
    store.records.add([*sample_records(), record(103, "web_shop"), record(201, "web_shop")])

    regions = store.questions.counts()

    assert regions[frozenset({"salesforce", "hubspot", "web_shop"})] == 1
    assert SetQuery(frozenset({"web_shop"}), frozenset({"internal"})).count(regions) == 2
    assert list(walk(store, SetQuery(exactly=frozenset({"web_shop"})), 10)) == [[201]]


def test_changes_are_compacted_and_nothing_changes(store: Store) -> None:
    for number in range(COMPACT_EVERY + 3):
        store.records.add([record(number, "hubspot"), record(number, "internal")])

    rows = store._database.read(lambda connection: connection.run("SELECT count(*) FROM region_change"))

    assert rows[0][0] < 30
    assert store.questions.counts() == {frozenset({"hubspot", "internal"}): COMPACT_EVERY + 3}
    assert store.maintenance.verify().agreed


def test_compactions_beside_uploads_lose_nothing(new_store: Callable[..., Store]) -> None:
    stores = [new_store() for _ in range(4)]
    done = threading.Event()

    def compact(store: Store) -> None:
        while not done.is_set():
            store.maintenance.compact()

    threads = [threading.Thread(target=compact, args=(store,)) for store in stores[1:]]
    for thread in threads:
        thread.start()
    for number in range(100):
        stores[0].records.add([record(number % 50, "hubspot" if number < 50 else "internal")])
    done.set()
    for thread in threads:
        thread.join()

    assert stores[0].questions.counts() == {frozenset({"hubspot", "internal"}): 50}
    assert stores[0].maintenance.verify().agreed


@pytest.mark.parametrize(
    ("damage", "customers", "regions"),
    [
        ("UPDATE customer_membership SET sources = 7 WHERE customer_id = 101", 1, 0),
        ("DELETE FROM customer_membership WHERE customer_id IN (101, 102)", 2, 0),
        ("INSERT INTO customer_membership VALUES (999, 1)", 1, 0),
        ("DELETE FROM region_change", 0, 6),
        ("INSERT INTO region_change VALUES (1, 5, 3), (32, 1, 0)", 0, 2),
    ],
)
def test_verify_mends_what_was_damaged(store: Store, damage: str, customers: int, regions: int) -> None:
    store.records.add(sample_records())
    before = store.questions.counts()
    store._database.write(lambda connection: connection.run(damage), repeatable=False)

    found = store.maintenance.verify()

    assert not found.agreed
    assert found.wrong_customers == customers
    assert found.wrong_regions >= min(regions, 1)
    assert store.maintenance.verify().agreed
    assert store.questions.counts() == before
    assert everyone(store).records == 12


names = st.text(min_size=1, max_size=255).filter(lambda text: not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text))
storable = names.filter(lambda text: text.strip() and not any(0xD800 <= ord(c) < 0xE000 for c in text))


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), storable), min_size=1, max_size=20))
@settings(max_examples=budget(15, 100), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_records_come_back_as_they_went_in(store: Store, people: list[tuple[int, str]]) -> None:

    store.records.clear()
    records = [record(who, "hubspot", name=name, email="a.b+c@example.com") for who, name in people]

    store.records.add(records)

    text, _ = store.records.page(None, 1000)
    assert [(r["customer_id"], r["name"], r["email"]) for r in json.loads(text)] == [
        (r["customer_id"], r["name"], r["email"]) for r in records
    ]
    assert ids_of(everyone(store)) == sorted({who for who, _ in people})


def test_page_ends_early_where_it_would_be_too_large(store: Store) -> None:
    store.records.add([record(n, "hubspot", name="\U0001f600" * 255) for n in range(3000)])

    text, after = store.records.page(None, 3000)

    assert len(text.encode()) <= 2_000_000
    assert after is not None
