"""What the sender of a file may choose, and what the upload's status says about the file."""

import contextlib
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.settings import settings
from dedup.store import Store
from dedup.store.uploads import Upload

from jobs import regions
from tests.conftest import api_event, connect
from tests.crm_exports import contacts, write
from tests.integration.conftest import BUCKET, plenty
from tests.integration.test_ingest import watch_event_bus

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
Send = Callable[..., Upload]

CSV = b"customer_id,name,email\n1,Ann,ann@example.com\n"
INVALID = b"customer_id,name,email\n1,Ann,ann@example.com\n2,Bob,n/a\n3,Cid,cid@nowhere\n4,Dora,\n"


@pytest.fixture
def send(functions: Call, store: Store, s3: Any) -> Send:
    """Requests an upload over HTTP, sends its file to the bucket and loads it."""

    def send(body: bytes, filename: str = "night.csv", **request: Any) -> Upload:
        expected = requested(functions, filename=filename, **request)
        waiting = store.uploads.get(expected["id"])
        assert waiting
        return put(store, s3, str(waiting.object_key), body)

    return send


def requested(functions: Call, **request: Any) -> Any:
    answer = functions("create_upload", api_event("POST", "/api/v1/uploads", request))
    assert answer["statusCode"] == 201, answer["body"]
    return json.loads(answer["body"])


def put(store: Store, s3: Any, key: str, body: bytes, **metadata: str) -> Upload:
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)["VersionId"]
    upload = ingest.ingest(ObjectVersion(BUCKET, key, version), store, plenty)
    assert upload
    return upload


def status_of(functions: Call, upload: Upload) -> Any:
    parameters = {"upload_id": str(upload.id)}
    return json.loads(
        functions("show_upload", api_event("GET", f"/api/v1/uploads/{upload.id}", parameters=parameters))["body"]
    )


# Strict


def test_strict_upload_rejects_addresses_that_are_not_valid(functions: Call, send: Send) -> None:
    upload = send(INVALID, source="hubspot", strict=True)

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 2, 2)
    status = status_of(functions, upload)
    assert (status["strict"], status["warnings"]) == (True, [])
    reason = {"field": "email", "reason": "The email is not a valid address", "rows": 2, "example_line": 3}
    assert status["reasons"] == [reason]


def test_addresses_that_are_not_valid_are_accepted_by_default(functions: Call, send: Send) -> None:
    upload = send(INVALID, source="hubspot")

    status = status_of(functions, upload)
    assert (status["accepted"], status["rejected"], status["strict"]) == (4, 0, False)
    assert [(one["code"], one["rows"]) for one in status["warnings"]] == [("invalid_email", 2)]


def test_strict_snapshot_is_requested_like_an_upload(functions: Call, store: Store, s3: Any) -> None:
    request = {"filename": "all.csv", "source": "hubspot", "strict": True}
    functions("create_snapshot", api_event("POST", "/api/v1/uploads/snapshots", request))
    [waiting] = store.uploads.page(None, 1)

    upload = put(store, s3, str(waiting.object_key), INVALID)

    assert (upload.mode, upload.accepted, upload.rejected) == ("replace", 2, 2)


@pytest.mark.parametrize(("strict", "rejected"), [("true", 2), (" TRUE", 2), ("false", 0)])
def test_object_states_by_its_metadata_that_it_is_strict(store: Store, s3: Any, strict: str, rejected: int) -> None:
    upload = put(store, s3, "incoming/hubspot/a.csv", INVALID, strict=strict)

    assert (upload.status, upload.strict, upload.rejected) == ("done", rejected > 0, rejected)


def test_object_whose_metadata_says_neither_strict_nor_not_fails(store: Store, s3: Any) -> None:
    upload = put(store, s3, "incoming/hubspot/a.csv", INVALID, strict="yes")

    assert (upload.status, upload.reason) == ("failed", "The metadata strict is neither true nor false")


# Sheets


def workbook(**sheets: list[list[object]]) -> bytes:
    made, body = openpyxl.Workbook(), io.BytesIO()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(body)
    return body.getvalue()


BOOK = workbook(
    First=[["id", "name", "email"], [1, "Ann", "ann@example.com"]],
    Müller=[["id", "name", "email"], [2, "Bob", "bob@example.com"], [3, "Cid", "cid@example.com"]],
)


@pytest.mark.parametrize(("request_", "accepted"), [({}, 1), ({"sheet": "müller "}, 2), ({"sheet": None}, 1)])
def test_sheet_of_a_workbook_is_requested_by_its_name(send: Send, request_: dict[str, Any], accepted: int) -> None:
    upload = send(BOOK, "night.xlsx", source="hubspot", **request_)

    assert (upload.status, upload.accepted) == ("done", accepted)


