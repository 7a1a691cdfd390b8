"""Files from the bucket to records, on a real PostgreSQL and a local S3."""

import csv
import gzip
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import openpyxl
import pytest
import requests
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Busy, Superseded
from dedup.files import reading
from dedup.observability import logger
from dedup.services import ingest
from dedup.sets import EVERYBODY, SetQuery
from dedup.settings import settings as current
from dedup.store import Store
from dedup.store.load_effects import Outdated
from dedup.store.uploads import CustomerChanges, Upload

from tests import exports
from tests.conftest import ROOT, api_event, budget, ids_of, lambda_context, load_function

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
BUCKET = "uploads"
HEADER = "customer_id,name,email\n"


def lines(ids: Any) -> str:
    return "".join(f"{n},Customer {n},c{n}@example.com\n" for n in ids)


def csv_of(ids: Any) -> bytes:
    return (HEADER + lines(ids)).encode()


def plenty() -> float:
    return 900.0


@pytest.fixture
def put(s3: Any) -> Callable[..., ObjectVersion]:
    def put(key: str, body: bytes, **metadata: str) -> ObjectVersion:
        answer = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)
        return ObjectVersion(BUCKET, key, answer.get("VersionId"))

    return put


@pytest.fixture
def load(store: Store) -> Callable[[ObjectVersion], Upload]:
    def load(version: ObjectVersion) -> Upload:
        upload = ingest.ingest(version, store, plenty)
        assert upload is not None
        return upload

    return load


def members(store: Store, source: str) -> list[int]:
    found = store.questions.select({"ids": SetQuery(within=frozenset({source}))}, {}, 10_000)
    return ids_of(found)


def total(store: Store) -> int:
    return store.questions.select({"ids": EVERYBODY}, {}, 1).records


def rejected_rows(s3: Any, upload: Upload) -> list[dict[str, str]]:
    body = s3.get_object(Bucket=BUCKET, Key=upload.rejected_key)["Body"].read().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(body)))


def test_file_is_loaded_whole_and_accounted_for(store: Store, put: Any, load: Any) -> None:
    upload = load(put("incoming/hubspot/night.csv", csv_of(range(25_000))))

    assert (upload.status, upload.accepted, upload.rejected, upload.reason) == ("done", 25_000, 0, None)
    assert upload.customers == CustomerChanges(25_000, 0, 0, new=25_000)
    assert store.questions.counts() == {frozenset({"hubspot"}): 25_000}
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize(
    ("form", "fmt", "delimiter", "compression"),
    [
        *itertools.product(["plain"], ["csv"], exports.DELIMITERS, exports.COMPRESSIONS),
        *itertools.product(["plain"], ["json", "array", "ndjson"], [","], exports.COMPRESSIONS),
        *itertools.product(exports.FORMS, exports.FORMATS, [";"], ["gzip"]),
    ],
)
def test_every_layout_format_and_compression_is_loaded(
    store: Store, put: Any, load: Any, form: str, fmt: str, delimiter: str, compression: str | None
) -> None:
    people = exports.people(50, "hubspot")

    # The name says nothing: the content does.
    upload = load(put("incoming/hubspot/export", exports.write(people, form, fmt, delimiter, compression=compression)))

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 50, 0)
    records = json.loads(store.records.page(None, 100)[0])
    assert sorted((r["customer_id"], r["name"], r["email"], r["source"]) for r in records) == sorted(
        person.row for person in people
    )


def test_named_sheet_of_a_workbook_is_loaded_and_its_rejected_rows_are_explained(
    s3: Any, store: Store, put: Any, load: Any
) -> None:
    body = io.BytesIO()
    workbook = openpyxl.Workbook()
    workbook.active.append(["id", "name", "email"])
    workbook.active.append([9, "Nine", "nine@example.com"])
    sheet = workbook.create_sheet("Müller")
    sheet.append(["Customers of 2024"])
    sheet.append(["Record ID", "Full name", "E-mail", "Birth date"])
    sheet.append([1, "Ann", "ann@example.com", date(1950, 1, 16)])
    sheet.append(["1e9", "Bob", "nowhere"])
    sheet.append(["9007199254740993", "Cid", "cid@example.com"])
    workbook.save(body)

    upload = load(put("incoming/hubspot/night.xlsx", body.getvalue(), sheet="=?UTF-8?B?TcO8bGxlcg==?="))

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 2, 1)
    assert [(row["line"], row["row"]) for row in rejected_rows(s3, upload)] == [("4", "1e9,Bob,nowhere,")]
    records = json.loads(store.records.page(None, 100)[0])
    assert [(row["customer_id"], row.get("date_of_birth")) for row in records] == [(1, "1950-01-16"), (2**53 + 1, None)]


