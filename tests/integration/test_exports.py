"""Exports on a real PostgreSQL and a local S3: what is in them, and what becomes of them whatever happens."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from dedup.aws import queues
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Busy
from dedup.records import OPTIONAL
from dedup.services import exports, ingest
from dedup.settings import settings
from dedup.store import Store

from tests.conftest import ROOT, api_event, lambda_context, load_function, record, sample_records
from tests.integration.conftest import plenty

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
BUCKET = "uploads"
PATH = "/api/v1/exports"
FURTHER = {
    "emails": ["ann@example.org", "a.'b'@example.org"],
    "phones": ["+44 20 7946 0001", "(020) 7946-0002"],
    "modified_at": "2024-01-16T10:22:33+01:00",
    "attributes": {"Lifecycle Stage": "Lead", 'a "b" \\ c': '{"x": "\\n"}, דנה', "Score": "12"},
}
HOSTILE = ["=1+1", "<img src=x onerror=alert(1)>", 'Back\\slash "quoted"', "דנה כהן", "@SUM(A1); =2", "\\N", "a\\nb"]


@pytest.fixture
def queue(s3: Any, environment: pytest.MonkeyPatch) -> str:
    url = str(boto3.client("sqs").create_queue(QueueName="exports")["QueueUrl"])
    environment.setenv("EXPORT_QUEUE", url)
    settings.cache_clear()
    queues.client.cache_clear()
    return url


@pytest.fixture
def ask(functions: Call, queue: str) -> Callable[..., dict[str, Any]]:
    def ask(wish: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        answer = functions("create_export", api_event("POST", PATH, wish or {}, headers=headers))
        return {"statusCode": answer["statusCode"], **json.loads(answer["body"])}

    return ask


@pytest.fixture
def show(functions: Call) -> Callable[[int], dict[str, Any]]:
    def show(export_id: int) -> dict[str, Any]:
        event = api_event("GET", f"{PATH}/{export_id}", parameters={"export_id": str(export_id)})
        answer: dict[str, Any] = json.loads(functions("show_export", event)["body"])
        return answer

    return show


def messages(queue: str) -> list[dict[str, Any]]:
    found = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


def content(s3: Any, export_id: int, form: str) -> bytes:
    body: bytes = s3.get_object(Bucket=BUCKET, Key=f"exports/export-{export_id}.{form}")["Body"].read()
    return body


def expected(functions: Call, chosen: set[int]) -> list[dict[str, Any]]:
    """What the API says of these customers, in an export's form and order."""
    stored = json.loads(functions("list_customers", api_event("GET", "/api/v1/customers"))["body"])
    sources: dict[int, set[str]] = {}
    for one in stored:
        sources.setdefault(one["customer_id"], set()).add(one["source"])
    return [
        {
            "customer_id": one["customer_id"],
            "sources": sorted(sources[one["customer_id"]]),
            "source": one["source"],
            "record_id": one["id"],
            "name": one["name"],
            "email": one["email"],
            **{field: one.get(field) for field in OPTIONAL},
            "created_at": one["created_at"],
        }
        for one in sorted(stored, key=lambda one: (one["customer_id"], one["id"]))
        if one["customer_id"] in chosen
    ]


def read(body: bytes, form: str) -> list[dict[str, Any]]:
    """The rows of a file, in one shape."""
    if form == "ndjson":
        return [json.loads(line) for line in body.decode().splitlines()]
    if form == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
        times = ("created_at", "modified_at")
        return [
            row
            | {name: row[name] and row[name].strftime("%Y-%m-%dT%H:%M:%S.%fZ") for name in times}
            | {"attributes": row["attributes"] and json.loads(row["attributes"])}
            for row in rows
        ]
    return [
        {name: value or None for name, value in row.items()}
        | {"customer_id": int(row["customer_id"]), "record_id": int(row["record_id"])}
        | {"sources": row["sources"].split(",")}
        | {"attributes": json.loads(row["attributes"]) if row["attributes"] else None}
        | {name: row[name].replace("'+", "+").split("; ") if row[name] else None for name in ("emails", "phones")}
        for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""))
    ]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