def test_sheet_that_the_workbook_does_not_have_fails_the_upload(send: Send) -> None:
    upload = send(BOOK, "night.xlsx", source="hubspot", sheet="Third")

    assert upload.status == "failed"
    assert upload.reason == "The workbook has no sheet 'Third'. Its sheets are 'First', 'Müller'"


def test_name_of_the_sheet_is_kept_until_the_upload_has_ended(
    functions: Call, send: Send, store: Store, s3: Any
) -> None:
    def names() -> list[Any]:
        with contextlib.closing(connect()) as connection:
            return [sheet for [sheet] in connection.run("SELECT sheet FROM upload ORDER BY id")]

    deleted = requested(functions, filename="a.xlsx", source="hubspot", sheet="Ann Lee")
    assert names() == ["Ann Lee"]
    store.uploads.delete(deleted["id"])
    send(BOOK, "night.xlsx", source="hubspot", sheet="First")
    send(BOOK, "night.xlsx", source="hubspot", sheet="Third")
    put(store, s3, "incoming/hubspot/a.xlsx", BOOK, sheet="First")

    assert names() == [None] * 4


@pytest.mark.parametrize(
    "options", [{"sheet": ""}, {"sheet": "x" * 256}, {"sheet": "a\0b"}, {"strict": "yes"}, {"sha256": "ab"}]
)
def test_options_that_are_not_valid_are_422(functions: Call, s3: Any, options: dict[str, Any]) -> None:
    body = {"filename": "a.xlsx", "source": "hubspot", **options}

    answer = functions("create_upload", api_event("POST", "/api/v1/uploads", body))

    [error] = json.loads(answer["body"])["detail"]
    assert (answer["statusCode"], error["loc"]) == (422, ["body", *options])


# The same content


def same(upload_id: int) -> list[Any]:
    return [{"code": "same_content", "upload_id": upload_id}]


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_content_that_was_loaded_before_is_a_warning_and_loaded_again(
    functions: Call, send: Send, store: Store
) -> None:
    first, other, second, third = (send(CSV, source="hubspot") for _ in range(4))

    assert [status_of(functions, one)["warnings"] for one in (first, other, second, third)] == [
        [], same(first.id), same(other.id), same(second.id),
    ]  # fmt: skip
    assert (third.status, third.accepted, len(json.loads(store.records.page(None, 10)[0]))) == ("done", 1, 4)


def test_warning_of_the_same_content_is_beside_others_and_in_the_event(
    environment: pytest.MonkeyPatch, functions: Call, send: Send, s3: Any
) -> None:
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    first = send(INVALID, source="hubspot")
    queue = watch_event_bus()
    version = s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/a.csv", Body=INVALID)["VersionId"]
    named = {"bucket": {"name": BUCKET}, "object": {"key": "incoming/hubspot/a.csv", "versionId": version}}

    functions("ingest", {"Records": [{"eventSource": "aws:s3", "s3": named}]})

    [told] = [json.loads(message["Body"])["detail"] for message in queue()]
    assert told["warnings"][0] == {"code": "same_content", "upload_id": first.id}
    assert [one["code"] for one in told["warnings"]] == ["same_content", "invalid_email"]


@pytest.mark.parametrize("compressed", [True, False])
def test_content_is_compared_byte_by_byte_and_by_source(functions: Call, send: Send, compressed: bool) -> None:
    body = gzip.compress(CSV, mtime=0) if compressed else CSV
    send(CSV + b"\n", source="hubspot")
    send(body, source="internal")

    upload = send(body, source="hubspot")

    assert status_of(functions, upload)["warnings"] == []
    assert status_of(functions, send(body, source="hubspot"))["warnings"] == same(upload.id)


def test_workbook_that_was_loaded_before_is_recognised(functions: Call, send: Send) -> None:
    first = send(BOOK, "a.xlsx", source="hubspot")

    assert status_of(functions, send(BOOK, "b.xlsx", source="hubspot"))["warnings"] == same(first.id)


@pytest.mark.parametrize("gone", ["deleted", "cleared", "failed"])
def test_content_whose_records_are_gone_is_no_warning(functions: Call, send: Send, store: Store, gone: str) -> None:
    body = CSV if gone != "failed" else b"customer_id,name,email\n,y,z\n"
    first = send(body, source="hubspot")
    if gone == "deleted":
        store.uploads.delete(first.id)
    elif gone == "cleared":
        store.records.clear()

    again = requested(functions, filename="a.csv", source="hubspot", sha256=digest(body))

    assert again["warnings"] == []
    assert status_of(functions, send(body, source="hubspot"))["warnings"] == []


