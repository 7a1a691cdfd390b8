"""Uploads whose columns are not certain: the question, its answer, saved mappings, and what is kept meanwhile."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.settings import settings
from dedup.store import Store

from tests.conftest import api_event, connect, record
from tests.integration.conftest import BUCKET, Ask, Deliver, plenty, shown
from tests.integration.test_ingest import watch_event_bus

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

LOST_DIGITS = "Scientific notation has lost digits. Export the column as text or as a number without decimals"
UNKNOWN = "cust_no,e_mail_addr,tel,firm,stage\n" + "".join(
    f"{n},c{n}@example.com,+1 202 555 0{n},Firm {n},lead\n" for n in range(100, 115)
)
COLUMNS = {"cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "firm": "company", "stage": "ignore"}
MAPPING = {"columns": COLUMNS}


@pytest.fixture
def load(deliver: Deliver) -> Deliver:
    return lambda body=UNKNOWN, key="incoming/hubspot/night.csv": deliver(body, key)


def answer(ask: Ask, upload_id: int, body: Any) -> tuple[int, Any]:
    return ask("set_mapping", "PUT", f"uploads/{upload_id}/mapping", body, upload_id=str(upload_id))


def previewed(ask: Ask, upload_id: int, body: Any) -> tuple[int, Any]:
    return ask("preview_mapping", "POST", f"uploads/{upload_id}/mapping/preview", body, upload_id=str(upload_id))


def samples(upload_id: int) -> Any:
    with connect() as connection:
        rows = connection.run(f"SELECT sample FROM upload_mapping WHERE upload_id = {upload_id}")
        return rows[0][0] if rows else None


def customers(store: Store) -> dict[frozenset[str], int]:
    return dict(store.questions.counts())


# Question and answer


def test_unknown_columns_are_a_question_that_the_sender_answers(
    store: Store, load: Any, ask: Ask, work: Callable[[], int]
) -> None:
    upload = load()

    assert (upload.status, upload.rows, upload.accepted) == ("needs_mapping", 0, 0)
    body = shown(ask, upload.id)
    assert body["reason"].startswith("The mapping of the columns is not certain")
    columns = body["mapping"]["columns"]
    assert {one["name"]: one["field"] for one in columns} == {**COLUMNS, "stage": None}
    assert columns[1]["samples"] == ["c100@example.com", "c101@example.com", "c102@example.com"]
    assert all(0 <= one["confidence"] <= 1 and one["reason"] for one in columns)
    [listed] = ask("list_uploads", "GET", "uploads")[1]
    assert (listed["status"], listed["mapping"]) == ("needs_mapping", None)

    status, stated = answer(ask, upload.id, MAPPING)

    assert (status, stated["status"], stated["reason"]) == (200, "waiting", None)
    assert work() == 1
    body = shown(ask, upload.id)
    assert (body["status"], body["accepted"], body["customers"]["added"]) == ("done", 15, 15)
    assert {one["name"]: one["field"] for one in body["mapping"]["columns"]} == {**COLUMNS, "stage": None}
    assert all(one["samples"] == [] for one in body["mapping"]["columns"])
    assert samples(upload.id) is None
    assert customers(store) == {frozenset({"hubspot"}): 15}
    assert store.maintenance.verify().agreed


def test_repeated_event_asks_nothing_again(s3: Any, store: Store, load: Any) -> None:
    upload = load()
    [version] = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    again = ingest.ingest(ObjectVersion(BUCKET, version["Key"], version["VersionId"]), store, plenty)

    assert again == upload
    assert store.tasks.due(0, 10) == []


def test_message_that_was_lost_is_sent_again(
    environment: pytest.MonkeyPatch, store: Store, files_queue: str, load: Any, ask: Ask
) -> None:
    upload = load()
    environment.setenv("FILES_QUEUE", files_queue + "-that-is-not-there")
    settings.cache_clear()
    assert answer(ask, upload.id, MAPPING)[0] == 200
    [task] = store.tasks.due(7200, 10)
    assert (task.kind, task.id) == ("upload", upload.id)
    resumed = ingest.resume(upload.id, store, plenty)
    assert resumed
    assert (resumed.status, resumed.accepted) == ("done", 15)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"columns": {**COLUMNS, "nope": "name"}}, ["body", "columns", "nope"]),
        ({"columns": {**COLUMNS, "stage": "colour"}}, ["body", "columns", "stage"]),
        ({"columns": {**COLUMNS, "stage": "customer_id"}}, ["body", "columns", "stage"]),
        ({"columns": {"cust_no": "customer_id"}}, ["body", "columns"]),
        ({"columns": {"firm": "company"}}, ["body", "columns"]),
        ({"columns": COLUMNS, "id": {"generate": True}}, ["body", "id"]),
        ({"columns": {"firm": "company"}, "id": {"column": "x"}}, ["body", "id", "column"]),
        ({"columns": COLUMNS, "keep": ["nope"]}, ["body", "keep", 0]),
        ({"columns": COLUMNS, "date_order": "YDM"}, ["body", "date_order"]),
        ({"columns": COLUMNS, "source": "internal"}, ["body", "source"]),
        ({"columns": COLUMNS, "colour": 1}, ["body", "colour"]),
        ({}, ["body", "columns"]),
    ],
)
def test_mapping_that_does_not_fit_is_422_and_names_the_field(load: Any, ask: Ask, body: Any, loc: list[Any]) -> None:
    upload = load()

    for operation in (answer, previewed):
        status, problem = operation(ask, upload.id, body)
        assert status == 422
        assert loc in [one["loc"] for one in problem["detail"]]
    assert shown(ask, upload.id)["status"] == "needs_mapping"


def test_mapping_of_other_uploads_is_refused(store: Store, load: Any, ask: Ask) -> None:
    done = load("id,name\n1,Ann\n")

    assert answer(ask, done.id, MAPPING)[0] == 409
    assert previewed(ask, done.id, MAPPING)[0] == 409
    assert answer(ask, 999, MAPPING)[0] == 404
    assert previewed(ask, 999, MAPPING)[0] == 404
    assert {one["name"]: one["field"] for one in shown(ask, done.id)["mapping"]["columns"]} == {
        "id": "customer_id", "name": "name",
    }  # fmt: skip
    upload = load()
    assert answer(ask, upload.id, MAPPING)[0] == 200
    assert answer(ask, upload.id, MAPPING)[0] == 409


def test_preview_shows_ten_records_as_they_are_stored(load: Any, ask: Ask) -> None:
    upload = load(UNKNOWN.replace("101,", "1e9,", 1))

    status, body = previewed(ask, upload.id, {**MAPPING, "keep": ["stage"]})

    assert (status, len(body["records"])) == (200, 9)
    assert body["records"][0] == {
        "customer_id": 100, "name": None, "email": "c100@example.com", "source": "hubspot",
        "phone": "+1 202 555 0100", "company": "Firm 100", "attributes": {"stage": "lead"},
    }  # fmt: skip
    assert body["rejected"] == [{"line": 3, "field": "customer_id", "reason": LOST_DIGITS}]
    assert shown(ask, upload.id)["status"] == "needs_mapping"


def test_source_is_stated_with_the_mapping_if_the_upload_has_none(
    store: Store, load: Any, ask: Ask, work: Callable[[], int]
) -> None:
    upload = load(key="incoming/night.csv")

    status, problem = answer(ask, upload.id, MAPPING)
    assert (status, problem["detail"][0]["loc"]) == (422, ["body", "source"])
    assert answer(ask, upload.id, {**MAPPING, "source": "internal"})[0] == 200
    assert work() == 1
    assert shown(ask, upload.id)["source"] == "internal"
    assert customers(store) == {frozenset({"internal"}): 15}


def test_upload_that_asks_for_a_review_waits_for_it(s3: Any, store: Store, ask: Ask, work: Callable[[], int]) -> None:
    status, expected = ask(
        "create_upload", "POST", "uploads", {"filename": "a.csv", "source": "hubspot", "review_mapping": True}
    )
    assert status == 201
    key = f"incoming/hubspot/{expected['id']}-a.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=b"id,name,dob\n1,Ann,03/04/1950\n")
    upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
    assert upload
    assert (upload.id, upload.status, upload.reason) == (
        expected["id"], "needs_mapping", "A check of the mapping was requested",
    )  # fmt: skip

    columns = {"id": "customer_id", "name": "name", "dob": "date_of_birth"}
    assert answer(ask, upload.id, {"columns": columns, "date_order": "MDY"})[0] == 200
    assert work() == 1
    assert shown(ask, upload.id)["status"] == "done"
    page, _ = store.records.page(None, 10)
    assert json.loads(page)[0]["date_of_birth"] == "1950-03-04"


def test_ambiguous_dates_are_a_warning(store: Store, load: Any, ask: Ask) -> None:
    upload = load("id,name,dob\n1,Ann,03/04/1950\n2,Bo,\n3,Cy,05/06/1950\n")

    [warning] = shown(ask, upload.id)["warnings"]
    assert (warning["code"], warning["field"], warning["rows"], warning["example_line"]) == (
        "ambiguous_dates", "date_of_birth", 2, 2,
    )  # fmt: skip


def test_question_is_announced_and_so_is_the_end(
    environment: pytest.MonkeyPatch, functions: Call, files_queue: str, s3: Any, ask: Ask, work: Callable[[], int]
) -> None:
    told = watch_event_bus()
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/a.csv", Body=UNKNOWN.encode())
    event = {"detail": {"bucket": {"name": BUCKET}, "object": {"key": "incoming/hubspot/a.csv"}}}
    [upload_id] = functions("ingest", event)["uploads"]
    functions("ingest", event)
    assert answer(ask, upload_id, MAPPING)[0] == 200
    assert work() == 1

    events = [json.loads(message["Body"]) for message in told()]
    assert sorted(one["detail-type"] for one in events) == ["UploadCompleted", "UploadNeedsMapping"]
    assert "c100@example.com" not in json.dumps(events)


# Saved mappings


def saved(ask: Ask, source: str = "hubspot") -> Any:
    return ask("list_mappings", "GET", f"sources/{source}/mappings", source=source)[1]


def test_saved_mapping_loads_later_files_without_a_question(
    store: Store, load: Any, ask: Ask, work: Callable[[], int]
) -> None:
    assert answer(ask, load().id, {**MAPPING, "save": True})[0] == 200
    assert work() == 1
    [one] = saved(ask)
    assert (one["source"], one["header"]) == ("hubspot", list(COLUMNS))
    assert one["mapping"] == {"columns": COLUMNS, "id": None, "date_order": None, "keep": []}

    upload = load(UNKNOWN.replace("e_mail_addr", "E-Mail Addr"), "incoming/hubspot/other.csv")

    assert (upload.status, upload.accepted) == ("done", 15)
    assert load(key="incoming/internal/night.csv").status == "needs_mapping"
    changed = load(UNKNOWN.replace("firm", "employer"), "incoming/hubspot/changed.csv")
    assert changed.status == "needs_mapping"
    assert changed.reason
    assert "new: 'employer'; missing: 'firm'" in changed.reason
    proposed = {c["name"]: c["field"] for c in shown(ask, changed.id)["mapping"]["columns"]}
    assert proposed == {
        "cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "employer": "company", "stage": None,
    }  # fmt: skip


def test_mappings_of_a_source_are_saved_listed_and_deleted(load: Any, ask: Ask) -> None:
    status, first = ask("save_mapping", "PUT", "sources/hubspot/mappings", MAPPING, source="hubspot")
    assert (status, first["header"], first["saved_by"]) == (200, list(COLUMNS), "unknown")
    again = ask("save_mapping", "PUT", "sources/hubspot/mappings", {**MAPPING, "date_order": "DMY"}, source="hubspot")[
        1
    ]
    assert (again["id"], again["mapping"]["date_order"]) == (first["id"], "DMY")
    other = {"columns": {"a": "customer_id", "b": "email"}}
    ask("save_mapping", "PUT", "sources/hubspot/mappings", other, source="hubspot")
    assert [one["header"] for one in saved(ask)] == [["a", "b"], list(COLUMNS)]
    assert saved(ask, "internal") == []
    assert load().status == "done"

    status, problem = ask(
        "save_mapping", "PUT", "sources/hubspot/mappings", {"columns": {"a": "name"}}, source="hubspot"
    )
    assert (status, problem["detail"][0]["loc"]) == (422, ["body", "columns"])
    assert ask("list_mappings", "GET", "sources/oracle/mappings", source="oracle")[0] == 422
    strange = {"columns": {"a\0": "customer_id", "b": "email"}}
    assert ask("save_mapping", "PUT", "sources/hubspot/mappings", strange, source="hubspot")[0] == 422

    path = "sources/hubspot/mappings"
    one: Any = {"query": {"id": first["id"]}}
    assert ask("delete_mappings", "DELETE", path, source="hubspot", **one) == (200, {"deleted_count": 1})
    assert ask("delete_mappings", "DELETE", path, source="hubspot", **one)[0] == 404
    assert ask("delete_mappings", "DELETE", path, source="hubspot") == (200, {"deleted_count": 1})
    assert saved(ask) == []


# Personal data


def test_rows_are_forgotten_when_the_upload_is_deleted(store: Store, load: Any, ask: Ask) -> None:
    first, second = load(), load(key="incoming/hubspot/other.csv")
    assert len(samples(first.id)) == 10

    assert ask("delete_upload", "DELETE", f"uploads/{first.id}", upload_id=str(first.id))[0] == 200

    assert samples(first.id) is None
    assert shown(ask, first.id)["mapping"] is None
    assert answer(ask, first.id, MAPPING)[0] == 409
    store.records.clear()
    assert samples(second.id) is None


def test_erased_customer_is_in_no_row(store: Store, load: Any, functions: Call) -> None:
    store.records.add([record(103, "internal", email="c105@EXAMPLE.com"), record(106, "internal")])
    upload = load()
    erase(functions, 103)

    rows = samples(upload.id)
    assert [cells[0] for _, cells in rows] == ["100", "101", "102", "104", "106", "107", "108", "109"]
    # Also a customer of whom nothing else is known.
    assert erase(functions, 104) == 200
    assert erase(functions, 104) == 404
    assert "104" not in [cells[0] for _, cells in samples(upload.id)]


def test_customer_who_was_erased_before_the_question_is_in_no_row(s3: Any, store: Store, functions: Call) -> None:
    store.records.add([record(103, "internal", email="c105@example.com")])
    made = s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/a.csv", Body=UNKNOWN.encode())
    erase(functions, 103)
    upload = ingest.ingest(ObjectVersion(BUCKET, "incoming/hubspot/a.csv", made["VersionId"]), store, plenty)

    assert upload
    cells = [cells[0] for _, cells in samples(upload.id)]
    assert "102" in cells
    assert not {"103", "105"} & {*cells}


def test_key_that_names_an_erased_customer_is_hidden_when_the_file_is_loaded(
    store: Store, load: Any, ask: Ask, functions: Call, work: Callable[[], int]
) -> None:
    store.records.add([record(103, "internal", email="ann@example.com")])
    upload = load(key="incoming/hubspot/ann@example.com.csv")
    erase(functions, 103)
    assert shown(ask, upload.id)["object_key"] == "incoming/hubspot/ann@example.com.csv"

    assert answer(ask, upload.id, MAPPING)[0] == 200
    assert work() == 1

    body = shown(ask, upload.id)
    assert (body["status"], body["object_key"]) == ("done", "incoming/hubspot/erased")


@pytest.mark.parametrize(
    ("chosen", "ids"), [({"column": "Mail"}, ["ann@example.com", "bo@example.com"]), ({"generate": True}, None)]
)
def test_list_without_ids_is_loaded_once_however_often_it_is_sent(
    store: Store, load: Any, ask: Ask, work: Callable[[], int], chosen: Any, ids: list[str] | None
) -> None:
    for number in range(2):
        upload = load(
            "Attendee,Mail\nAnn Lee,Ann@Example.com\nBo Ray,bo@example.com\n", f"incoming/hubspot/{number}.csv"
        )
        assert upload.status == "needs_mapping"
        assert answer(ask, upload.id, {"columns": {"Attendee": "name", "Mail": "email"}, "id": chosen})[0] == 200
        assert work() == 1
    found = {one["customer_id"] for one in json.loads(store.records.page(None, 10)[0])}
    assert len(found) == 2
    assert ids is None or found == {*ids}


def erase(functions: Call, customer_id: int) -> int:
    parameters = {"customer_id": str(customer_id)}
    answer = functions("erase_customer", api_event("DELETE", f"/api/v1/customers/{customer_id}", parameters=parameters))
    return int(answer["statusCode"])


def test_question_ends_when_its_file_expires(functions: Call, load: Any, ask: Ask) -> None:
    upload = load()
    functions("sweep", {})
    assert shown(ask, upload.id)["status"] == "needs_mapping"
    with connect() as connection:
        connection.run("UPDATE upload SET object_at = now() - interval '31 days'")

    functions("sweep", {})

    body = shown(ask, upload.id)
    assert (body["status"], samples(upload.id)) == ("failed", None)
    assert "upload it again" in body["reason"]


def test_file_that_is_gone_when_it_is_mapped_fails(s3: Any, load: Any, ask: Ask, work: Callable[[], int]) -> None:
    upload = load()
    [version] = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    s3.delete_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])

    assert answer(ask, upload.id, MAPPING)[0] == 200
    assert work() == 1
    assert shown(ask, upload.id)["status"] == "failed"