def test_bad_row_stops_no_good_one_and_is_explained(s3: Any, store: Store, put: Any, load: Any) -> None:
    body = csv_of([1, 2]) + b"1e9,=cmd(),c@example.com\n" + lines([3]).encode() + b",Four,nowhere\n"

    upload = load(put("incoming/hubspot/night.csv", body))

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 3, 2)
    assert upload.rejected_key == f"rejected/upload-{upload.id}-rejected.csv"
    rows = rejected_rows(s3, upload)
    assert [(row["line"], row["field"]) for row in rows] == [("4", "customer_id"), ("6", "customer_id")]
    assert members(store, "hubspot") == [1, 2, 3]


def test_rejected_rows_of_each_upload_of_one_name_are_kept(functions: Call, store: Store, put: Any, load: Any) -> None:
    loaded_uploads = [
        load(put("incoming/hubspot/night.csv", csv_of([1]) + row)) for row in (b"1e9,A,a@b.com\n", b"1e8,B,b@b.com\n")
    ]

    urls = [json.loads(functions("show_upload", shown(upload.id))["body"])["rejected_url"] for upload in loaded_uploads]

    rejected = [requests.get(url, timeout=30).content.decode() for url in urls]
    assert ["1e9,A" in rejected[0], "1e8,B" in rejected[1]] == [True, True]


def shown(upload_id: int) -> dict[str, Any]:
    return api_event("GET", f"/api/v1/uploads/{upload_id}", parameters={"upload_id": str(upload_id)})


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("incoming/hubspot/empty.csv", b"", "empty"),
        ("incoming/hubspot/header.csv", HEADER.encode(), "no rows"),
        ("incoming/hubspot/columns.csv", b"a,b\n", "customer_id"),
        ("incoming/hubspot/bad.csv", b"id,name,email\n1e9,A,a@example.com\n", "No row was accepted"),
        ("incoming/hubspot/archive.zip", exports.zipped({"night.csv": csv_of([1])}), "ZIP archives are not supported"),
        ("incoming/hubspot/picture.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, ""),
        ("incoming/hubspot/broken.csv.gz", gzip.compress(csv_of(range(50_000)), mtime=0)[:-2000], ""),
        ("incoming/oracle/night.csv", csv_of([1]), "'oracle' is not a source"),
        ("incoming/night.csv", csv_of([1]), "source"),
    ],
)
def test_file_that_is_none_fails_whole_with_a_reason(
    store: Store, put: Any, load: Any, key: str, body: bytes, reason: str
) -> None:
    upload = load(put(key, body))

    assert (upload.status, upload.accepted) == ("failed", 0)
    assert upload.reason
    assert reason in upload.reason
    assert total(store) == 0
    assert staging_tables(store) == []


def test_bomb_is_stopped(store: Store, put: Any, load: Any) -> None:
    member = gzip.compress((b"1,A,a@example.com" + b" " * 5000 + b"\n") * 5000, 9)
    zeros = gzip.compress(HEADER.encode()) + member * 400

    upload = load(put("incoming/hubspot/bomb.csv.gz", zeros))

    assert upload.status == "failed"
    assert total(store) == 0


def test_repeated_event_changes_nothing_also_a_week_later(store: Store, put: Any, load: Any) -> None:
    version = put("incoming/hubspot/night.csv", csv_of(range(10)))
    first = load(version)

    assert [load(version) for _ in range(3)] == [first] * 3
    assert total(store) == 10


def test_same_name_with_new_content_is_a_new_upload(store: Store, put: Any, load: Any) -> None:
    first = load(put("incoming/hubspot/night.csv", csv_of([1])))
    second = load(put("incoming/hubspot/night.csv", csv_of([2])))

    assert first.id != second.id
    assert members(store, "hubspot") == [1, 2]


def test_deliveries_at_the_same_moment_load_once(new_store: Callable[..., Store], put: Any) -> None:
    version = put("incoming/hubspot/night.csv", csv_of(range(30_000)))

    def deliver(store: Store) -> str:
        try:
            upload = ingest.ingest(version, store, plenty)
        except Busy:
            return "busy"
        return upload.status if upload else "gone"

    with ThreadPoolExecutor(5) as pool:
        outcomes = list(pool.map(deliver, [new_store() for _ in range(5)]))

    assert "done" in outcomes
    assert set(outcomes) <= {"done", "busy", "loading"}
    assert total(new_store()) == 30_000


