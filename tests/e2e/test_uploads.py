"""Files, from a PUT to S3 until their records are counted, over HTTP and as S3's own clients do it."""

import csv
import io
import itertools
import json
import os
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, quote_plus, urljoin, urlsplit

import boto3
import pytest
import requests

from tests.conftest import LONG_NAME
from tests.crm_exports import long_salesforce_id

WAIT_SECONDS = 300
_numbers = itertools.count()


def rows(ids: Iterable[int], name: str = "Customer") -> bytes:
    lines = (f"{number},{name},c{number}@example.com" for number in ids)
    return "\n".join(["customer_id,name,email", *lines, ""]).encode()


def get(url: str, **query: Any) -> Any:
    answer = requests.get(url, params=query, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


PATHS = {"add": "uploads", "replace": "uploads/snapshots", "upsert": "uploads/upserts"}


def expect(api: str, **wish: Any) -> Any:
    answer = requests.post(
        f"{api}/{PATHS[wish.get('mode', 'add')]}", json={"filename": "export.csv"} | wish, timeout=30
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def ended(api: str, upload_id: int) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        upload = get(f"{api}/uploads/{upload_id}")
        if upload["status"] not in ("waiting", "loading"):
            return upload
        time.sleep(0.05)
    raise AssertionError(f"the upload did not end: {upload}")


def ended_object(api: str, key: str) -> Any:
    """The upload of what was put at `key` of the bucket, past the API."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for upload in get(f"{api}/uploads"):
            if upload["object_key"] == key:
                return ended(api, upload["id"])
        time.sleep(0.05)
    raise AssertionError(f"nothing was heard of {key}")


def send(api: str, body: bytes, **wish: Any) -> Any:
    expected = expect(api, **wish)
    requests.put(expected["url"], data=body, timeout=30).raise_for_status()
    return ended(api, expected["id"])


def unique_key(folder: str) -> str:
    return f"incoming/{folder}/{os.getpid()}-{next(_numbers)}.csv"


def customers(api: str, source: str) -> list[Any]:
    return [record["customer_id"] for record in get(f"{api}/customers/source/{source}")]


class Aws:
    """The local S3 and its queue, as their clients see them; found by a presigned URL."""

    def __init__(self, api: str) -> None:
        at = urlsplit(expect(api)["url"])
        if str(at.hostname).endswith(("amazonaws.com", "amazonaws.com.cn")):
            pytest.skip("the bucket is on AWS")
        self.bucket = at.path.split("/")[1]
        keys: Any = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        endpoint = f"{at.scheme}://{at.netloc}"
        self.s3 = boto3.client("s3", endpoint_url=endpoint, **keys)
        self.sqs = boto3.client("sqs", endpoint_url=endpoint, **keys)

    def put(self, key: str, body: bytes, **metadata: str) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)


@pytest.fixture
def aws(api: str) -> Aws:
    return Aws(api)


def test_a_file_put_at_the_presigned_url_is_loaded(api: str) -> None:
    expected = expect(api, source="hubspot", size=len(rows(range(1, 6))))
    assert (expected["status"], expected["method"]) == ("waiting", "PUT")
    assert get(f"{api}/uploads/{expected['id']}")["status"] == "waiting"

    requests.put(expected["url"], data=rows(range(1, 6)), timeout=30).raise_for_status()

    upload = ended(api, expected["id"])
    assert (upload["status"], upload["origin"], upload["mode"], upload["source"]) == (
        "done",
        "s3",
        "add",
        "hubspot",
    )
    assert (upload["rows"], upload["accepted"], upload["rejected"]) == (5, 5, 0)
    assert upload["customers"] == {"added": 5, "removed": 0, "unchanged": 0, "new": 5}
    assert (upload["reason"], upload["rejected_url"]) == (None, None)
    assert customers(api, "hubspot") == [1, 2, 3, 4, 5]
    assert get(f"{api}/deduplication/analyze")["total_records"] == 5


def test_what_a_client_says_of_the_type_does_not_matter(api: str) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/csv", "application/gzip"):
        expected = expect(api, source="hubspot")
        headers = {"Content-Type": content_type}
        requests.put(expected["url"], data=rows([1]), headers=headers, timeout=30).raise_for_status()
        assert ended(api, expected["id"])["accepted"] == 1


def test_an_object_put_by_any_client_is_loaded(api: str, aws: Aws) -> None:
    key = unique_key("hubspot")

    aws.put(key, rows([1, 2]))

    upload = ended_object(api, key)
    assert (upload["status"], upload["accepted"], upload["source"]) == ("done", 2, "hubspot")
    assert customers(api, "hubspot") == [1, 2]


@pytest.mark.parametrize("name", ["a file.csv", "a+b=c&d.csv", "Zoë 客户.csv", "(1)~*'!.csv", "100%25.csv"])
def test_names_with_anything_in_them(api: str, aws: Aws, name: str) -> None:
    key = f"{unique_key('hubspot')}/{name}"
    aws.put(key, rows([1]))
    assert ended_object(api, key)["status"] == "done"
    assert send(api, rows([2]), filename=name, source="hubspot")["status"] == "done"
    assert customers(api, "hubspot") == [1, 2]


def test_an_object_sent_in_parts_is_one_upload(api: str, aws: Aws) -> None:
    key = unique_key("hubspot/snapshot")
    named: Any = {"Bucket": aws.bucket, "Key": key}
    upload = aws.s3.create_multipart_upload(**named, Metadata={"mode": "replace"})["UploadId"]
    # S3 takes parts from 5 MiB, except the last.
    bodies = [rows(range(1, 25_001), "long" * 60), b"25001,Ann,ann@example.com\n"]
    parts: list[Any] = [
        {
            "PartNumber": number,
            "ETag": aws.s3.upload_part(**named, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in enumerate(bodies, 1)
    ]

    aws.s3.complete_multipart_upload(**named, UploadId=upload, MultipartUpload={"Parts": parts})

    loaded = ended_object(api, key)
    assert (loaded["status"], loaded["mode"], loaded["accepted"]) == ("done", "replace", 25_001)
    assert [one["object_key"] for one in get(f"{api}/uploads")].count(key) == 1


def test_rejected_rows_can_be_downloaded(api: str) -> None:
    body = rows([1, 2]) + b"3e9,Customer 3,c3@example.com\n4e9,=1+1,not an address\n"

    upload = send(api, body, source="hubspot")

    assert (upload["status"], upload["accepted"], upload["rejected"]) == ("done", 2, 2)
    answer = requests.get(upload["rejected_url"], timeout=30)
    assert answer.headers["Content-Disposition"] == "attachment"
    rejected = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["line"] for row in rejected] == ["4", "5"]
    assert rejected[0]["field"] == "customer_id"
    assert "3e9" in rejected[0]["row"]
    assert customers(api, "hubspot") == [1, 2]


def test_rejected_rows_of_an_erased_customer_are_cut_out_of_the_file(api: str) -> None:
    body = f"2,{LONG_NAME},c2@example.com\n1e9,,C2@Example.com\n22,{LONG_NAME},c22@example.com\n".encode()
    upload = send(api, rows([1, 2]) + body, source="hubspot")
    assert len(requests.get(upload["rejected_url"], timeout=30).text.splitlines()) == 4

    details = requests.delete(f"{api}/customers/2", timeout=30).json()["details"]

    assert (details["records"], details["rejected_files"]["files"], details["rejected_files"]["rows"]) == (1, 1, 2)
    deadline = time.monotonic() + 60
    while (again := requests.delete(f"{api}/customers/2", timeout=30)).status_code == 200:
        assert again.json()["details"]["rejected_files"]["status"] in ("waiting", "running", "done")
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert again.status_code == 404
    left = requests.get(get(f"{api}/uploads/{upload['id']}")["rejected_url"], timeout=30).text
    assert "c22@example.com" in left
    assert len(left.splitlines()) == 2
    assert requests.get(upload["rejected_url"], timeout=30).status_code == 404


def test_snapshot_replaces_the_records_of_its_source(api: str) -> None:
    assert send(api, rows([1, 2, 3]), source="hubspot")["customers"]["added"] == 3
    assert send(api, rows([1]), source="salesforce")["customers"]["added"] == 1

    upload = send(api, rows([2, 3, 4]), source="hubspot", mode="replace")

    assert (upload["status"], upload["mode"]) == ("done", "replace")
    assert upload["customers"] == {"added": 1, "removed": 1, "unchanged": 2, "new": 1}
    assert upload["records"] == {"added": 1, "changed": 0, "removed": 1, "unchanged": 2}
    assert sorted(customers(api, "hubspot")) == [2, 3, 4]
    assert customers(api, "salesforce") == [1]
    assert get(f"{api}/deduplication/analyze")["unique_customers"] == 4


HUBSPOT_DELTA = """\
id,firstname,lastname,email,phone,lastmodifieddate,archived
101,Ann,Lee,ann@new.example,,2026-11-28T10:00:00Z,false
102,,,,,2026-11-28T10:05:00Z,true
104,Dora,Diaz,dora@example.com,+1 415 555 0104,2026-11-28T10:06:00Z,false
"""


def test_delta_of_hubspot_changes_adds_and_removes_records(api: str) -> None:
    before = "id,firstname,lastname,email\n101,Ann,Lee,ann@example.com\n102,Bob,Ray,b@x.org\n103,Cy,Fox,c@x.org\n"
    assert send(api, before.encode(), source="hubspot")["status"] == "done"
    [old] = get(f"{api}/customers/101")["records"]

    upload = send(api, HUBSPOT_DELTA.encode(), source="hubspot", mode="upsert")

    assert (upload["status"], upload["mode"], upload["reason"]) == ("done", "upsert", None)
    assert (upload["rows"], upload["accepted"], upload["rejected"], upload["warnings"]) == (3, 3, 0, [])
    assert upload["records"] == {"added": 1, "changed": 1, "removed": 1, "unchanged": 0}
    assert upload["customers"] == {"added": 1, "removed": 1, "unchanged": 1, "new": 1}
    assert sorted(customers(api, "hubspot")) == [101, 103, 104]
    [ann] = get(f"{api}/customers/101")["records"]
    assert (ann["id"], ann["email"], ann["updated_at"] is None) == (old["id"], "ann@new.example", False)


ANN, BOB, CY = map(long_salesforce_id, (1, 2, 3))
SALESFORCE_DELTA = f"""\
"Id","IsDeleted","FirstName","LastName","Email","LastModifiedDate"
"{ANN}","false","Ann","Lee","ann@later.example","2026-11-28T10:00:00.000Z"
"{ANN}","false","Ann","Lee","ann@earlier.example","2026-11-28T09:00:00.000Z"
"{BOB}","TRUE","Bob","Ray","bob@example.com","2026-11-28T10:00:00.000Z"
"{CY}","false","Cy","Fox","stale@example.com","2026-11-20T10:00:00.000Z"
"""


def test_delta_of_salesforce_takes_the_latest_row_and_undoes_no_later_change(api: str) -> None:
    header, rest = SALESFORCE_DELTA.split("\n", 1)
    before = rest.replace("TRUE", "false").replace("2026-11-20", "2026-11-27").replace("2026-11-28", "2026-11-27")
    first, _, *others = before.splitlines()
    send(api, "\n".join([header, first, *others]).replace("stale@", "cy@").encode(), source="salesforce")

    upload = send(api, SALESFORCE_DELTA.encode(), source="salesforce", mode="upsert")

    assert (upload["status"], upload["rows"], upload["accepted"]) == ("done", 4, 3)
    assert upload["records"] == {"added": 0, "changed": 1, "removed": 1, "unchanged": 0}
    assert upload["reason"] == "1 rows were left out. The records in place were modified later than 1 of the rows"
    assert customers(api, "salesforce") == [ANN, CY]
    emails = [get(f"{api}/customers/{one}")["records"][0]["email"] for one in customers(api, "salesforce")]
    assert emails == ["ann@later.example", "cy@example.com"]


def test_a_snapshot_dropped_into_the_bucket(api: str, aws: Aws) -> None:
    assert send(api, rows([1]), source="hubspot")["status"] == "done"
    key = unique_key("hubspot/snapshot")

    aws.put(key, rows([2]))

    upload = ended_object(api, key)
    assert (upload["status"], upload["mode"], upload["customers"]["removed"]) == ("done", "replace", 1)
    assert customers(api, "hubspot") == [2]


@pytest.mark.parametrize("folder", ["hubspot/Snapshot", "hubspot"], ids=["folder in capitals", "metadata alone"])
def test_an_object_that_only_looks_like_a_snapshot_fails_and_changes_nothing(api: str, aws: Aws, folder: str) -> None:
    assert send(api, rows([1]), source="hubspot")["status"] == "done"
    key = unique_key(folder)

    aws.put(key, rows([2]), mode="replace")

    upload = ended_object(api, key)
    assert upload["status"] == "failed"
    assert "incoming/hubspot/snapshot/" in upload["reason"]
    assert customers(api, "hubspot") == [1]


@pytest.mark.parametrize("body", [b"1,Ann,ann@example.com\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", rows([])])
def test_a_file_that_can_not_be_loaded_fails_with_a_reason(api: str, body: bytes) -> None:
    upload = send(api, body, source="hubspot")

    assert upload["status"] == "failed"
    assert upload["reason"]
    assert customers(api, "hubspot") == []


def test_an_event_that_comes_again_changes_nothing(api: str, aws: Aws) -> None:
    key = unique_key("hubspot")
    aws.put(key, rows([1, 2]))
    first = ended_object(api, key)
    stored = get(f"{api}/customers")
    version = aws.s3.head_object(Bucket=aws.bucket, Key=key)["VersionId"]
    event = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": aws.bucket}, "object": {"key": quote_plus(key, safe="/"), "versionId": version}},
    }
    queue = aws.sqs.get_queue_url(QueueName="FilesQueue")["QueueUrl"]
    for _ in range(3):
        aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [event]}))

    # One that was sent after these has come when they have: two are handled at a time.
    for number in range(3):
        assert send(api, rows([number]), source="salesforce")["status"] == "done"
    assert get(f"{api}/uploads/{first['id']}") == first
    assert [one["object_key"] for one in get(f"{api}/uploads")].count(key) == 1
    assert get(f"{api}/customers/source/hubspot") == stored


def test_the_same_name_with_other_content_is_another_upload(api: str, aws: Aws) -> None:
    key = unique_key("hubspot")
    aws.put(key, rows([1]))
    first = ended_object(api, key)

    aws.put(key, rows([2]))

    while (second := ended_object(api, key))["id"] == first["id"]:
        time.sleep(0.05)
    assert (second["status"], second["accepted"]) == ("done", 1)
    assert customers(api, "hubspot") == [1, 2]


def test_an_upload_can_be_taken_out_again(api: str) -> None:
    first = send(api, rows([1, 2]), source="hubspot")
    second = send(api, rows([2, 3]), source="hubspot")

    answer = requests.delete(f"{api}/uploads/{second['id']}", timeout=30)

    assert (answer.status_code, answer.json()["details"]["deleted_count"]) == (200, 2)
    assert get(f"{api}/uploads/{second['id']}")["status"] == "deleted"
    assert get(f"{api}/uploads/{first['id']}")["status"] == "done"
    assert customers(api, "hubspot") == [1, 2]
    analysis = get(f"{api}/deduplication/analyze")
    assert (analysis["total_records"], analysis["unique_customer_ids"]) == (2, [1, 2])


def test_uploads_are_listed_newest_first_in_pages(api: str) -> None:
    record = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "internal"}
    by_api = requests.post(f"{api}/customers/bulk", json={"customers": [record]}, timeout=30)
    mine = [by_api.json()["details"]["upload_id"], *(send(api, rows([n]), source="hubspot")["id"] for n in range(4))]

    listed: list[Any] = []
    url = f"{api}/uploads?limit=2"
    while len(listed) < len(mine):
        answer = requests.get(url, timeout=30)
        assert len(answer.json()) == 2 or "next" not in answer.links
        listed += answer.json()
        url = urljoin(url, answer.links.get("next", {"url": url})["url"])

    assert [one["id"] for one in listed[:5]] == mine[::-1]
    assert [one["origin"] for one in listed[:5]] == ["s3"] * 4 + ["api"]


@pytest.mark.parametrize(
    ("path", "wish", "field"),
    [
        ("uploads", {"source": "zoho"}, "source"),
        ("uploads", {"source": "hubspot", "mode": "replace"}, "mode"),
        ("uploads", {"size": 0}, "size"),
        ("uploads", {"filename": "a/b"}, "filename"),
        ("uploads", {"source": "hubspot", "mode": "upsert"}, "mode"),
        ("uploads/upserts", {}, "source"),
        ("uploads/upserts", {"source": "hubspot", "mode": "replace"}, "mode"),
        ("uploads/snapshots", {}, "source"),
        ("uploads/snapshots", {"source": "hubspot", "mode": "add"}, "mode"),
    ],
)
def test_invalid_upload_request_is_refused(api: str, path: str, wish: dict[str, Any], field: str) -> None:
    answer = requests.post(f"{api}/{path}", json={"filename": "export.csv"} | wish, timeout=30)

    assert answer.status_code == 422
    assert [error["loc"][-1] for error in answer.json()["detail"]] == [field]


def test_the_url_for_a_size_is_signed_for_that_size(api: str) -> None:
    # That S3 refuses another one can't be seen here: moto checks no signature.
    signed = parse_qs(urlsplit(expect(api, size=10)["url"]).query)["X-Amz-SignedHeaders"]
    assert "content-length" in signed[0].split(";")


def test_the_api_answers_while_files_are_loaded(api: str, aws: Aws) -> None:
    keys = [unique_key("hubspot") for _ in range(4)]
    for key in keys:
        aws.put(key, rows(range(1, 20_001)))

    assert requests.get(f"{api}/deduplication/analyze", params={"limit": 1}, timeout=30).status_code == 200

    assert [ended_object(api, key)["accepted"] for key in keys] == [20_000] * 4
    assert get(f"{api}/deduplication/analyze", limit=1)["unique_customers"] == 20_000
