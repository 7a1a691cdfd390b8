"""Upserts: rows replace the records of their ids, marked rows remove them, and all other records stay."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from dedup.errors import NotUndoable
from dedup.services import ingest
from dedup.store import Store, upserts
from dedup.store.load_effects import Outdated
from dedup.store.uploads import CustomerChanges, RecordChanges, Upload
from pg8000.native import Connection

from tests.conftest import api_event
from tests.integration.test_ingest import load, plenty, put
from tests.integration.test_snapshots import (
    EPOCH,
    Content,
    content,
    entities,
    ids,
    loaded,
    matched,
    query,
    resolve,
    staged,
    stale_members,
)

__all__ = ["load", "put"]

MONDAY, TUESDAY = EPOCH + timedelta(days=1), EPOCH + timedelta(days=2)
Row = tuple[int | str, Content]


def upserted(store: Store, *rows: Row, deleted: Sequence[int | str] = (), **more: Any) -> Upload:
    """Loads an upsert of hubspot. `deleted`: ids of further rows, which are marked."""
    stated = [*((who, "hubspot", what) for who, what in rows), *((who, "hubspot", content()) for who in deleted)]
    marks = [False] * len(rows) + [True] * len(deleted)
    upload = staged(store, stated, "upsert", deleted=marks, **more)
    store.loads.finish(upload)
    found = store.uploads.get(upload.id)
    assert found
    return found


def names(store: Store) -> list[list[Any]]:
    return list(query(store, "SELECT coalesce(customer_id::text, text_id), name FROM record ORDER BY id"))


def test_rows_replace_add_and_remove_and_the_rest_stays(store: Store) -> None:
    first = loaded(store, (1, content("Ann")), (2, content("Bob")), ("c", content("Cy")), (4, content("Di")))
    loaded(store, (1, content("Ann")), source="internal")

    upload = upserted(store, (2, content("Bea")), ("c", content("Cy")), (5, content("Ed")), deleted=[1, 9])

    assert upload.records == RecordChanges(1, 1, 1, 1)
    assert upload.customers == CustomerChanges(1, 1, 2, new=1)
    assert (upload.rows, upload.accepted, upload.reason) == (5, 5, None)
    assert names(store) == [["2", "Bea"], ["4", "Di"], ["c", "Cy"], ["1", "Ann"], ["5", "Ed"]]
    written = dict(query(store, "SELECT name, upload_id FROM record WHERE updated_at IS NOT NULL"))
    assert written == {"Bea": upload.id}
    assert query(store, f"SELECT count(*) FROM record WHERE upload_id = {first.id}") == [[2]]
    assert store.maintenance.verify().agreed


def test_upsert_into_an_empty_source_adds_one_record_for_each_id(store: Store) -> None:
    upload = upserted(store, (1, content("Ann")), (1, content("Anna")), ("x", content()))

    assert (upload.records, upload.accepted) == (RecordChanges(2, 0, 0, 0), 3)
    assert names(store) == [["1", "Anna"], ["x", "Ann"]]


def at(day: int, name: str) -> Content:
    return content(name, modified_at=f"2026-01-0{day}T00:00:00Z")


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([content("A"), content("B")], "B"),
        ([at(2, "A"), at(1, "B")], "A"),
        ([at(1, "A"), at(1, "B")], "B"),
        ([at(1, "A"), content("B")], "A"),
    ],
    ids=["the last", "the latest", "the last of the latest", "a time before none"],
)
def test_of_several_rows_of_one_id_one_counts(store: Store, rows: list[Content], name: str) -> None:
    loaded(store, (1, content()))

    upload = upserted(store, *((1, row) for row in rows))

    assert (upload.records, upload.accepted) == (RecordChanges(0, 1, 0, 0), 2)
    assert names(store) == [["1", name]]


def test_row_that_is_older_than_the_record_is_left_out_and_said_so(store: Store) -> None:
    loaded(store, (1, at(5, "Ann")), (2, content("Bob")), (3, at(5, "Cy")))

    upload = upserted(store, (1, at(4, "Old")), (2, at(1, "Bea")), (3, content("Undated")), (4, at(1, "New")))

    assert upload.records == RecordChanges(1, 2, 0, 0)
    assert upload.accepted == 3
    assert upload.reason == "1 rows were left out. The records in place were modified later than 1 of the rows"
    assert names(store) == [["1", "Ann"], ["2", "Bea"], ["3", "Undated"], ["4", "New"]]


def test_row_that_is_older_than_a_deletion_does_not_bring_the_record_back(store: Store) -> None:
    load = staged(store, [(1, "hubspot", at(5, "Ann"))], "upsert", deleted=[True])
    store.loads.finish(load)

    upload = upserted(store, (1, at(4, "Old")))

    assert (upload.status, upload.accepted, ids(store)) == ("done", 0, [])
    assert upserted(store, (1, at(6, "Ann"))).records == RecordChanges(1, 0, 0, 0)


def test_records_of_one_id_become_one_and_the_most_similar_stays(store: Store) -> None:
    for one in (content("Ann", "a@x.org"), content("Bob", "b@x.org"), content("Cy", "c@x.org")):
        loaded(store, (1, one), (2, one), (3, one), (4, one), mode="add")

    upload = upserted(
        store,
        (1, content("Cy", "c@x.org")),
        (2, content("Bob", "new@x.org")),
        (3, content("New", "c@x.org")),
        (4, content("New", "new@x.org")),
    )

    assert upload.records == RecordChanges(0, 3, 8, 1)
    kept = query(store, "SELECT customer_id, id FROM record ORDER BY 1")
    assert kept == [[1, 9], [2, 6], [3, 11], [4, 4]]
    assert store.maintenance.verify().agreed


def test_upsert_that_changes_nothing_writes_no_record(store: Store) -> None:
    rows: list[Row] = [(n, content(f"Name {n}")) for n in range(500)]
    loaded(store, *rows)
    versions = query(store, "SELECT id, xmin::text, ctid::text FROM record ORDER BY 1")

    upload = upserted(store, *rows[:100])

    assert upload.records == RecordChanges(0, 0, 0, 100)
    assert query(store, "SELECT id, xmin::text, ctid::text FROM record ORDER BY 1") == versions


@pytest.mark.parametrize("believed", [1, 10_000_000])
def test_records_are_looked_up_by_an_index_whatever_the_planner_expects(store: Store, believed: int) -> None:
    loaded(store, *((n, content(f"Name {n}")) for n in range(5_000)), *((f"t{n}", content()) for n in range(5_000)))
    load = staged(store, [(n, "hubspot", content(f"Name {n}")) for n in range(3_000)], "upsert")

    def plan(connection: Connection) -> list[str]:
        connection.run(f"ANALYZE record; ANALYZE {load.table}")
        connection.run(f"UPDATE pg_class SET reltuples = {believed} WHERE oid = 'record'::regclass")
        upserts.choose(connection, load.table, 0, [])
        return [line for [line] in connection.run(f"EXPLAIN {upserts.in_place(0)}")]

    lines = store._database.write(plan, repeatable=False)
    assert [line for line in lines if "record_customer" in line]
    assert [line for line in lines if "record_text_customer" in line]
    assert not [line for line in lines if "Seq Scan on record" in line or "Seq Scan on stated" in line]


# The order of files


def test_upsert_that_comes_after_a_newer_snapshot_is_refused(store: Store) -> None:
    newer = staged(store, [(1, "hubspot", content("New"))], at=TUESDAY)
    store.loads.finish(newer)
    late = staged(store, [(1, "hubspot", content("Old"))], "upsert", at=MONDAY)

    with pytest.raises(Outdated, match=f"A newer snapshot of hubspot is in place: upload {newer.id}"):
        store.loads.finish(late)
    assert names(store) == [["1", "New"]]


@pytest.mark.parametrize("mode", ["add", "upsert"])
def test_upsert_leaves_out_customers_that_a_newer_file_brought(store: Store, mode: str) -> None:
    newer = staged(store, [(1, "hubspot", content("New"))], mode, at=TUESDAY)
    store.loads.finish(newer)

    upload = upserted(store, (1, content("Old")), (2, content("Bob")), (1, content("Old")), at=MONDAY)

    assert (upload.rows, upload.accepted, upload.records) == (3, 1, RecordChanges(1, 0, 0, 0))
    assert upload.reason == f"2 rows were left out. A newer file states their customers: upload {newer.id}"
    assert names(store) == [["1", "New"], ["2", "Bob"]]


@pytest.mark.parametrize("mode", ["add", "replace", "upsert"])
def test_older_file_that_comes_later_undoes_no_upsert(store: Store, mode: str) -> None:
    """Whether the upsert changed the record, found it as it should be, or deleted it."""
    loaded(store, (1, content("Ann")), (2, content("Bob")), (3, content("Cy")), mode="add")
    newer = upserted(store, (1, content("Anna")), (2, content("Bob")), deleted=[3], at=EPOCH + timedelta(days=9_000))
    rows = [(n, "hubspot", content("Old")) for n in (1, 2, 3, 4)]

    late = staged(store, rows, mode, at=EPOCH + timedelta(days=8_000))
    store.loads.finish(late)

    assert names(store) == [["1", "Anna"], ["2", "Bob"], ["4", "Old"]]
    upload = store.uploads.get(late.id)
    assert upload
    assert (upload.accepted, upload.records) == (1, RecordChanges(1, 0, 0, 0))
    assert upload.reason == f"3 rows were left out. A newer file states their customers: upload {newer.id}"
    assert store.maintenance.verify().agreed


def test_newer_file_after_an_upsert_brings_a_deleted_customer_back(store: Store) -> None:
    upserted(store, deleted=[1])

    assert loaded(store, (1, content("Ann")), mode="add").accepted == 1
    assert upserted(store, deleted=[1]).records == RecordChanges(0, 0, 1, 0)
    assert loaded(store, (1, content("Ann"))).records == RecordChanges(1, 0, 0, 0)
    assert query(store, "SELECT count(*) FROM stated_customer") == [[0]]


# Undo and erasure


def test_upsert_that_only_added_is_deleted(store: Store) -> None:
    first = loaded(store, (1, content()))
    upload = upserted(store, (1, content()), (2, content()), deleted=[9])

    with pytest.raises(NotUndoable, match=f"Upload {upload.id}, a later upsert of hubspot, states records"):
        store.uploads.delete(first.id)
    assert store.uploads.delete(upload.id) == 1
    assert ids(store) == [1]
    assert store.uploads.delete(first.id) == 1
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("rows", [{"rows": [(1, content("Other"))]}, {"deleted": [1]}], ids=["changed", "removed"])
def test_upsert_that_changed_or_removed_records_is_not_deleted(
    store: Store, functions: Callable[..., Any], rows: dict[str, Any]
) -> None:
    loaded(store, (1, content()))
    upload = upserted(store, *rows.get("rows", ()), deleted=rows.get("deleted", ()))

    path, parameters = f"/api/v1/uploads/{upload.id}", {"upload_id": str(upload.id)}
    answer = functions("delete_upload", api_event("DELETE", path, parameters=parameters))

    assert answer["statusCode"] == 409
    assert "cannot be restored" in json.loads(answer["body"])["detail"]


def test_earlier_upload_of_other_customers_is_deleted_after_an_upsert(store: Store) -> None:
    first = loaded(store, (1, content()), mode="add")
    loaded(store, (2, content()), mode="add")
    upserted(store, (2, content()))

    assert store.uploads.delete(first.id) == 1


def test_erasure_names_the_files_of_upserts_and_forgets_what_they_state(store: Store) -> None:
    uploads = [
        loaded(store, (1, content())),
        upserted(store, (1, content()), (2, content())),
        upserted(store, (2, content())),
    ]

    erased = store.customers.erase(1)

    assert erased
    assert erased.files == [upload.object_key for upload in uploads[:2]]
    assert query(store, "SELECT customer_id FROM stated_customer") == [[2]]


def test_customer_of_whom_only_a_deletion_is_stored_can_be_erased(store: Store) -> None:
    upload = upserted(store, deleted=[1])

    erased = store.customers.erase(1)

    assert erased
    assert erased.files == [upload.object_key]
    assert query(store, "SELECT count(*) FROM stated_customer") == [[0]]
    assert store.customers.erase(2) is None


# Marks in other modes

MARKED = b"id,name,email,archived\n1,Ann,ann@example.com,false\n2,Bob,bob@example.com,true\n3,Cy,cy@example.com,\n"


@pytest.mark.parametrize("folder", ["hubspot", "hubspot/snapshot"])
def test_marked_rows_of_an_add_or_a_snapshot_are_no_records(store: Store, put: Any, load: Any, folder: str) -> None:
    store.loads.finish(staged(store, [(2, "hubspot", content("Bob"))], at=MONDAY))

    upload = load(put(f"incoming/{folder}/a.csv", MARKED))

    assert (upload.rows, upload.accepted, upload.rejected) == (3, 2, 0)
    [warning] = upload.warnings
    assert (warning.code, warning.field, warning.rows, warning.example_line) == ("deleted_row", "deleted", 1, 3)
    there = [["2", "Bob"]] if folder == "hubspot" else []
    assert names(store) == [*there, ["1", "Ann"], ["3", "Cy"]]
    assert store.maintenance.verify().agreed


def test_file_of_ids_and_marks_alone_deletes(store: Store, put: Any, load: Any) -> None:
    store.loads.finish(staged(store, [(n, "hubspot", content()) for n in (1, 2, 3)], at=MONDAY))

    upload = load(put("incoming/hubspot/upsert/a.csv", b"id,deleted\n1,1\n2,Y\n7,t\n"))

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 3, 0)
    assert upload.records == RecordChanges(0, 0, 2, 0)
    assert names(store) == [["3", "Ann"]]


def test_upsert_that_is_interrupted_and_delivered_again_counts_once(
    store: Store, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = put("incoming/hubspot/upsert/a.csv", MARKED)
    finish = store.loads.finish

    def broken(*args: Any) -> None:
        finish(*args)
        raise ConnectionError

    monkeypatch.setattr(store.loads, "finish", broken)
    with pytest.raises(ConnectionError):
        ingest.ingest(version, store, plenty)
    monkeypatch.undo()

    upload = ingest.ingest(version, store, plenty)

    assert upload
    assert upload.records == RecordChanges(2, 0, 0, 0)
    assert names(store) == [["1", "Ann"], ["3", "Cy"]]


# The active run


def test_records_of_an_upsert_keep_join_and_leave_entities(store: Store) -> None:
    loaded(store, (1, content("Ann Lee")), (2, content("Ben Oyelaran", "ben@example.com")), source="internal")
    loaded(store, (7, content("Ann Lee")), (8, content("Ben Oyelaran", "ben@example.com")))
    matched(store)
    before = entities(store)
    assert (before[1], before[2]) == (before[3], before[4])

    upserted(store, (7, content("Ann Lee", phone="2025550101")), (9, content("Ann Lee")), deleted=[8])
    resolve(store)

    now = entities(store)
    assert now == {1: before[1], 2: before[2], 3: before[1], 5: before[1]}
    assert stale_members(store) == []
    assert store.maintenance.verify().agreed