def test_snapshot_replaces_its_source_and_counts_added_and_removed_customers(store: Store, put: Any, load: Any) -> None:
    load(put("incoming/hubspot/monday.csv", csv_of([1, 2, 3])))
    load(put("incoming/internal/all.csv", csv_of([3, 4])))

    upload = load(put("incoming/hubspot/snapshot/tuesday.csv", csv_of([2, 3, 4, 5, 5])))

    assert (upload.mode, upload.customers) == ("replace", CustomerChanges(2, 1, 2, new=1))
    assert members(store, "hubspot") == [2, 3, 4, 5]
    assert total(store) == 7
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize(
    ("key", "metadata", "says"),
    [
        ("hubspot/Snapshot/all.csv", {}, "'Snapshot' is not the folder of snapshots"),
        ("hubspot/SNAPSHOT/all.csv", {}, "'SNAPSHOT' is not the folder of snapshots"),
        ("hubspot/snapshots/all.csv", {}, "'snapshots' is not the folder of snapshots"),
        ("hubspot/snapshot /all.csv", {}, "'snapshot ' is not the folder of snapshots"),
        ("hubspot/2026/snapshot/all.csv", {}, "'snapshot' is not the folder of snapshots"),
        ("hubspot/snapshot", {}, "'snapshot' is not the folder of snapshots"),
        ("any/Snapshot/all.csv", {"source": "hubspot"}, "'Snapshot' is not the folder of snapshots"),
        ("Snapshot/all.csv", {"source": "hubspot"}, "'Snapshot' is not the folder of snapshots"),
        # Metadata is anybody's who may put an object, wherever that is.
        ("hubspot/all.csv", {"mode": "replace"}, "The metadata says replace, and the folder says add"),
        ("all.csv", {"mode": "replace", "source": "hubspot"}, "The metadata says replace, and the folder says add"),
        ("hubspot/snapshot/all.csv", {"mode": "add"}, "The metadata says add, and the folder says replace"),
        ("internal/snapshot/all.csv", {"source": "hubspot"}, "A snapshot of hubspot belongs in"),
        ("any/snapshot/all.csv", {"source": "hubspot"}, "A snapshot of hubspot belongs in incoming/hubspot/snapshot/"),
        ("hubspot/Upsert/all.csv", {}, "'Upsert' is not the folder of upserts"),
        ("hubspot/upserts/all.csv", {}, "'upserts' is not the folder of upserts"),
        ("hubspot/all.csv", {"mode": "upsert"}, "The metadata says upsert, and the folder says add"),
        ("hubspot/snapshot/all.csv", {"mode": "upsert"}, "The metadata says upsert, and the folder says replace"),
        ("any/upsert/all.csv", {"source": "hubspot"}, "An upsert of hubspot belongs in incoming/hubspot/upsert/"),
    ],
)
def test_object_that_only_looks_like_a_snapshot_or_an_upsert_is_refused_and_stays(
    store: Store, put: Any, load: Any, s3: Any, key: str, metadata: dict[str, str], says: str
) -> None:
    load(put("incoming/hubspot/monday.csv", csv_of([1, 2])))
    load(put("incoming/internal/monday.csv", csv_of([1, 2])))

    upload = load(put(f"incoming/{key}", csv_of([2]), **metadata))

    assert (upload.status, upload.mode, upload.accepted) == ("failed", "add", 0)
    assert upload.reason.startswith(says)
    assert re.search("incoming/hubspot/(snapshot|upsert)/", upload.reason)
    assert members(store, "hubspot") == members(store, "internal") == [1, 2]
    assert s3.get_object(Bucket=BUCKET, Key=f"incoming/{key}")["Body"].read() == csv_of([2])


def test_metadata_may_say_what_the_folder_says(store: Store, put: Any, load: Any) -> None:
    load(put("incoming/hubspot/monday.csv", csv_of([1, 2]), mode="add", source="hubspot"))

    load(put("incoming/hubspot/snapshot/tuesday.csv", csv_of([2]), mode="replace", source="hubspot"))

    assert members(store, "hubspot") == [2]


def test_older_snapshot_that_comes_late_is_refused(store: Store) -> None:
    monday, tuesday = (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6))
    late = store.loads.claim("monday", "a", monday, "hubspot", "replace", 60)
    early = store.loads.claim("tuesday", "b", tuesday, "hubspot", "replace", 60)
    assert late
    assert early
    store.loads.stage(early, [(2, "B", "b@example.com", "hubspot")], 1, 0)
    store.loads.finish(early)
    store.loads.stage(late, [(1, "A", "a@example.com", "hubspot")], 1, 0)

    with pytest.raises(Outdated):
        store.loads.finish(late)

    assert members(store, "hubspot") == [2]


MONDAY, TUESDAY = (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6))


def loaded(store: Store, key: str, at: datetime, rows: list[tuple[Any, ...]], source: str | None, mode: str) -> int:
    """The id of an upload of that time, which is loaded now."""
    upload = store.loads.claim(key, key, at, source, mode, 60)
    assert upload
    store.loads.stage(upload, rows, len(rows), 0)
    store.loads.finish(upload)
    return upload.id