def test_request_with_a_digest_is_told_that_the_content_was_loaded_before(functions: Call, send: Send) -> None:
    first = send(CSV, source="hubspot")

    for sha256, source, expected in (
        (digest(CSV), "hubspot", same(first.id)),
        (digest(CSV).upper(), "hubspot", same(first.id)),
        (digest(CSV), "internal", []),
        (digest(CSV), None, []),
        (digest(BOOK), "hubspot", []),
        (None, "hubspot", []),
    ):
        answer = requested(functions, filename="a.csv", source=source, sha256=sha256)
        assert (answer["status"], answer["warnings"]) == ("waiting", expected)


def test_digest_of_the_content_is_stored_salted(send: Send, store: Store) -> None:
    send(CSV, source="hubspot")

    with contextlib.closing(connect()) as connection:
        [[stored]] = connection.run("SELECT content_digest FROM upload")
        assert stored not in (None, digest(CSV))


# The source


def test_source_is_guessed_from_the_system_that_wrote_the_file(
    environment: pytest.MonkeyPatch, functions: Call, send: Send, store: Store, s3: Any
) -> None:
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    queue = watch_event_bus()
    key = "incoming/export.csv"
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=write("hubspot", contacts(20)))["VersionId"]
    named = {"bucket": {"name": BUCKET}, "object": {"key": key, "versionId": version}}

    functions("ingest", {"Records": [{"eventSource": "aws:s3", "s3": named}]})

    [upload] = store.uploads.page(None, 10)
    status = status_of(functions, upload)
    assert (status["status"], status["accepted"]) == ("done", 20)
    assert (status["source"], status["source_guessed"]) == ("hubspot", True)
    assert {one["source"] for one in json.loads(store.records.page(None, 100)[0])} == {"hubspot"}
    [told] = [json.loads(message["Body"])["detail"] for message in queue()]
    assert (told["source"], told["source_guessed"]) == ("hubspot", True)


def test_job_reads_a_file_with_the_options_of_its_metadata_and_guesses_its_source(store: Store, s3: Any) -> None:
    key, body = "incoming/export.csv", write("hubspot", contacts(50))
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"strict": "true"})["VersionId"]

    *_, (_, _, _, (source, _, _, accepted, rejected, reason)) = regions.read(
        0, regions.File(key, ObjectVersion(BUCKET, key, version))
    )

    upload = put(store, s3, key, body, strict="true")
    assert upload.rejected > 0
    assert (source, accepted, rejected, reason) == ("hubspot", upload.accepted, upload.rejected, None)


def test_source_is_not_guessed_where_it_is_given_or_named_by_the_rows(send: Send) -> None:
    hubspot = write("hubspot", contacts(3)).decode()
    header, *rows = hubspot.splitlines()
    with_source = "\n".join([f"{header},Source", *(f"{row},internal" for row in rows)])

    given, named = send(hubspot.encode(), source="internal"), send(with_source.encode())

    assert [(one.status, one.source, one.source_guessed) for one in (given, named)] == [
        ("done", "internal", False), ("done", None, False),
    ]  # fmt: skip


def test_system_that_is_no_source_is_named_in_the_reason(send: Send) -> None:
    upload = send(write("pipedrive", contacts(3)))

    assert (upload.status, upload.source_guessed) == ("failed", False)
    assert upload.reason == (
        "The file has no source column, and no source was given for the upload. It looks like an export of Pipedrive, "
        "which is not a source. Expected 'salesforce', 'hubspot' or 'internal'"
    )


def test_guessed_source_is_that_of_the_same_content(functions: Call, send: Send) -> None:
    body = write("hubspot", contacts(3))
    first = send(body)

    without = requested(functions, filename="a.csv", sha256=digest(body))
    given = requested(functions, filename="a.csv", source="hubspot", sha256=digest(body))

    assert (without["warnings"], given["warnings"]) == (same(first.id), same(first.id))
    second = send(body, source="hubspot")
    assert status_of(functions, second)["warnings"] == same(first.id)
    assert status_of(functions, send(body))["warnings"] == same(second.id)
    # What was given is not what was guessed: nobody said that the file without a source is HubSpot's.
    assert requested(functions, filename="a.csv", sha256=digest(body))["warnings"] != same(second.id)