@pytest.mark.parametrize(
    ("question", "chosen"),
    [
        ({}, {101, 102, 103, 104, 105, 106, 107, 108, -5}),
        ({"in": ["salesforce", "hubspot"], "not_in": ["internal"]}, {103, 104}),
        ({"region": ["hubspot"]}, {106, -5}),
        ({"in": ["salesforce", "hubspot", "internal"]}, set()),
    ],
)
def test_file_has_what_the_api_says(
    functions: Call, ask: Any, show: Any, store: Store, s3: Any, form: str, question: dict[str, Any], chosen: set[int]
) -> None:
    store.records.add([*sample_records(), record(-5, "hubspot", phone="020 7946", city="Zürich", **FURTHER)])
    begun = ask(question | {"format": form})
    assert (begun["statusCode"], begun["status"]) == (202, "waiting")

    assert exports.write(begun["id"], store, plenty) == "done"

    body = content(s3, begun["id"], form)
    assert read(body, form) == expected(functions, chosen)
    upload = show(begun["id"])
    assert upload.items() >= {"status": "done", "rows": len(expected(functions, chosen)), "bytes": len(body)}.items()
    assert (
        upload.items() >= {"in": [], "not_in": [], "region": [], "by": "customer", "format": form, **question}.items()
    )
    assert f"exports/export-{begun['id']}.{form}" in upload["url"]


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_file_can_be_loaded_again(ask: Any, store: Store, s3: Any, form: str) -> None:
    known = {"phone": "020 7946 0000", "address": "1 High Street, Flat 2", "date_of_birth": "1980-01-02", **FURTHER}
    store.records.add([*sample_records(), record(-5, "hubspot", **known)])
    fields = ("customer_id", "name", "email", "source", *OPTIONAL)

    def stored() -> list[tuple[Any, ...]]:
        found = json.loads(store.records.page(None, 100)[0])
        return sorted(tuple(str(one.get(field)) for field in fields) for one in found)

    before = stored()
    begun = ask({"format": form})
    exports.write(begun["id"], store, plenty)
    store.records.clear()
    again = s3.put_object(Bucket=BUCKET, Key="incoming/back", Body=content(s3, begun["id"], form))

    upload = ingest.ingest(ObjectVersion(BUCKET, "incoming/back", again.get("VersionId")), store, plenty)

    assert upload
    assert (upload.status, upload.rejected, upload.reason) == ("done", 0, None)
    assert stored() == before


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_file_by_entity_has_the_person_of_each_record(
    functions: Call, ask: Any, store: Store, s3: Any, form: str
) -> None:
    runs = pytest.importorskip("jobs.matching.runs", reason="a run needs what requirements-dev.txt has for it")
    wish = {"by": "entity", "in": ["hubspot", "salesforce"], "not_in": ["internal"], "format": form}
    store.records.add([record(1, "hubspot", name="Ann Ash", email="ann@example.com"), record(7, "internal")])
    store.records.add([record(2, "salesforce", name="Ann Ash", email="ann@example.com")])
    refused = ask(wish)
    assert refused["statusCode"] == 409
    assert "No run" in refused["detail"]
    run, _ = store.runs.create({"methods": ["rules"]}, None, "")
    assert runs.run(run, store) == "done"
    begun = ask(wish)

    assert exports.write(begun["id"], store, plenty) == "done"

    entity = store.entities.of_records([1])[1]
    rows = read(content(s3, begun["id"], form), form)
    assert [next(iter(row)) for row in rows] == ["entity_id"] * 2
    assert [(int(row["entity_id"]), row["customer_id"], row["source"]) for row in rows] == [
        (entity, 1, "hubspot"),
        (entity, 2, "salesforce"),
    ]
    assert [row["sources"] for row in rows] == [["hubspot", "salesforce"]] * 2


def test_erasure_names_the_exports_that_may_hold_the_person(functions: Call, ask: Any, store: Store, s3: Any) -> None:
    store.records.add(sample_records())
    written = ask()["id"]
    exports.write(written, store, plenty)
    ask()  # not begun yet: it will not find them

    event = api_event("DELETE", "/api/v1/customers/103", parameters={"customer_id": "103"})
    answer = json.loads(functions("erase_customer", event)["body"])

    assert answer["details"]["exports"] == [written]


def test_names_are_text_in_every_report_format(store: Store, s3: Any, ask: Any) -> None:
    store.records.add([record(n, "hubspot", name=name) for n, name in enumerate(HOSTILE)])
    forms = {}
    for form in ("csv", "ndjson", "parquet"):
        begun = ask({"format": form})
        exports.write(begun["id"], store, plenty)
        forms[form] = [row["name"] for row in read(content(s3, begun["id"], form), form)]

    assert forms["ndjson"] == forms["parquet"] == HOSTILE
    assert forms["csv"] == ["'=1+1", *HOSTILE[1:4], "'@SUM(A1); '=2", *HOSTILE[5:]]


def test_request_is_sent_once_to_the_queue_and_kept(ask: Any, queue: str, store: Store) -> None:
    begun = ask({"in": ["hubspot"]})

    assert messages(queue) == [{"export": begun["id"]}]


def test_request_sent_again_with_its_key_is_the_same_export(ask: Any, store: Store) -> None:
    first = ask({"format": "csv"}, **{"Idempotency-Key": "k"})

    assert ask({"format": "csv"}, **{"Idempotency-Key": "k"}) == first
    assert ask({"format": "ndjson"}, **{"Idempotency-Key": "k"})["statusCode"] == 422
    assert ask({"format": "csv"})["id"] != first["id"]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"in": ["zoho"]}, "in"),
        ({"format": "xml"}, "format"),
        ({"by": "name"}, "by"),
        ({"region": "hubspot"}, "region"),
    ],
)
def test_invalid_request_is_refused(ask: Any, store: Store, wish: dict[str, Any], field: str) -> None:
    answer = ask(wish)

    assert answer["statusCode"] == 422
    assert answer["detail"][0]["loc"][1] == field