def test_older_file_that_comes_after_a_snapshot_is_refused(store: Store) -> None:
    newer = loaded(store, "new", TUESDAY, [(2, "B", "b@example.com", "hubspot")], "hubspot", "replace")
    old = [(1, "A", "a@example.com", "hubspot")]

    with pytest.raises(Outdated, match=f"A newer snapshot of hubspot is in place: upload {newer}"):
        loaded(store, "old", MONDAY, old, "hubspot", "add")
    with pytest.raises(Outdated):
        loaded(store, "old without a folder", MONDAY, old, None, "add")
    loaded(store, "same second", TUESDAY, [(3, "C", "c@example.com", "hubspot")], "hubspot", "add")
    loaded(store, "other", MONDAY, [(4, "D", "d@example.com", "internal")], "internal", "replace")

    assert (members(store, "hubspot"), members(store, "internal")) == ([2, 3], [4])
    assert store.maintenance.verify().agreed


def test_newer_file_that_comes_before_a_snapshot_stays(store: Store) -> None:
    def rows(name: str, *customers: int) -> list[tuple[int, str, str, str]]:
        return [(n, name, "a@example.com", "hubspot") for n in customers]

    loaded(store, "oldest", MONDAY - timedelta(days=1), rows("O", 1, 2, 3, 4), "hubspot", "add")
    loaded(store, "newer", TUESDAY, [*rows("N", 3, 5), (9, "N", "n@example.com", "internal")], None, "add")

    upload = store.uploads.get(loaded(store, "snapshot", MONDAY, rows("S", 1, 3, 6), "hubspot", "replace"))

    assert upload
    assert upload.customers == CustomerChanges(1, 2, 2, new=1)
    assert (members(store, "hubspot"), members(store, "internal"), total(store)) == ([1, 3, 5, 6], [9], 6)
    assert store.maintenance.verify().agreed


def test_of_an_older_file_of_several_sources_those_that_have_a_newer_snapshot_are_left_out(store: Store) -> None:
    newer = loaded(store, "new", TUESDAY, [(2, "B", "b@example.com", "hubspot")], "hubspot", "replace")
    rows = [(n, "A", "a@example.com", source) for n in (1, 2) for source in ("hubspot", "internal")]

    upload = store.uploads.get(loaded(store, "old", MONDAY, [*rows, rows[0]], None, "add"))

    assert upload
    assert (upload.status, upload.rows, upload.accepted, upload.customers) == (
        "done",
        5,
        2,
        CustomerChanges(2, 0, 0, new=1),
    )
    assert upload.reason == f"3 rows were left out. A newer snapshot of hubspot is in place: upload {newer}"
    assert (members(store, "hubspot"), members(store, "internal"), total(store)) == ([2], [1, 2], 3)
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("mode", ["add", "replace"])
@pytest.mark.parametrize("gone", ["deleted", "cleared"])
def test_snapshot_that_is_gone_outdates_nothing(store: Store, gone: str, mode: str) -> None:
    newer = loaded(store, "new", TUESDAY, [(2, "B", "b@example.com", "hubspot")], "hubspot", "replace")
    if gone == "deleted":
        store.uploads.delete(newer)
    else:
        store.records.clear()

    loaded(store, "old", MONDAY, [(1, "A", "a@example.com", "hubspot")], "hubspot", mode)

    assert members(store, "hubspot") == [1]


def test_readers_see_the_old_night_or_the_new_one(new_store: Callable[..., Store], put: Any) -> None:
    loading, reading = new_store(), new_store()
    ingest.ingest(put("incoming/hubspot/snapshot/0.csv", csv_of(range(1000))), loading, plenty)
    seen = set()

    with ThreadPoolExecutor(1) as pool:
        for night in range(1, 6):
            version = put(f"incoming/hubspot/snapshot/{night}.csv", csv_of(range(night * 1000, (night + 1) * 1000)))
            done = pool.submit(ingest.ingest, version, loading, plenty)
            while not done.done():
                seen.add((total(reading), tuple(members(reading, "hubspot"))))

    nights = {(1000, tuple(range(night * 1000, (night + 1) * 1000))) for night in range(6)}
    assert seen <= nights
    assert loading.maintenance.verify().agreed


def test_snapshots_beside_uploads_count_exactly(new_store: Callable[..., Store], put: Any) -> None:
    from tests.conftest import record

    def upload(store: Store) -> None:
        for batch in range(30):
            store.records.add([record(n, ("hubspot", "internal")[n % 2]) for n in range(batch * 10, batch * 10 + 50)])

    def snapshots(store: Store, source: str) -> None:
        for night in range(5):
            key = f"incoming/{source}/snapshot/{night}.csv"
            ingest.ingest(put(key, csv_of(range(night * 20, night * 20 + 300))), store, plenty)

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(upload, new_store()) for _ in range(2)]
        jobs += [pool.submit(snapshots, new_store(), source) for source in ("hubspot", "internal")]
        for job in jobs:
            job.result()

    assert new_store().maintenance.verify().agreed


