"""Nobody gets where they don't belong: by a string, a source, a header, a URL, or an object's name."""

import csv
import hashlib
import hmac
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from dedup.aws import bucket, object_keys
from dedup.aws.bucket import ObjectVersion
from dedup.aws.object_keys import Folder
from dedup.records import KNOWN
from dedup.services import ingest
from dedup.store import Store

from tests.conftest import api_event, record
from tests.integration.conftest import BUCKET

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

STRINGS = [
    "'; DROP TABLE record; --",
    "\\'; DROP TABLE record; --",
    "\u2019; DROP TABLE record; --",
    "\uff07; DROP TABLE record; --",
    "$$; DROP TABLE record; $$",
    "E'\\047' || pg_sleep(9)",
    "' OR '1'='1",
    ":name %s %(name)s {} {0.__class__.__init__.__globals__} }{",
    "\\N",
    "\\.",
    "ends in a backslash\\",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "${jndi:ldap://127.0.0.1/x} {{7*7}}",
    "=cmd|' /C calc'!A0",
    "\u202egnirts",
    "http://169.254.169.254/latest/meta-data/",
]
SOURCES = [
    "../x",
    "'; DROP TABLE source; --",
    "hubsp\u043et",
    "ｈｕｂｓｐｏｔ",
    "hubspot\u200b",
    "hub\u00adspot",
    "hubspot'--",
]


def stored(store: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(store.records.page(None, 1000)[0])
    return found


@pytest.mark.parametrize("way", ["create_customer", "bulk_upload", "csv", "ndjson"])
def test_every_string_of_a_record_is_kept_as_it_came(functions: Call, store: Store, s3: Any, way: str) -> None:
    """Names, and all that may be known of a customer, however the record comes."""
    fields = ("name", *KNOWN)
    people: list[dict[str, Any]] = [
        {"customer_id": n, "email": f"c{n}@example.com", "source": "hubspot"} | dict.fromkeys(fields, text)
        for n, text in enumerate(STRINGS)
    ]
    if way == "create_customer":
        for person in people:
            assert functions(way, api_event("POST", "/api/v1/customers", person))["statusCode"] == 201
    elif way == "bulk_upload":
        event = api_event("POST", "/api/v1/customers/bulk", {"customers": people})
        assert functions(way, event)["statusCode"] == 201
    else:
        file = io.StringIO()
        if way == "csv":
            writer = csv.DictWriter(file, people[0])
            writer.writeheader()
            writer.writerows(people)
        else:
            file.writelines(json.dumps(person) + "\n" for person in people)
        made = s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/a", Body=file.getvalue().encode())
        upload = ingest.ingest(ObjectVersion(BUCKET, "incoming/hubspot/a", made["VersionId"]), store, lambda: 900.0)
        assert upload
        assert (upload.status, upload.rejected) == ("done", 0)

    found = stored(store)

    assert [{name: person[name] for name in people[0]} for person in found] == people
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("text", STRINGS)
def test_no_parameter_is_more_than_a_value(functions: Call, store: Store, s3: Any, text: str) -> None:
    """Every string that a caller may choose: it is refused or taken as it is, and never a failure of ours."""
    store.records.add([record(1, "hubspot")])
    api = "/api/v1"
    one = record(2, "hubspot")
    asked = [
        ("by_source", api_event("GET", f"{api}/customers/source/x", parameters={"source": text})),
        ("by_source", api_event("GET", f"{api}/customers/source/{quote(text, safe='')}")),
        *(
            ("select_customers", api_event("GET", f"{api}/deduplication/customers", query={name: text}))
            for name in ("in", "not_in", "region", "by", "cursor", "limit")
        ),
        *(
            (name, api_event("GET", f"{api}/{path}", query={"cursor": text}))
            for name, path in (("analyze", "deduplication/analyze"), ("list_customers", "customers"))
        ),
        ("create_upload", api_event("POST", f"{api}/uploads", {"filename": text})),
        ("create_upload", api_event("POST", f"{api}/uploads", {"filename": "a.csv", "source": text})),
        ("create_upload", api_event("POST", f"{api}/uploads", {"filename": "a.csv", "mode": text})),
        ("create_snapshot", api_event("POST", f"{api}/uploads/snapshots", {"filename": text, "source": "hubspot"})),
        ("create_snapshot", api_event("POST", f"{api}/uploads/snapshots", {"filename": "a.csv", "source": text})),
        ("create_customer", api_event("POST", f"{api}/customers", one | {"source": text})),
        ("create_customer", api_event("POST", f"{api}/customers", one | {"email": text})),
        ("create_customer", api_event("POST", f"{api}/customers", one | {"customer_id": text})),
        ("create_customer", api_event("POST", f"{api}/customers", one, headers={"Idempotency-Key": text})),
        ("create_customer", api_event("POST", f"{api}/customers", one, headers={"Content-Type": text})),
        ("show_customer", api_event("GET", f"{api}/customers/{quote(text, safe='')}")),
        ("clear", api_event("DELETE", f"{api}/customers", query={"confirm": text}) | {"httpMethod": "GET"}),
    ]

    answers = [functions(name, event) for name, event in asked]

    assert not [answer for answer in answers if answer["statusCode"] >= 500]
    assert {person["customer_id"] for person in stored(store)} <= {1, 2, text}
    assert 1 in {person["customer_id"] for person in stored(store)}
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize("source", SOURCES)
def test_source_that_only_looks_like_one_is_none(functions: Call, store: Store, s3: Any, source: str) -> None:
    person = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": source}
    answer = functions("create_customer", api_event("POST", "/api/v1/customers", person))
    assert answer["statusCode"] == 422

    key, row = f"incoming/{source}/a.csv", f"customer_id,name,email,source\n1,Ann,ann@example.com,{source}\n".encode()
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=row)
    by_key = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, lambda: 900.0)
    made = s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/a.csv", Body=row)
    by_row = ingest.ingest(ObjectVersion(BUCKET, "incoming/hubspot/a.csv", made["VersionId"]), store, lambda: 900.0)

    assert by_key
    assert by_key.status == "failed"
    assert "is not a source" in str(by_key.reason)
    assert by_row
    assert by_row.status == "failed"
    assert stored(store) == []