def test_exports_are_listed_newest_first_in_pages(ask: Any, functions: Call, store: Store) -> None:
    ids = [ask()["id"] for _ in range(3)]

    first = functions("list_exports", api_event("GET", PATH, query={"limit": 2}))
    cursor = first["multiValueHeaders"]["Link"][0].split("cursor=")[1].split(">")[0]
    second = functions("list_exports", api_event("GET", PATH, query={"limit": 2, "cursor": cursor}))

    assert [one["id"] for one in json.loads(first["body"]) + json.loads(second["body"])] == ids[::-1]
    assert "Link" not in second["multiValueHeaders"]


def test_unknown_export_is_404(functions: Call, store: Store) -> None:
    event = api_event("GET", f"{PATH}/7", parameters={"export_id": "7"})
    assert functions("show_export", event)["statusCode"] == 404


def test_repeated_deliveries_write_once(store: Store, new_store: Callable[..., Store], s3: Any, ask: Any) -> None:
    store.records.add(sample_records())
    begun = ask()

    def deliver(_: int) -> str | None:
        try:
            return exports.write(begun["id"], new_store(), plenty)
        except Busy:
            return "busy"

    with ThreadPoolExecutor(4) as pool:
        outcomes = [*pool.map(deliver, range(4)), deliver(5)]

    assert outcomes.count("done") == 1
    assert set(outcomes) <= {"done", "busy", None}
    versions = s3.list_object_versions(Bucket=BUCKET, Prefix="exports/")["Versions"]
    assert len(versions) == 1


def test_export_during_changes_is_a_snapshot_of_one_moment(
    store: Store, new_store: Callable[..., Store], s3: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.records.add([record(n, "hubspot") for n in range(20_000)])
    begun = ask({"format": "ndjson"})
    monkeypatch.setattr(exports._Ndjson, "block", 100)
    other, changed = new_store(), threading.Event()

    def meanwhile() -> float:
        # Called after each block, while the rows are on their way.
        if not changed.is_set():
            changed.set()
            other.records.add([record(n, "salesforce") for n in range(20_000)])
        return 900.0

    exports.write(begun["id"], store, meanwhile)

    rows = read(content(s3, begun["id"], "ndjson"), "ndjson")
    assert [row["customer_id"] for row in rows] == list(range(20_000))
    assert {tuple(row["sources"]) for row in rows} == {("hubspot",)}


def test_what_can_not_be_written_in_time_is_refused_and_leaves_nothing(
    store: Store, s3: Any, ask: Any, show: Any
) -> None:
    store.records.add([record(n, "hubspot") for n in range(6_000)])
    begun = ask()

    assert exports.write(begun["id"], store, lambda: 1.0) == "failed"

    upload = show(begun["id"])
    assert (upload["status"], upload["url"]) == ("failed", None)
    assert "Select fewer customers" in upload["reason"]
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_attempt_that_breaks_off_is_made_again_and_the_third_is_the_last(
    functions: Call, store: Store, s3: Any, ask: Any, show: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.records.add(sample_records())
    begun = ask()
    s3.delete_bucket(Bucket=BUCKET)
    event = {"Records": [sqs_record(begun["id"])]}
    export = load_function("export")

    states = []
    for _ in range(3):
        answer = export.handler(event, lambda_context("export"))
        assert answer["batchItemFailures"] == [{"itemIdentifier": "1"}]
        states.append(show(begun["id"])["status"])

    assert states == ["waiting", "waiting", "failed"]
    assert "Interrupted" in show(begun["id"])["reason"]
    assert export.handler(event, lambda_context("export"))["batchItemFailures"] == []


def sqs_record(export_id: int) -> dict[str, Any]:
    body = json.dumps({"export": export_id})
    return {"messageId": "1", "body": body, "eventSource": "aws:sqs", "attributes": {}, "messageAttributes": {}}


KILLED = """
import sys, time
from dedup.services import exports
from dedup.store import open_store
exports.RENEW_SECONDS = 0
def remaining():
    print("block", flush=True)
    time.sleep(60)
    return 900.0
exports.write(int(sys.argv[1]), open_store(), remaining)
"""


def test_export_that_is_killed_is_written_again(
    store: Store, s3: Any, ask: Any, show: Any, functions: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "LEASE", 0.5)
    store.records.add([record(n, "hubspot") for n in range(6_000)])
    begun = ask()
    script = f"from dedup import exports\nexports.LEASE = 0.5\n{KILLED}"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(begun["id"])],
        env=os.environ | {"PYTHONPATH": str(ROOT / "layers")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.readline()
    assert show(begun["id"])["status"] in ("running", "waiting")
    process.kill()
    process.communicate()

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert exports.write(begun["id"], store, plenty) == "done"
            break
        except Busy:
            time.sleep(0.05)
    assert show(begun["id"])["rows"] == len(read(content(s3, begun["id"], "csv"), "csv")) == 6_000