def test_file_that_is_overwritten_while_it_is_read_is_read_again(
    environment: pytest.MonkeyPatch, store: Store, s3: Any
) -> None:
    s3.create_bucket(Bucket="unversioned", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    key = "incoming/hubspot/night.csv"
    s3.put_object(Bucket="unversioned", Key=key, Body=csv_of(range(1000)))
    contents = iter([csv_of([7, 8])])
    read = reading.read

    def overwrite_meanwhile(*args: Any, **options: Any) -> Any:
        yield from read(*args, **options)
        for content in contents:
            s3.put_object(Bucket="unversioned", Key=key, Body=content)

    environment.setattr(reading, "read", overwrite_meanwhile)

    upload = ingest.ingest(ObjectVersion("unversioned", key), store, plenty)

    assert upload
    assert (upload.status, upload.accepted) == ("done", 2)
    assert members(store, "hubspot") == [7, 8]
    assert [a.status for a in store.uploads.page(None, 10)] == ["done", "failed"]


@pytest.mark.parametrize(
    ("accepted", "rejected", "customers", "seconds"),
    [
        (1_000_000, 0, None, 80),
        (500_000, 500_000, None, 80),
        (1_000_000, 0, 0, 90),  # the first snapshot
        (1_000_000, 0, 1_000_000, 45),
        (1_000_000, 0, 400_000, 72),
        (5_000_000, 0, 5_000_000, 105),
        (100_000, 0, 5_000_000, 31.5),  # an upsert
    ],
)
def test_time_is_reserved_for_the_rows_that_are_compared_and_those_that_are_written(
    accepted: int, rejected: int, customers: int | None, seconds: float
) -> None:
    assert ingest.reserved_seconds(accepted, rejected, customers) == pytest.approx(seconds)


@pytest.mark.parametrize(("folder", "status"), [("hubspot/", "failed"), ("hubspot/snapshot/", "done")])
def test_snapshot_of_a_known_source_needs_less_time_than_its_first_file(
    store: Store, put: Any, load: Any, environment: pytest.MonkeyPatch, folder: str, status: str
) -> None:
    load(put("incoming/hubspot/first.csv", csv_of(range(100))))
    environment.setattr(ingest, "WRITTEN_ROWS_PER_SECOND", 1)

    upload = ingest.ingest(put(f"incoming/{folder}night.csv", csv_of(range(100))), store, lambda: 60.0)

    assert upload
    assert upload.status == status


def test_function_that_nears_its_end_stops_with_a_reason_and_a_clean_table(store: Store, put: Any) -> None:
    version = put("incoming/hubspot/night.csv", csv_of(range(100)))

    upload = ingest.ingest(version, store, lambda: 20.0)

    assert upload
    assert upload.status == "failed"
    assert "Split the file" in str(upload.reason)
    assert staging_tables(store) == []


def test_attempt_that_was_overtaken_can_write_nothing_more(store: Store) -> None:
    slow = store.loads.claim("k", "a", datetime.now(UTC), "hubspot", "add", lease=0)
    assert slow
    store.loads.stage(slow, [(1, "A", "a@example.com", "hubspot")], 1, 0)
    fast = store.loads.claim("k", "a", datetime.now(UTC), "hubspot", "add", lease=60)
    assert fast
    store.loads.stage(fast, [(1, "A", "a@example.com", "hubspot")], 1, 0)

    with pytest.raises(Superseded):
        store.loads.stage(slow, [(2, "B", "b@example.com", "hubspot")], 2, 0)
    with pytest.raises(Superseded):
        store.loads.finish(slow)
    store.loads.fail(slow, "late")
    store.loads.finish(fast)

    assert members(store, "hubspot") == [1]


def test_interrupted_upload_is_loaded_by_the_next_delivery(
    environment: pytest.MonkeyPatch, store: Store, put: Any, load: Any
) -> None:
    def lose_connection(*_: Any, **__: Any) -> Any:
        raise ConnectionError

    version = put("incoming/hubspot/night.csv", csv_of(range(10)))
    with environment.context() as broken:
        broken.setattr(reading, "read", lose_connection)
        with pytest.raises(ConnectionError):
            ingest.ingest(version, store, plenty)
    [upload] = store.uploads.page(None, 10)
    assert (upload.status, upload.reason) == (
        "waiting",
        "Interrupted (ConnectionError); the next delivery starts over",
    )

    assert load(version).status == "done"
    assert total(store) == 10


def test_deleting_an_upload_takes_its_records_out(store: Store, put: Any, load: Any) -> None:
    first = load(put("incoming/hubspot/a.csv", csv_of([1, 2, 3])))
    load(put("incoming/hubspot/b.csv", csv_of([3, 4])))
    load(put("incoming/internal/c.csv", csv_of([2, 3])))

    assert store.uploads.delete(first.id) == 3

    assert members(store, "hubspot") == [3, 4]
    assert store.questions.counts() == {
        frozenset({"hubspot"}): 1,
        frozenset({"hubspot", "internal"}): 1,
        frozenset({"internal"}): 1,
    }
    assert store.maintenance.verify().agreed
    assert store.uploads.delete(first.id) == 0
    assert store.uploads.delete(10**9) is None


def test_large_upload_is_deleted_by_the_queue(
    environment: pytest.MonkeyPatch, functions: Call, store: Store, put: Any, load: Any
) -> None:
    upload = load(put("incoming/hubspot/a.csv", csv_of([1, 2, 3])))
    load(put("incoming/hubspot/b.csv", csv_of([3])))
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="files")["QueueUrl"]
    environment.setenv("FILES_QUEUE", url)
    current.cache_clear()
    deleting = load_function("delete_upload")
    deleting.MAX_SYNCHRONOUS = 2
    path = f"/api/v1/uploads/{upload.id}"
    event = api_event("DELETE", path, parameters={"upload_id": str(upload.id)})

    assert deleting.handler(event, lambda_context("delete_upload"))["statusCode"] == 202
    waiting = store.uploads.get(upload.id)
    assert waiting
    assert waiting.status == "deleting"
    assert total(store) == 4
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    delivered = {"messageId": "1", "eventSource": "aws:sqs", "body": message["Body"], "attributes": {}}
    for _ in range(2):
        assert functions("ingest", {"Records": [delivered]}) == {"batchItemFailures": []}

    deleted = store.uploads.get(upload.id)
    assert deleted
    assert deleted.status == "deleted"
    assert (total(store), members(store, "hubspot")) == (1, [3])
    assert store.maintenance.verify().agreed
    assert json.loads(deleting.handler(event, lambda_context("delete_upload"))["body"])["details"]["deleted_count"] == 0