@pytest.mark.parametrize(
    "name",
    [
        "http://169.254.169.254/latest/meta-data/iam",
        "//127.0.0.1:22/x",
        "../../other/hubspot/x.csv",
        "a?versionId=null&x=y#z",
        "%2e%2e%2f%00.csv",
        "a b+c&d=e;f.csv",
    ],
)
def test_object_is_found_by_its_whole_name_wherever_that_seems_to_lead(store: Store, s3: Any, name: str) -> None:
    key = f"incoming/hubspot/{name}"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=b"id,name,email\n1,Ann,ann@example.com\n1e9,y,z\n")
    event = {"key": quote(key, safe=""), "versionId": made["VersionId"]}
    [version] = ingest.objects_in({"Records": [{"s3": {"bucket": {"name": BUCKET}, "object": event}}]})

    upload = ingest.ingest(version, store, lambda: 900.0)

    assert upload
    assert (upload.status, upload.accepted, upload.rejected) == ("done", 1, 1)
    assert upload.object_key == key
    assert upload.rejected_key == f"rejected/upload-{upload.id}-rejected.csv"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-Proto", "javascript:alert(1)//"),
        ("X-Forwarded-Host", "evil.example.com"),
        ("Host", "evil.example.com"),
        ("X-Original-URL", "/api/v1/customers"),
        ("X-HTTP-Method-Override", "DELETE"),
    ],
)
def test_hostile_headers_do_not_change_the_links(functions: Call, store: Store, header: str, value: str) -> None:
    store.records.add([record(n, "hubspot") for n in range(3)])
    event = api_event("GET", "/api/v1/customers", query={"limit": 1}, headers={header: value})

    answer = functions("list_customers", event)

    assert answer["statusCode"] == 200
    [link] = answer["multiValueHeaders"]["Link"]
    assert link.startswith("<https://api.example.com/live/api/v1/customers?limit=1&cursor=")
    assert len(stored(store)) == 3


# Presigned URLs. moto checks no signature: here it is made anew from the request, as AWS documents version 4.


def sent(method: str, url: str, headers: dict[str, str]) -> bool:
    """Whether S3 would take this request: it bears the signature that the secret gives to it."""
    at = urlsplit(url)
    query = dict(parse_qsl(at.query, keep_blank_values=True))
    signature = query.pop("X-Amz-Signature")
    date, region, service, kind = query["X-Amz-Credential"].split("/")[1:]
    given = {"host": at.netloc} | {name.lower(): value for name, value in headers.items()}
    signed = query["X-Amz-SignedHeaders"].split(";")
    if not set(signed) <= given.keys():
        return False
    canonical = "\n".join(
        [
            method,
            at.path,
            urlencode(sorted(query.items()), quote_via=quote, safe="-_.~"),
            *(f"{name}:{given[name]}" for name in signed),
            "",
            ";".join(signed),
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = f"{date}/{region}/{service}/{kind}"
    to_sign = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4test"
    for part in (date, region, service, kind, to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.compare_digest(key.hex(), signature)


@pytest.fixture
def upload_url(environment: pytest.MonkeyPatch, s3: Any) -> Callable[..., str]:
    """As on AWS, where there is no other endpoint."""
    environment.delenv("AWS_ENDPOINT_URL")
    bucket.client.cache_clear()
    return bucket.upload_url


def test_presigned_url_takes_its_own_object_of_its_size_and_nothing_else(upload_url: Callable[..., str]) -> None:
    url = upload_url(object_keys.key_for("night.csv", Folder("hubspot", "add")).format(7), 100)
    size = {"Content-Length": "100"}

    assert sent("PUT", url, size)
    assert sent("PUT", url, size | {"Content-Type": "text/csv"})  # of any type: what is in it counts
    assert not sent("PUT", url, {"Content-Length": "101"})
    assert not sent("PUT", url, {})
    assert not sent("GET", url, size)
    assert not sent("DELETE", url, size)
    assert not sent("PUT", url.replace("7-night.csv", "8-night.csv"), size)
    assert not sent("PUT", url.replace("hubspot", "internal"), size)
    assert not sent("PUT", url.replace("/incoming/", "/rejected/"), size)


def test_presigned_url_can_be_made_to_live_no_longer(upload_url: Callable[..., str]) -> None:
    url = upload_url("incoming/hubspot/7-night.csv", None)
    [(_, date)] = [pair for pair in parse_qsl(urlsplit(url).query) if pair[0] == "X-Amz-Date"]

    assert sent("PUT", url, {})
    assert f"X-Amz-Expires={bucket.URL_SECONDS}" in url
    assert not sent("PUT", url.replace("X-Amz-Expires=900", "X-Amz-Expires=9000"), {})
    assert not sent("PUT", url.replace(date, f"{int(date[:4]) + 1}{date[4:]}"), {})


def test_download_url_gives_that_version_of_that_object_as_a_file(upload_url: Callable[..., str]) -> None:
    url = bucket.download_url("rejected/hubspot/7-night.csv.csv", "v1")

    assert sent("GET", url, {})
    assert not sent("PUT", url, {})
    assert not sent("GET", url.replace("versionId=v1", "versionId=v2"), {})
    assert not sent("GET", url.replace("attachment", "inline"), {})
    assert not sent("GET", url.replace("rejected", "incoming"), {})
