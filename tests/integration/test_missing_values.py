"""Records whose name or email is unknown or not valid, and what is said of rows that were rejected."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.records import Fields
from dedup.services import exports, ingest
from dedup.store import Store
from dedup.store.uploads import Upload

from tests.conftest import LONG_NAME, api_event
from tests.integration.conftest import BUCKET, plenty
from tests.integration.test_ingest import watch_event_bus

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

UNKNOWN = {"customer_id": 1, "name": None, "email": None, "source": "hubspot"}
LOST_DIGITS = "Scientific notation has lost digits. Export the column as text or as a number without decimals"
CSV = f"""customer_id,name,email,phone,city
1,Ann,,,
2,,b@example.com,,
3,,,7,
4,Dora Secret,not-secret@nowhere,,
5,,,,Rome
,Eve,e@example.com,,
1E+9,Fay Secret,f@example.com,,
8,{LONG_NAME},g@example.com,,
9,,,,Oslo
"""


def created(functions: Call, **fields: Any) -> tuple[int, Any]:
    answer = functions("create_customer", api_event("POST", "/api/v1/customers", {**UNKNOWN, **fields}))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def load(store: Store, s3: Any) -> Callable[[str], Upload]:
    def load(text: str) -> Upload:
        key = "incoming/hubspot/night.csv"
        version = s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())["VersionId"]
        upload = ingest.ingest(ObjectVersion(BUCKET, key, version), store, plenty)
        assert upload
        return upload

    return load


def stored(store: Store) -> list[Any]:
    return list(json.loads(store.records.page(None, 100)[0]))


@pytest.mark.parametrize("known", ["name", "email", "phone", "company"])
def test_record_with_one_field_that_identifies_is_stored(functions: Call, store: Store, known: str) -> None:
    value = "ann@example.com" if known == "email" else "7"

    status, body = created(functions, **{known: value})

    assert status == 201
    [record] = stored(store)
    expected = {"name": None, "email": None, known: value}
    assert {name: record[name] for name in expected} == expected
    assert body.items() >= expected.items()
    assert store.maintenance.verify().agreed


def test_record_without_a_field_that_identifies_is_refused(functions: Call, store: Store) -> None:
    status, body = created(functions, city="Rome")

    assert status == 422
    [error] = body["detail"]
    assert error["loc"] == ["body"]
    assert error["msg"] == "A record needs at least one of name, email, phone and company"
    assert stored(store) == []


@pytest.mark.parametrize("field", ["name", "email"])
def test_name_or_email_that_is_left_out_or_not_valid_is_refused_as_ever(functions: Call, field: str) -> None:
    given = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
    for body, kind in (
        ({name: value for name, value in given.items() if name != field}, "missing"),
        ({**given, field: ""}, "string_too_short" if field == "name" else "value_error"),
        ({**given, field: 7}, "string_type"),
    ):
        answer = functions("create_customer", api_event("POST", "/api/v1/customers", body))
        assert answer["statusCode"] == 422
        [error] = json.loads(answer["body"])["detail"]
        assert (error["loc"], error["type"]) == (["body", field], kind)


def test_bulk_stores_unknown_values_beside_others(functions: Call, store: Store) -> None:
    customers = [{**UNKNOWN, "phone": "7"}, {**UNKNOWN, "name": "Ann"}, {**UNKNOWN, "email": "ann@example.com"}]

    answer = functions("bulk_upload", api_event("POST", "/api/v1/customers/bulk", {"customers": customers}))

    assert answer["statusCode"] == 201
    assert [(one["name"], one["email"], one.get("phone")) for one in stored(store)] == [
        (None, None, "7"), ("Ann", None, None), (None, "ann@example.com", None),
    ]  # fmt: skip


def test_file_stores_unknown_and_invalid_values(store: Store, load: Any) -> None:
    upload = load(CSV)

    assert (upload.status, upload.accepted, upload.rejected) == ("done", 4, 5)
    assert [(one["customer_id"], one["name"], one["email"]) for one in stored(store)] == [
        (1, "Ann", None), (2, None, "b@example.com"), (3, None, None), (4, "Dora Secret", "not-secret@nowhere"),
    ]  # fmt: skip
    figures = store.reports.figures()
    assert (figures.filled["hubspot"]["name"], figures.filled["hubspot"]["email"]) == (2, 2)


def test_reasons_and_warnings_are_grouped_without_personal_data(
    environment: pytest.MonkeyPatch, functions: Call, s3: Any
) -> None:
    environment.setenv("EVENT_BUS", "default")
    queue = watch_event_bus()
    key = "incoming/hubspot/night.csv"
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=CSV.encode())["VersionId"]
    s3_event = {"s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "versionId": version}}}

    functions("ingest", {"Records": [{"eventSource": "aws:s3", **s3_event}]})

    shown = api_event("GET", "/api/v1/uploads/1", parameters={"upload_id": "1"})
    status = json.loads(functions("show_upload", shown)["body"])
    assert status["reasons"] == [
        {
            "field": "",
            "reason": "A record needs at least one of name, email, phone and company",
            "rows": 2,
            "example_line": 6,
        },
        {"field": "customer_id", "reason": "The customer_id is missing", "rows": 1, "example_line": 7},
        {"field": "customer_id", "reason": LOST_DIGITS, "rows": 1, "example_line": 8},
        {"field": "name", "reason": "The name has more than 255 characters", "rows": 1, "example_line": 9},
    ]
    [warning] = status["warnings"]
    assert (warning["code"], warning["field"], warning["rows"], warning["example_line"]) == (
        "invalid_email", "email", 1, 5,
    )  # fmt: skip
    [told] = [json.loads(message["Body"])["detail"] for message in queue()]
    assert (told["reasons"], told["warnings"]) == (status["reasons"], status["warnings"])
    assert "secret" not in json.dumps(told)


def test_reasons_do_not_quote_the_rows(load: Any) -> None:
    header = "customer_id,name,email,source\n"
    rows = (
        '7,Ann,ann@example.com,secret1\n8,Ann,ann@example.com,secret2\n9,"Ann "secret" Lee",x,\n9,a,b,,secret3\n9,a\n'
    )

    upload = load(header + rows)

    assert (upload.status, upload.rejected) == ("failed", 5)
    assert [(one.field, one.rows) for one in upload.reasons] == [("source", 2), ("", 1), ("", 1), ("", 1)]
    assert upload.reasons[0].reason == "The source differs from the upload's source 'hubspot'"
    assert "secret" not in str(upload.reasons)


def test_reasons_of_json_do_not_quote_the_rows(load: Any) -> None:
    good = json.dumps({"id": 1, "name": "Ann"})
    rows = ['{"id": 1, "ID": 2, "secret": 1}', '{"id": 1, "Record ID": 2}', '{"id": secret}', '{"id": 7, secret}', "[]"]

    upload = load("\n".join([good, *rows, good]))

    assert [(one.reason, one.rows) for one in upload.reasons] == [
        ("Several columns map to customer_id. Remove or rename one of them", 2),
        ("Not valid JSON", 2),
        ("Expected a JSON object", 1),
    ]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_unknown_values_are_empty_in_exports(store: Store, load: Any, s3: Any, form: str) -> None:
    load(CSV)
    export, _ = store.exports.create("{}", form)
    assert exports.write(export, store, plenty) == "done"

    [listed] = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"exports/export-{export}.")["Contents"]
    body = s3.get_object(Bucket=BUCKET, Key=listed["Key"])["Body"].read()

    if form == "csv":
        lines = body.decode("utf-8-sig").splitlines()
        assert lines[1].split(",")[4:6] == ['"Ann"', '""']
        assert lines[2].split(",")[4:6] == ['""', '"b@example.com"']
        return
    if form == "parquet":
        import io

        import pyarrow.parquet as pq

        rows = pq.read_table(io.BytesIO(body)).to_pylist()
    else:
        rows = [json.loads(line) for line in body.splitlines()]
    assert [(row["name"], row["email"]) for row in rows] == [
        ("Ann", None), (None, "b@example.com"), (None, None), ("Dora Secret", "not-secret@nowhere"),
    ]  # fmt: skip


def test_customer_without_name_and_email_is_erased(store: Store, load: Any, functions: Call) -> None:
    load(CSV)

    for customer in (3, 4):
        path = api_event("DELETE", f"/api/v1/customers/{customer}", parameters={"customer_id": str(customer)})
        assert functions("erase_customer", path)["statusCode"] == 200

    assert [one["customer_id"] for one in stored(store)] == [1, 2]
    assert store.maintenance.verify().agreed


def test_records_without_comparable_values_are_entities_of_their_own(store: Store) -> None:
    runs = pytest.importorskip("jobs.matching.runs", reason="a run needs what requirements-dev.txt has for it")
    from tests.resolving import resolve

    def nobody(customer_id: int, source: str = "hubspot") -> Fields:
        return {**UNKNOWN, "customer_id": customer_id, "source": source, "phone": "none"}

    def entities() -> int:
        found = store.maintenance.verify()
        assert found.agreed, found
        return found.entities

    first = store.records.add([nobody(1), nobody(1), nobody(2), nobody(3, "internal")])
    run, _ = store.runs.create({"methods": ["rules"]}, None, "")
    assert runs.run(run, store) == "done"
    assert entities() == 3
    store.records.add([nobody(2), nobody(4), nobody(1, "internal")])
    resolve(store)
    assert entities() == 5
    store.uploads.delete(first.id)
    resolve(store)
    assert entities() == 3
    run, _ = store.runs.create({"methods": ["rules"]}, None, "")
    assert runs.run(run, store) == "done"
    assert entities() == 3