def test_file_that_is_larger_than_is_taken_is_refused(
    environment: pytest.MonkeyPatch, functions: Call, store: Store, put: Any, load: Any
) -> None:
    environment.setenv("MAX_FILE_BYTES", "50")
    current.cache_clear()
    body = {"filename": "a.csv", "size": 51}

    upload = load(put("incoming/hubspot/a.csv", csv_of(range(10))))

    assert upload.status == "failed"
    assert "50" in str(upload.reason)
    assert total(store) == 0
    assert functions("create_upload", api_event("POST", "/api/v1/uploads", body))["statusCode"] == 422


def test_uploads_whose_objects_were_lost_wait_no_more(store: Store, put: Any, load: Any) -> None:
    done = load(put("incoming/hubspot/a.csv", csv_of([1])))
    waiting = store.uploads.create("incoming/{}-b.csv", None, "add")
    loading = store.loads.claim("k", "incoming/c.csv", datetime.now(UTC), None, "add", 60)
    assert loading

    store.uploads.bucket_lost("gone")

    found = {upload.id: (upload.status, upload.reason) for upload in store.uploads.page(None, 10)}
    assert found == {done.id: ("done", None), waiting: ("failed", "gone"), loading.id: ("failed", "gone")}


def test_no_log_line_names_a_file(functions: Call, put: Any, caplog: pytest.LogCaptureFixture) -> None:
    version = put("incoming/hubspot/Ada Lovelace.csv", csv_of([1]))
    named = {"key": version.key.replace(" ", "+"), "versionId": version.version_id}
    event = {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": BUCKET}, "object": named}}]}
    for one in (logger, ingest.logger):
        one.setLevel("INFO")

    functions("ingest", event)
    functions("ingest", event)

    logged = "".join(str(vars(line)) for line in caplog.records if line.name.startswith("dedup"))
    assert "Repeated delivery" in logged
    assert "Lovelace" not in logged


def test_clear_is_shown_in_the_uploads(store: Store, put: Any, load: Any) -> None:
    upload = load(put("incoming/hubspot/a.csv", csv_of([1])))
    store.records.clear()

    cleared = store.uploads.get(upload.id)

    assert cleared
    assert cleared.status == "deleted"
    assert load(put("incoming/hubspot/b.csv", csv_of([1]))).status == "done"


SNAPSHOTS = "/api/v1/uploads/snapshots"
UPSERTS = "/api/v1/uploads/upserts"


@pytest.mark.parametrize(
    ("function", "path", "mode", "folder"),
    [
        ("create_upload", "/api/v1/uploads", "add", "hubspot"),
        ("create_snapshot", SNAPSHOTS, "replace", "hubspot/snapshot"),
        ("create_upsert", UPSERTS, "upsert", "hubspot/upsert"),
    ],
)
def test_expected_upload_is_the_one_that_arrives(
    functions: Call, store: Store, s3: Any, put: Any, load: Any, function: str, path: str, mode: str, folder: str
) -> None:
    body = {"filename": "nightly export.csv", "source": "hubspot"}
    answer = functions(function, api_event("POST", path, body))
    expected = json.loads(answer["body"])
    assert answer["statusCode"] == 201
    [waiting] = store.uploads.page(None, 10)
    assert (waiting.id, waiting.status, waiting.mode) == (expected["id"], "waiting", mode)
    assert waiting.object_key

    upload = load(put(waiting.object_key, csv_of([1])))

    assert (upload.id, upload.status) == (expected["id"], "done")
    assert waiting.object_key == f"incoming/{folder}/{expected['id']}-nightly export.csv"


@pytest.mark.parametrize(
    ("mode", "function", "path"),
    [("replace", "create_snapshot", SNAPSHOTS), ("upsert", "create_upsert", UPSERTS)],
)
def test_snapshot_or_upsert_asked_for_as_an_upload_is_refused_with_the_route_that_it_has(
    functions: Call, store: Store, s3: Any, mode: str, function: str, path: str
) -> None:
    body = {"filename": "a.csv", "source": "hubspot", "mode": mode}

    answer = functions("create_upload", api_event("POST", "/api/v1/uploads", body))

    [error] = json.loads(answer["body"])["detail"]
    assert (answer["statusCode"], error["loc"]) == (422, ["body", "mode"])
    assert f"POST {path}" in error["msg"]
    assert store.uploads.page(None, 10) == []
    assert functions(function, api_event("POST", path, body))["statusCode"] == 201


def test_file_of_an_expected_upload_that_was_deleted_is_not_loaded(store: Store, put: Any) -> None:
    """Also when the object comes later, or twice: what was deleted does not come back."""
    upload_id = store.uploads.create("incoming/hubspot/{}-late.csv", "hubspot", "add")
    assert store.uploads.delete(upload_id) == 0

    for _ in range(2):
        version = put(f"incoming/hubspot/{upload_id}-late.csv", csv_of(range(5)))
        assert ingest.ingest(version, store, plenty) is None

    assert [(upload.id, upload.status) for upload in store.uploads.page(None, 10)] == [(upload_id, "deleted")]
    assert total(store) == 0


def test_deliveries_of_an_expected_upload_at_the_same_moment_are_one_upload(
    new_store: Callable[..., Store], put: Any
) -> None:
    stores = [new_store() for _ in range(4)]
    for turn in range(10):
        upload_id = stores[0].uploads.create("incoming/hubspot/{}-a.csv", "hubspot", "add")
        version = put(f"incoming/hubspot/{upload_id}-a.csv", csv_of(range(turn + 1)))

        def deliver(store: Store, version: ObjectVersion = version) -> None:
            with suppress(Busy):
                ingest.ingest(version, store, plenty)

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(deliver, stores))

        [newest, *_] = stores[0].uploads.page(None, 10)
        assert (newest.id, newest.status, newest.accepted) == (upload_id, "done", turn + 1)


