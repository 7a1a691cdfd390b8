"""Uploads that are compared with the records and wait for a decision: previews, and snapshots that are held."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.settings import settings
from dedup.store import Store, suspicions

from tests.conftest import api_event, connect, record
from tests.crm_exports import contacts, write
from tests.integration.conftest import BUCKET, Ask, Deliver, plenty, shown
from tests.integration.test_ingest import watch_event_bus

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
SNAPSHOT = "incoming/hubspot/snapshot/night.csv"
HEADER = "id,name,email,phone\n"


def csv(ids: Iterable[object], phones: bool = True, **names: str) -> str:
    return HEADER + "".join(
        f"{n},{names.get(f'n{n}', f'Customer {n}')},c{n}@example.com,{f'+1 202 555 {n:04}' if phones else ''}\n"
        for n in ids
    )


@pytest.fixture
def load(deliver: Deliver) -> Deliver:
    return lambda body, key=SNAPSHOT, **metadata: deliver(body, key, **metadata)


def decide(ask: Ask, decision: str, upload_id: int) -> tuple[int, Any]:
    return ask(f"{decision}_upload", "POST", f"uploads/{upload_id}/{decision}", upload_id=str(upload_id))


def examples(ask: Ask, upload_id: int) -> tuple[int, Any]:
    return ask("show_examples", "GET", f"uploads/{upload_id}/examples", upload_id=str(upload_id))


def delete(ask: Ask, upload_id: int) -> int:
    return ask("delete_upload", "DELETE", f"uploads/{upload_id}", upload_id=str(upload_id))[0]


def query(sql: str) -> Any:
    with connect() as connection:
        return connection.run(sql)


def state(store: Store) -> Any:
    """Everything that answers are made from."""
    records = query("SELECT id, upload_id, updated_at::text, name, email, phone FROM record ORDER BY id")
    assert store.maintenance.verify().agreed
    return records, dict(store.questions.counts())


def actions() -> list[str]:
    return [action for [action] in query("SELECT action FROM audit ORDER BY id")]


# Held


def test_truncated_export_is_held_and_nothing_of_it_is_visible(store: Store, load: Deliver, ask: Ask) -> None:
    first = load(csv(range(1000)))
    before = state(store)

    upload = load(csv(range(300)))

    assert (first.status, upload.status) == ("done", "held")
    body = shown(ask, upload.id)
    assert body["reason"] == "The snapshot would remove 700 of 1,000 customers (70 %)"
    assert body["records"] == {"added": 0, "changed": 0, "removed": 700, "unchanged": 300}
    assert body["customers"] == {"added": 0, "removed": 700, "unchanged": 300, "new": 0}
    assert (body["rows"], body["accepted"], body["finished_at"], body["dry_run"]) == (300, 0, None, False)
    assert state(store) == before
    [listed, _] = ask("list_uploads", "GET", "uploads")[1]
    assert (listed["status"], listed["reason"]) == ("held", body["reason"])
    status, found = examples(ask, upload.id)
    assert (status, len(found["removed"]), found["added"], found["changed"]) == (200, 100, [], [])
    page, _ = store.records.page(None, 1000)
    assert found["removed"] == [one for one in json.loads(page) if one["customer_id"] >= 300][:100]


def test_released_snapshot_is_loaded_once(
    s3: Any, store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))

    for _ in range(2):
        status, body = decide(ask, "release", upload.id)
        assert (status, body["status"], body["reason"], body["records"]) == (200, "waiting", None, None)
    assert examples(ask, upload.id)[0] == 409
    assert work() == 2

    body = shown(ask, upload.id)
    assert (body["status"], body["accepted"], body["customers"]["removed"]) == ("done", 300, 700)
    assert dict(store.questions.counts()) == {frozenset({"hubspot"}): 300}
    after = state(store)
    assert (decide(ask, "release", upload.id)[0], work()) == (200, 0)
    assert state(store) == after
    assert actions() == ["upload", "release upload", "upload"]


def test_repeated_event_does_not_load_what_is_held(s3: Any, store: Store, load: Deliver) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    before = state(store)
    newest = max(s3.list_object_versions(Bucket=BUCKET)["Versions"], key=lambda one: one["IsLatest"])

    again = ingest.ingest(ObjectVersion(BUCKET, newest["Key"], newest["VersionId"]), store, plenty)

    assert again == upload
    assert state(store) == before
    assert store.tasks.due(0, 10) == []


def test_discarded_snapshot_leaves_no_figures_and_no_examples(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    before = state(store)

    assert (delete(ask, upload.id), delete(ask, upload.id)) == (200, 200)

    body = shown(ask, upload.id)
    assert (body["status"], body["records"], body["customers"]) == ("deleted", None, None)
    assert query("SELECT * FROM upload_preview") == []
    assert (decide(ask, "release", upload.id)[0], examples(ask, upload.id)[0], work()) == (409, 409, 0)
    assert state(store) == before


@pytest.mark.parametrize(
    ("before", "after", "limit", "status"),
    [
        (100, 80, 20, "done"),
        (100, 79, 20, "held"),
        (99, 1, 20, "done"),
        (100, 99, 0, "held"),
        (100, 1, 100, "done"),
        (1000, 799, 20, "held"),
        (1000, 800, 20, "done"),
    ],
)
def test_limit_of_what_a_snapshot_may_remove(
    environment: pytest.MonkeyPatch, load: Deliver, before: int, after: int, limit: int, status: str
) -> None:
    environment.setenv("SNAPSHOT_MAX_REMOVED", str(limit))
    settings.cache_clear()
    load(csv(range(before)))

    assert load(csv(range(after))).status == status


def test_share_above_the_limit_does_not_look_like_the_limit(load: Deliver) -> None:
    load(csv(range(1000)))

    assert load(csv(range(799))).reason == "The snapshot would remove 201 of 1,000 customers (20.1 %)"


def test_customers_count_and_not_records(store: Store, load: Deliver) -> None:
    """Of 100 customers with ten records each, one record stays; and customers of other sources do not count."""
    load(HEADER + "".join(f"{n},Name {k},c{n}@example.com,+1 202 555 0{n}\n" for n in range(100) for k in range(10)))
    load(csv(range(5000, 9000)), "incoming/internal/a.csv")

    upload = load(csv(range(100)))
    fewer = load(csv(range(70)))

    assert upload.status == "done"
    assert upload.records
    assert upload.records.removed == 900
    assert (fewer.status, fewer.reason) == ("held", "The snapshot would remove 30 of 100 customers (30 %)")


def test_field_that_loses_its_values_holds_the_snapshot(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(200)))
    before = state(store)

    upload = load(csv(range(200), phones=False))

    assert (upload.status, upload.reason) == ("held", "None of its rows have a value in phone, instead of 100 %")
    assert upload.records
    assert (upload.records.changed, upload.records.removed) == (200, 0)
    assert state(store) == before
    found = examples(ask, upload.id)[1]
    page, _ = store.records.page(None, 1)
    [first] = json.loads(page)
    assert found["changed"][0] == {
        "id": first["id"], "customer_id": 0, "source": "hubspot",
        "changes": {"phone": {"from": "+1 202 555 0000", "to": None}},
    }  # fmt: skip
    assert len(found["changed"]) == 100
    assert decide(ask, "release", upload.id)[0] == 200
    assert work() == 1
    assert query("SELECT count(phone) FROM record") == [[0]]


@pytest.mark.parametrize(("with_phone", "status"), [(100, "done"), (99, "held")])
def test_field_may_lose_half_of_its_values(load: Deliver, with_phone: int, status: str) -> None:
    load(csv(range(200)))

    assert (
        load(csv(range(with_phone)) + csv(range(with_phone, 200), phones=False).removeprefix(HEADER)).status == status
    )


def test_field_of_few_records_does_not_hold_the_snapshot(load: Deliver) -> None:
    few = suspicions.MIN_VALUES - 1
    load(csv(range(few)) + csv(range(few, 200), phones=False).removeprefix(HEADER))

    assert load(csv(range(200), phones=False)).status == "done"


def test_both_reasons_are_given(load: Deliver) -> None:
    load(csv(range(200)))

    assert load(csv(range(100), phones=False)).reason == (
        "The snapshot would remove 100 of 200 customers (50 %). "
        "None of its rows have a value in phone, instead of 100 %"
    )


def test_release_that_would_remove_more_than_was_shown_is_held_again(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    store.records.add([record(2000, "hubspot")])
    before = state(store)

    assert decide(ask, "release", upload.id)[0] == 200
    assert work() == 1

    body = shown(ask, upload.id)
    assert (body["status"], body["customers"]["removed"]) == ("held", 701)
    assert body["reason"] == "The snapshot would remove 701 of 1,001 customers (70 %)"
    assert state(store) == before
    assert len(examples(ask, upload.id)[1]["removed"]) == 100
    assert (decide(ask, "release", upload.id)[0], work()) == (200, 1)
    assert shown(ask, upload.id)["status"] == "done"


def test_release_that_would_remove_less_than_was_shown_is_loaded(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    assert store.customers.erase(999)

    assert (decide(ask, "release", upload.id)[0], work()) == (200, 1)

    assert shown(ask, upload.id)["customers"] == {"added": 0, "removed": 699, "unchanged": 300, "new": 0}


@pytest.mark.parametrize("swept", [True, False])
def test_newer_snapshot_makes_a_held_one_outdated(
    store: Store, functions: Call, load: Deliver, ask: Ask, work: Callable[[], int], swept: bool
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    newer = load(csv(range(990)))
    query(f"UPDATE upload SET object_at = object_at + interval '1 minute' WHERE id = {newer.id}")
    before = state(store)

    if swept:
        functions("sweep", {})
        assert decide(ask, "release", upload.id)[0] == 409
    else:
        assert (decide(ask, "release", upload.id)[0], work()) == (200, 1)

    body = shown(ask, upload.id)
    assert (newer.status, body["status"], body["records"]) == ("done", "failed", None)
    assert body["reason"] == f"A newer snapshot of hubspot is in place: upload {newer.id}"
    assert state(store) == before
    functions("sweep", {})
    assert query("SELECT count(*) FROM upload_preview WHERE examples IS NOT NULL") == [[0]]


def test_undecided_upload_ends_when_its_file_expires(functions: Call, load: Deliver, ask: Ask) -> None:
    load(csv(range(1000)))
    held, previewed = load(csv(range(300))), load(csv(range(5)), "incoming/internal/a.csv", dry_run="true")
    functions("sweep", {})
    assert shown(ask, held.id)["status"] == "held"
    query("UPDATE upload SET object_at = now() - interval '31 days'")

    functions("sweep", {})

    for upload in (held, previewed):
        body = shown(ask, upload.id)
        assert (body["status"], body["records"]) == ("failed", None)
        assert "upload it again" in body["reason"]
    assert query("SELECT * FROM upload_preview") == []


def test_file_that_is_gone_when_it_is_released_fails(s3: Any, load: Deliver, ask: Ask, work: Callable[[], int]) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)))
    for version in s3.list_object_versions(Bucket=BUCKET)["Versions"]:
        s3.delete_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])

    assert (decide(ask, "release", upload.id)[0], work()) == (200, 1)
    assert shown(ask, upload.id)["status"] == "failed"


def test_event_and_metric_tell_of_a_held_snapshot_once(
    environment: pytest.MonkeyPatch,
    functions: Call,
    s3: Any,
    load: Deliver,
    ask: Ask,
    work: Callable[[], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    load(csv(range(1000)))
    told = watch_event_bus()
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    s3.put_object(Bucket=BUCKET, Key=SNAPSHOT, Body=csv(range(300)).encode())
    event = {"detail": {"bucket": {"name": BUCKET}, "object": {"key": SNAPSHOT}}}
    capsys.readouterr()
    [upload_id] = functions("ingest", event)["uploads"]
    functions("ingest", event)
    metrics = capsys.readouterr().out
    assert (decide(ask, "release", upload_id)[0], work()) == (200, 1)

    events = {one["detail-type"]: one["detail"] for one in (json.loads(message["Body"]) for message in told())}
    assert sorted(events) == ["UploadCompleted", "UploadHeld"]
    assert events["UploadHeld"]["reason"] == "The snapshot would remove 700 of 1,000 customers (70 %)"
    assert events["UploadHeld"]["customers"]["removed"] == 700
    assert "@example.com" not in json.dumps(events)
    assert metrics.count('"UploadsHeld":[1.0]') == 1


# Previews


def test_preview_writes_nothing_and_applies_what_it_shows(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(10)))
    load(csv([20]), "incoming/internal/a.csv")
    before = state(store)

    upload = load(csv([*range(2, 10), 20, "x1"], n5="Ann"), dry_run="true")

    assert (upload.status, upload.reason, upload.accepted) == ("previewed", None, 0)
    body = shown(ask, upload.id)
    assert body["records"] == {"added": 2, "changed": 1, "removed": 2, "unchanged": 7}
    assert body["customers"] == {"added": 2, "removed": 2, "unchanged": 8, "new": 1}
    assert body["dry_run"] is True
    assert state(store) == before
    found = examples(ask, upload.id)[1]
    assert found["added"] == [
        {
            "customer_id": who, "name": f"Customer {who}", "email": f"c{who}@example.com", "source": "hubspot",
            "phone": f"+1 202 555 {who:04}",
        }
        for who in (20, "x1")
    ]  # fmt: skip
    assert [one["customer_id"] for one in found["removed"]] == [0, 1]
    [change] = found["changed"]
    assert (change["customer_id"], change["changes"]) == (5, {"name": {"from": "Customer 5", "to": "Ann"}})

    for _ in range(2):
        assert decide(ask, "apply", upload.id)[0] == 200
    assert work() == 2

    applied = shown(ask, upload.id)
    assert (applied["status"], applied["accepted"]) == ("done", 10)
    assert (applied["records"], applied["customers"]) == (body["records"], body["customers"])
    assert query("SELECT id FROM record WHERE name = 'Ann'") == [[change["id"]]]
    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 0)
    assert store.maintenance.verify().agreed


def test_preview_of_a_snapshot_that_would_be_held_says_so_and_is_applied_without_another_decision(
    load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)), dry_run="true")

    assert (upload.status, upload.reason) == (
        "previewed", "The snapshot would remove 700 of 1,000 customers (70 %)",
    )  # fmt: skip
    assert decide(ask, "release", upload.id)[0] == 409
    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)
    assert shown(ask, upload.id)["status"] == "done"


def test_preview_of_a_file_that_adds(store: Store, load: Deliver, ask: Ask, work: Callable[[], int]) -> None:
    load(csv(range(10)))
    before = state(store)
    added = (
        "source,"
        + HEADER
        + "".join(f"{s},{n},Name,n{n}@example.com,\n" for s in ("hubspot", "internal") for n in (9, 10))
    )

    upload = load(added, "incoming/all.csv", dry_run="true")

    body = shown(ask, upload.id)
    assert (body["status"], body["mode"], state(store)) == ("previewed", "add", before)
    assert body["records"] == {"added": 4, "changed": 0, "removed": 0, "unchanged": 0}
    assert body["customers"] == {"added": 2, "removed": 0, "unchanged": 0, "new": 1}
    assert len(examples(ask, upload.id)[1]["added"]) == 4
    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)
    applied = shown(ask, upload.id)
    assert (applied["status"], applied["records"], applied["customers"]) == ("done", body["records"], body["customers"])


def changed_by_the_api(store: Store, load: Deliver) -> None:
    store.records.add([record(3, "hubspot")])


def changed_by_a_file(store: Store, load: Deliver) -> None:
    load(csv([77]), "incoming/hubspot/more.csv")


def changed_by_an_erasure(store: Store, load: Deliver) -> None:
    assert store.customers.erase(3)


def cleared(store: Store, load: Deliver) -> None:
    store.records.clear()


def deleted(store: Store, load: Deliver) -> None:
    [*_, first] = store.uploads.page(None, 10)
    assert store.uploads.delete(first.id)


def mapped(store: Store, load: Deliver) -> None:
    mapping = {"columns": {"id": "customer_id", "name": "name", "email": "email", "phone": "company"}}
    store.mappings.save(
        "hubspot", ["id", "name", "email", "phone"], mapping | {"id": None, "date_order": None, "keep": []}
    )


@pytest.mark.parametrize("mode", ["add", "replace"])
@pytest.mark.parametrize(
    "change", [changed_by_the_api, changed_by_a_file, changed_by_an_erasure, cleared, deleted, mapped]
)
def test_preview_that_is_out_of_date_is_not_applied(
    store: Store,
    load: Deliver,
    ask: Ask,
    work: Callable[[], int],
    mode: str,
    change: Callable[[Store, Deliver], None],
) -> None:
    load(csv(range(10)))
    key = SNAPSHOT if mode == "replace" else "incoming/hubspot/more.csv"
    upload = load(csv(range(5, 12)), key, dry_run="true")
    assert upload.status == "previewed"
    change(store, load)
    before = state(store)

    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)

    body = shown(ask, upload.id)
    assert (body["status"], body["records"]) == ("failed", None)
    assert "Upload the file again with a preview" in body["reason"]
    assert state(store) == before
    assert decide(ask, "apply", upload.id)[0] == 409


def test_change_of_another_source_does_not_matter(
    store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(10)))
    upload = load(csv(range(5, 12)), dry_run="true")
    store.records.add([record(3, "internal")])

    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)
    assert shown(ask, upload.id)["status"] == "done"


def test_preview_of_an_older_file_fails_like_the_file(s3: Any, store: Store, load: Deliver) -> None:
    newest = load(csv(range(10)))
    query("UPDATE upload SET object_at = object_at + interval '1 year'")

    upload = load(csv(range(5)), dry_run="true")

    assert (upload.status, upload.reason) == (
        "failed", f"A newer snapshot of hubspot is in place: upload {newest.id}",
    )  # fmt: skip


def test_preview_is_requested_by_the_api_and_follows_a_mapping(
    s3: Any, store: Store, ask: Ask, work: Callable[[], int]
) -> None:
    wish = {"filename": "a.csv", "source": "hubspot", "dry_run": True, "review_mapping": True}
    status, expected = ask("create_snapshot", "POST", "uploads/snapshots", wish)
    assert status == 201
    key = f"incoming/hubspot/snapshot/{expected['id']}-a.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=csv([1]).encode())
    upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
    assert upload
    assert (upload.id, upload.status) == (expected["id"], "needs_mapping")
    columns = {"id": "customer_id", "name": "name", "email": "email", "phone": "phone"}
    path = f"uploads/{upload.id}/mapping"
    assert ask("set_mapping", "PUT", path, {"columns": columns}, upload_id=str(upload.id))[0] == 200
    assert work() == 1
    assert shown(ask, upload.id)["status"] == "previewed"
    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)
    assert shown(ask, upload.id)["status"] == "done"
    assert ask("create_snapshot", "POST", "uploads/snapshots", wish | {"dry_run": "yes"})[0] == 422


def test_guessed_source_is_guessed_again(store: Store, load: Deliver, ask: Ask, work: Callable[[], int]) -> None:
    upload = load(write("hubspot", contacts(20)).decode(), "incoming/all.csv", dry_run="true")
    assert (upload.status, upload.source, upload.source_guessed) == ("previewed", "hubspot", True)

    assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)

    body = shown(ask, upload.id)
    assert (body["status"], body["source"], body["source_guessed"]) == ("done", "hubspot", True)


def test_decision_whose_message_was_lost_is_sent_again(
    environment: pytest.MonkeyPatch, store: Store, files_queue: str, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    upload = load(csv(range(10)), dry_run="true")
    environment.setenv("FILES_QUEUE", files_queue + "-that-is-not-there")
    settings.cache_clear()
    assert decide(ask, "apply", upload.id)[0] == 200
    [task] = store.tasks.due(7200, 10)
    assert (task.kind, task.id) == ("upload", upload.id)
    # So does a client that asks again.
    environment.setenv("FILES_QUEUE", files_queue)
    settings.cache_clear()
    assert decide(ask, "apply", upload.id)[0] == 200
    assert work() == 1
    assert shown(ask, upload.id)["status"] == "done"


def test_event_tells_of_a_preview(environment: pytest.MonkeyPatch, functions: Call, s3: Any, ask: Ask) -> None:
    told = watch_event_bus()
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    s3.put_object(Bucket=BUCKET, Key=SNAPSHOT, Body=csv(range(3)).encode(), Metadata={"dry_run": "true"})
    functions("ingest", {"detail": {"bucket": {"name": BUCKET}, "object": {"key": SNAPSHOT}}})

    assert [json.loads(message["Body"])["detail-type"] for message in told()] == ["UploadPreviewed"]


@pytest.mark.parametrize("value", ["yes", ""])
def test_metadata_that_is_neither_true_nor_false_is_refused(load: Deliver, value: str) -> None:
    upload = load(csv([1]), dry_run=value or " ")

    assert (upload.status, upload.reason) == ("failed", "The metadata dry_run is neither true nor false")


def test_decision_about_another_upload_is_refused(load: Deliver, ask: Ask) -> None:
    done = load(csv(range(3)))

    for decision in ("apply", "release"):
        status, problem = decide(ask, decision, done.id)
        assert (status, problem["detail"].endswith("its status is done")) == (409, True)
        assert decide(ask, decision, 999)[0] == 404
    assert (examples(ask, done.id)[0], examples(ask, 999)[0]) == (409, 404)


# Rejected rows, and personal data


def test_rejected_rows_are_counted_and_written_when_the_upload_is_loaded(
    s3: Any, store: Store, load: Deliver, ask: Ask, work: Callable[[], int]
) -> None:
    load(csv(range(1000)))
    upload = load(csv(range(300)) + "1e9,Bad,bad@example.com,\n")

    body = shown(ask, upload.id)
    assert (body["status"], body["rejected"], body["rejected_url"]) == ("held", 1, None)
    assert [(one["field"], one["rows"]) for one in body["reasons"]] == [("customer_id", 1)]
    assert s3.list_object_versions(Bucket=BUCKET, Prefix="rejected/").get("Versions", []) == []
    assert query("SELECT * FROM rejected_row") == []

    assert (decide(ask, "release", upload.id)[0], work()) == (200, 1)

    body = shown(ask, upload.id)
    assert (body["status"], body["rejected"]) == ("done", 1)
    assert body["rejected_url"]
    assert [(one["field"], one["rows"]) for one in body["reasons"]] == [("customer_id", 1)]


def test_erased_customer_is_in_no_example(store: Store, functions: Call, load: Deliver, ask: Ask) -> None:
    load(csv(range(200)))
    upload = load(csv([*range(100), *range(5000, 5003)], n7="Ann").replace("c5002@", "c150@"))
    found = examples(ask, upload.id)[1]
    assert [one["customer_id"] for one in found["added"]] == [5000, 5001, 5002]
    assert found["changed"][0]["customer_id"] == 7

    for customer_id in (7, 150, 5000):
        assert erase(functions, customer_id) == 200
    # Only an example knew the customer.
    assert erase(functions, 5000) == 404

    found = examples(ask, upload.id)[1]
    assert [one["customer_id"] for one in found["added"]] == [5001]
    assert found["changed"] == []
    assert 150 not in [one["customer_id"] for one in found["removed"]]


def test_customer_who_was_erased_before_the_file_is_read_is_in_no_example(
    s3: Any, store: Store, functions: Call, load: Deliver, ask: Ask
) -> None:
    load(csv(range(200)))
    made = s3.put_object(Bucket=BUCKET, Key=SNAPSHOT, Body=csv([*range(100), 5000, 5001]).encode())
    store.records.add([record(5000, "internal")])
    assert erase(functions, 5000) == 200

    upload = ingest.ingest(ObjectVersion(BUCKET, SNAPSHOT, made["VersionId"]), store, plenty)

    assert upload
    assert [one["customer_id"] for one in examples(ask, upload.id)[1]["added"]] == [5001]


def test_examples_are_deleted_with_all_records(store: Store, load: Deliver, ask: Ask) -> None:
    load(csv(range(200)))
    upload = load(csv(range(100)))

    store.records.clear()

    assert examples(ask, upload.id) == (200, {"added": [], "changed": [], "removed": []})


@pytest.mark.parametrize("end", ["applied", "deleted", "expired"])
def test_key_that_names_an_erased_customer_is_hidden_when_the_upload_ends(
    store: Store, functions: Call, load: Deliver, ask: Ask, work: Callable[[], int], end: str
) -> None:
    store.records.add([record(103, "internal", email="ann@example.com")])
    key = "incoming/hubspot/snapshot/ann@example.com.csv"
    upload = load(csv([1]), key, dry_run="true")
    erase(functions, 103)
    assert shown(ask, upload.id)["object_key"] == key

    if end == "applied":
        assert (decide(ask, "apply", upload.id)[0], work()) == (200, 1)
    elif end == "deleted":
        assert delete(ask, upload.id) == 200
    else:
        query("UPDATE upload SET object_at = created_at - interval '31 days'")
        functions("sweep", {})

    assert shown(ask, upload.id)["object_key"] == "incoming/hubspot/erased"


def erase(functions: Call, customer_id: int) -> int:
    parameters = {"customer_id": str(customer_id)}
    answer = functions("erase_customer", api_event("DELETE", f"/api/v1/customers/{customer_id}", parameters=parameters))
    return int(answer["statusCode"])


def test_long_examples_fit_into_a_response(store: Store, load: Deliver, ask: Ask) -> None:
    names = [f"a{n}" for n in range(50)]
    header = ",".join(["id", "name", *names])
    rows = "".join(",".join([str(n), "Ann", *["x" * 1990] * 50]) + "\n" for n in range(40))
    columns = {"id": "customer_id", "name": "name"} | dict.fromkeys(names, "ignore")
    mapping = {"columns": columns, "id": None, "date_order": None, "keep": names}
    store.mappings.save("hubspot", ["id", "name", *names], mapping)
    upload = load(f"{header}\n{rows}", dry_run="true")

    status, found = examples(ask, upload.id)

    assert (status, len(found["added"][0]["attributes"])) == (200, 50)
    assert 1 < len(found["added"]) < 40
    assert len(json.dumps(found)) < 1_000_000


def test_bucket_that_is_lost_ends_what_waits_for_a_decision(store: Store, load: Deliver, ask: Ask) -> None:
    load(csv(range(200)))
    upload = load(csv(range(100)))

    store.uploads.bucket_lost("The bucket is gone")

    body = shown(ask, upload.id)
    assert (body["status"], body["reason"], body["records"]) == ("failed", "The bucket is gone", None)
    assert boto3.client("s3").list_buckets()["Buckets"]
    assert query("SELECT count(*) FROM upload_preview WHERE examples IS NOT NULL") == [[0]]