def test_upload_is_shown_over_http(functions: Call, store: Store, put: Any, load: Any) -> None:
    upload = load(put("incoming/hubspot/a.csv", csv_of([1]) + b"1e9,y,z\n"))

    shown = json.loads(
        functions(
            "show_upload", api_event("GET", f"/api/v1/uploads/{upload.id}", parameters={"upload_id": str(upload.id)})
        )["body"]
    )
    missing = functions("show_upload", api_event("GET", "/api/v1/uploads/99", parameters={"upload_id": "99"}))

    assert (shown["status"], shown["accepted"], shown["rejected"]) == ("done", 1, 1)
    assert f"rejected/upload-{upload.id}-rejected.csv" in shown["rejected_url"]
    assert missing["statusCode"] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"filename": ""},
        {"filename": "../x.csv"},
        {"filename": "a\x00b"},
        {"filename": "a.csv", "source": "oracle"},
        {"filename": "a.csv", "mode": "append"},
        {"filename": "a.csv", "mode": "replace"},
        {"filename": "a.csv", "size": 0},
    ],
)
def test_bad_upload_request_is_422(functions: Call, s3: Any, body: dict[str, Any]) -> None:
    assert functions("create_upload", api_event("POST", "/api/v1/uploads", body))["statusCode"] == 422


@pytest.mark.parametrize(
    "body",
    [
        {"filename": "a.csv"},
        {"filename": "a.csv", "source": None},
        {"filename": "a.csv", "source": "oracle"},
        {"filename": "a/b.csv", "source": "hubspot"},
        {"filename": "a.csv", "source": "hubspot", "mode": "add"},
        {"filename": "a.csv", "source": "hubspot", "size": 0},
    ],
)
def test_bad_request_for_a_snapshot_or_an_upsert_is_422(functions: Call, s3: Any, body: dict[str, Any]) -> None:
    assert functions("create_snapshot", api_event("POST", SNAPSHOTS, body))["statusCode"] == 422
    assert functions("create_upsert", api_event("POST", UPSERTS, body))["statusCode"] == 422


def test_every_form_of_event_names_the_object(s3: Any) -> None:
    record = {"s3": {"bucket": {"name": "b"}, "object": {"key": "incoming/a+b%C3%A9.csv", "versionId": "v"}}}
    event_bridge = {
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "b"}, "object": {"key": "incoming/a+b.csv"}},
    }

    assert list(ingest.objects_in({"Records": [record]})) == [ObjectVersion("b", "incoming/a bé.csv", "v")]
    assert list(ingest.objects_in(event_bridge)) == [ObjectVersion("b", "incoming/a+b.csv")]
    assert list(ingest.objects_in({"Event": "s3:TestEvent", "Bucket": "b"})) == []


@pytest.mark.parametrize("key", ["incoming/hubspot/", "rejected/a.csv", "other.csv"])
def test_other_objects_are_left_alone(key: str) -> None:
    assert list(ingest.objects_in({"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]})) == []


def test_queue_message_that_failed_is_reported_and_the_others_are_not(functions: Call, store: Store, put: Any) -> None:
    good = put("incoming/hubspot/good.csv", csv_of([1]))

    def message(number: int, body: Any) -> dict[str, Any]:
        return {
            "messageId": str(number),
            "receiptHandle": "r",
            "body": body if isinstance(body, str) else json.dumps(body),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:queue",
            "awsRegion": "eu-west-1",
        }

    def created(version: ObjectVersion) -> dict[str, Any]:
        named = {"key": version.key, "versionId": version.version_id}
        return {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": version.bucket}, "object": named}}]}

    event = {"Records": [message(1, "not json"), message(2, created(good)), message(3, {"Event": "s3:TestEvent"})]}

    assert functions("ingest", event) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert members(store, "hubspot") == [1]


def test_end_of_a_load_is_published_once(environment: pytest.MonkeyPatch, functions: Call, put: Any, s3: Any) -> None:
    version = put("incoming/hubspot/night.csv", csv_of([1]))
    named = {"key": version.key, "versionId": version.version_id}
    event = {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": BUCKET}, "object": named}}]}
    environment.setenv("EVENT_BUS", "default")
    queue = watch_event_bus()

    functions("ingest", event)
    functions("ingest", event)

    told = [json.loads(message["Body"]) for message in queue()]
    assert [(one["detail-type"], one["detail"]["accepted"]) for one in told] == [("UploadCompleted", 1)]


def watch_event_bus() -> Callable[[], list[Any]]:
    sqs, events = boto3.client("sqs"), boto3.client("events")
    url = sqs.create_queue(QueueName="watch")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["dedup"]}))
    events.put_targets(Rule="all", Targets=[{"Id": "1", "Arn": arn}])
    return lambda: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])


KILLED = """
import sys, os
from dedup.services import ingest
from dedup import store
ingest.LEASE = 0.05
ingest.ingest(ingest.ObjectVersion(*sys.argv[1:4]), store.open_store(), lambda: 900.0)
"""


def test_killed_at_random_points_and_delivered_again_counts_exactly(store: Store, put: Any) -> None:
    """kill -9 of the process that loads, again and again, then a delivery that is left alone."""
    chance = random.Random(11)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "layers")}
    killed, number = 0, 0
    while killed < budget(15, 50):
        number += 1
        version = put(f"incoming/hubspot/{number}.csv", csv_of(range(number * 100, number * 100 + 20_000)))
        for _ in range(5):
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED, version.bucket, version.key, str(version.version_id)], env=environment
            )
            try:
                process.wait(chance.uniform(0.5, 1.3))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
        time.sleep(0.1)
        ingest.ingest(version, store, plenty)

    assert total(store) == number * 20_000
    assert len(members_count(store)) == 1
    assert store.maintenance.verify().agreed
    assert staging_tables(store) == []


def members_count(store: Store) -> list[int]:
    return list(store.questions.counts().values())


def staging_tables(store: Store) -> list[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace"
    return [name for [name] in store._database.read(lambda connection: connection.run(query))]
