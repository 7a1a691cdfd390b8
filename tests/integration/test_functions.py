"""Every function through its handler, on its sample event and on what clients get wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from dedup.aws import queues
from dedup.records import MAX_RECORDS, Record
from dedup.settings import Settings, settings
from dedup.validation import MAX_BODY_BYTES
from pydantic import TypeAdapter, ValidationError

from tests.conftest import ROOT, api_event, connect, sample_records
from tests.integration.conftest import LOCAL_RUNNER

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
EVENTS = sorted((ROOT / "events").glob("*.json"))
FUNCTION_OF = {"s3_put": "ingest"}
"""The events that are not named after their function: other forms of what it takes."""
AFTER_A_RUN = {
    "activate_run", "decide", "list_entities", "look_up_entity", "match", "matching_status", "review",
    "revoke_decision", "run_changes", "show_entity", "show_run", "start_run",
}  # fmt: skip
"""The events that are about a run of the matching: test_matching.py has them."""
BEFORE = {
    "show_export": "create_export",
    "show_job": "create_job",
    "set_mapping": "s3_put",
    "preview_mapping": "s3_put",
    "apply_upload": "s3_put",
    "release_upload": "s3_put",
    "show_examples": "s3_put",
}
"""What has to come before an event, for there to be what it asks for."""
UNKNOWN = b"cust_no,e_mail_addr,tel,firm\n1,a@example.com,,\n"
"""A file that needs a mapping. The events call its upload 2."""
PREVIEWED = {"apply_upload", "release_upload", "show_examples"}
"""The events about upload 2 after a preview."""
ONE = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
BULK = "/api/v1/customers/bulk"


def body(answer: dict[str, Any]) -> Any:
    return json.loads(answer["body"])


def content_type(answer: dict[str, Any]) -> str:
    headers = answer.get("multiValueHeaders") or {k: [v] for k, v in answer["headers"].items()}
    return str(headers["Content-Type"][0])


@pytest.mark.parametrize("path", [p for p in EVENTS if p.stem not in AFTER_A_RUN], ids=lambda path: path.stem)
def test_sample_event_is_answered(functions: Call, s3: Any, environment: pytest.MonkeyPatch, path: Path) -> None:
    functions("create_customer", api_event("POST", "/api/v1/customers", ONE))  # what the events call upload 1
    s3.create_bucket(Bucket="dedup-uploads", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    file = UNKNOWN if "mapping" in path.stem else b"id,name,email\n1,A,a@example.com\n"
    options = {"dry_run": "true"} if path.stem in PREVIEWED else {}
    s3.put_object(Bucket="dedup-uploads", Key="incoming/hubspot/night export.csv", Body=file, Metadata=options)

    for name in (name for name in Settings.model_fields if name.endswith("_queue")):
        environment.setenv(name.upper(), boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"])
    environment.setenv("BATCH_RUNNER", LOCAL_RUNNER)
    settings.cache_clear()
    queues.client.cache_clear()
    if path.stem in BEFORE:
        first = BEFORE[path.stem]
        functions(FUNCTION_OF.get(first, first), json.loads((ROOT / "events" / f"{first}.json").read_text()))
    if path.stem == "release_upload":
        # A file that only adds is never held.
        with connect() as connection:
            connection.run("UPDATE upload SET status = 'held' WHERE id = 2")

    answer = functions(FUNCTION_OF.get(path.stem, path.stem), json.loads(path.read_text()))

    assert answer.get("statusCode", 200) in (200, 201, 202), answer["body"]
    assert not answer.get("batchItemFailures")


def test_every_function_has_a_sample_event() -> None:
    named = {FUNCTION_OF.get(path.stem, path.stem) for path in EVENTS}
    assert named == {path.parent.name for path in (ROOT / "functions").glob("*/*/app.py")}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("{", 400),
        ('{"customers": ' + "[" * 100_000, 400),
        ('{"customers": [' + "9" * 5000 + "]}", 400),
        ('{"customers": [{"customer_id": NaN}]}', 400),
        ('"\\ud800"', 400),
        ("[]", 422),
        ("null", 422),
        ("1", 422),
        ("{}", 422),
        ('{"customers": {}}', 422),
        ('{"customers": null}', 422),
        ('{"customers": [[]]}', 422),
        (json.dumps({"customers": [ONE | {"customer_id": 1.0}]}), 422),
        (json.dumps({"customers": [ONE]}).replace(": 1,", ": 9007199254740993.0,"), 422),
        (json.dumps({"customers": [ONE | {"customer_id": True}]}), 422),
        (json.dumps({"customers": [ONE | {"customer_id": 2**63}]}), 422),
        (json.dumps({"customers": [ONE | {"name": "a\x00b"}]}), 422),
        (json.dumps({"customers": [ONE | {"name": " \u2003"}]}), 422),
        (json.dumps({"customers": [ONE | {"email": "no address"}]}), 422),
        (json.dumps({"customers": [ONE | {"source": "'; DROP TABLE record; --"}]}), 422),
        ("x" * (6 * 1024 * 1024 + 1), 413),
        ("é" * (3 * 1024 * 1024 + 1), 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_body_is_a_problem_and_writes_nothing(functions: Call, text: str, status: int) -> None:
    answer = functions("bulk_upload", api_event("POST", BULK, text))

    problem = body(answer)
    assert (answer["statusCode"], problem["status"]) == (status, status)
    assert content_type(answer) == "application/problem+json"
    assert not any(word in answer["body"] for word in ("Traceback", "File ", "INSERT", "SELECT"))
    assert body(functions("analyze", api_event("GET", "/api/v1/deduplication/analyze")))["total_records"] == 0


@pytest.mark.parametrize("name", ["create_customer", "create_export", "start_run"])
def test_body_in_an_array_is_no_body(functions: Call, name: str) -> None:
    sample = json.loads((ROOT / "events" / f"{name}.json").read_text())

    answer = functions(name, sample | {"body": f" [{sample['body']}]"})

    assert answer["statusCode"] == 422
    assert body(answer)["detail"] == [{"loc": ["body"], "msg": "Input should be an object", "type": "model_type"}]


def test_name_is_stored_without_space_around_it(functions: Call) -> None:
    functions("create_customer", api_event("POST", "/api/v1/customers", ONE | {"name": " Ann ", "city": "\tBern "}))
    functions("bulk_upload", api_event("POST", BULK, {"customers": [ONE | {"name": "Ann\u2003", "city": " "}]}))

    listed = body(functions("list_customers", api_event("GET", "/api/v1/customers")))

    assert [(record["name"], record.get("city")) for record in listed] == [("Ann", "Bern"), ("Ann", None)]


def test_one_bad_record_refuses_the_whole_upload_and_says_which(functions: Call) -> None:
    records = [ONE] * 5 + [ONE | {"email": "x"}]

    answer = functions("bulk_upload", api_event("POST", BULK, {"customers": records}))

    [error] = body(answer)["detail"]
    assert error["loc"] == ["body", "customers", 5, "email"]
    assert error["type"] == "value_error"
    assert set(error) == {"loc", "msg", "type"}
    assert body(functions("analyze", api_event("GET", "/api/v1/deduplication/analyze")))["total_records"] == 0


@pytest.mark.parametrize(
    ("records", "listed", "total"),
    [
        ([ONE | {"name": ""}] * 99, 99, 99),
        ([ONE | {"name": ""}] * 250, 100, 100),
        ([{}] * 24, 96, 96),
        ([{}] * 1_000, 100, 100),
        ([{"source": "hubspot"}] * 1_000, 100, 102),
        ([ONE] * 1_200 + [ONE | {"name": ""}] * 50 + [ONE] * 700 + [{}] * 900, 100, 102),
    ],
)
def test_list_of_records_is_validated_until_there_are_a_hundred_errors(
    functions: Call, records: list[dict[str, Any]], listed: int, total: int
) -> None:
    answer = functions("bulk_upload", api_event("POST", BULK, {"customers": records}))

    problem = body(answer)
    assert (len(problem["detail"]), problem["total"]) == (listed, total)
    assert problem["detail"] == errors_of_all(records)[:listed]


def errors_of_all(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The errors as pydantic gives them when nothing stops it, as the answers have had them."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(list[Record]).validate_python(records)
    return [
        {"loc": ["body", "customers", *error["loc"]], "msg": error["msg"], "type": error["type"]}
        for error in refused.value.errors()
    ]


def test_list_that_is_longer_than_any_that_fits_is_refused_before_its_records_are_looked_at(functions: Call) -> None:
    answer = functions("bulk_upload", api_event("POST", BULK, {"customers": [0] * (MAX_RECORDS + 1)}))

    message = f"List should have at most {MAX_RECORDS} items after validation, not {MAX_RECORDS + 1}"
    error = {"loc": ["body", "customers"], "msg": message, "type": "too_long"}
    assert (answer["statusCode"], body(answer)["detail"], body(answer)["total"]) == (422, [error], 1)


def test_the_shortest_records_that_there_are_fit_as_often_as_is_allowed() -> None:
    shortest = json.dumps({"customer_id": 0, "name": "a", "email": "a@b.co", "source": "a"}, separators=(",", ":"))
    whole = len('{"customers":[]}') + MAX_RECORDS * (len(shortest) + 1) - 1

    assert MAX_BODY_BYTES - len(shortest) - 1 < whole <= MAX_BODY_BYTES + len('{"customers":[]}')


def test_brackets_in_names_are_not_counted_as_lists(functions: Call) -> None:
    brackets = ["[{" * 127, '\\"[{' * 60]
    records = [ONE | {"name": brackets[number % 2]} for number in range(2_000)]

    answer = functions("bulk_upload", api_event("POST", BULK, {"customers": records}))

    assert answer["statusCode"] == 201, answer["body"]


@pytest.mark.parametrize("text", ['{"customers": [' + "{}," * 300_000, '{"a":"' + '\\"' * 300_000 + "[{" * 300_000])
def test_body_of_too_many_objects_is_413_and_a_string_that_does_not_end_is_400(functions: Call, text: str) -> None:
    expected = 400 if text.startswith('{"a"') else 413

    assert functions("bulk_upload", api_event("POST", BULK, text))["statusCode"] == expected


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON; charset=utf-8", 201),
        ("text/plain", 415),
        ("multipart/form-data", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_only_json_is_taken(functions: Call, content_type: str, status: int) -> None:
    event = api_event("POST", "/api/v1/customers", ONE, headers={"Content-Type": content_type})

    assert functions("create_customer", event)["statusCode"] == status


@pytest.mark.parametrize("body", [None, ""])
@pytest.mark.parametrize("content_type", ["multipart/form-data", "text/plain", "application/x-www-form-urlencoded"])
def test_a_missing_body_of_another_media_type_is_a_missing_body(
    functions: Call, content_type: str, body: str | None
) -> None:
    event = api_event("POST", "/api/v1/customers", headers={"Content-Type": content_type}) | {"body": body}

    answer = functions("create_customer", event)

    assert (answer["statusCode"], json.loads(answer["body"])["detail"][0]["loc"]) == (422, ["body"])


@pytest.mark.parametrize(
    ("encoded", "status"),
    [
        ("eyJjdXN0b21lcnMiOiBbXX0=", 201),
        ("!!!", 400),
        ("/w==", 400),
    ],
)
def test_base64_body(functions: Call, encoded: str, status: int) -> None:
    event = api_event("POST", BULK, encoded) | {"isBase64Encoded": True}

    assert functions("bulk_upload", event)["statusCode"] == status


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ({"limit": 0}, ["query", "limit"]),
        ({"limit": 10_001}, ["query", "limit"]),
        ({"limit": "many"}, ["query", "limit"]),
        ({"cursor": "made-up"}, ["query", "cursor"]),
    ],
)
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("analyze", "/api/v1/deduplication/analyze"),
        ("compare", "/api/v1/deduplication/compare-sources"),
        ("select_customers", "/api/v1/deduplication/customers"),
        ("list_customers", "/api/v1/customers"),
    ],
)
def test_bad_page_is_422(functions: Call, name: str, path: str, query: dict[str, Any], loc: list[str]) -> None:
    answer = functions(name, api_event("GET", path, query=query))

    assert answer["statusCode"] == 422
    assert [error["loc"] for error in body(answer)["detail"]] == [loc]


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "naïve", "tab\t"])
def test_bad_idempotency_key_is_422(functions: Call, key: str) -> None:
    event = api_event("POST", "/api/v1/customers", ONE, headers={"Idempotency-Key": key})

    assert functions("create_customer", event)["statusCode"] == 422


def test_header_names_are_not_case_sensitive(functions: Call) -> None:
    answers = [
        functions("create_customer", api_event("POST", "/api/v1/customers", ONE, headers={name: "k"}))
        for name in ("Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY")
    ]

    assert len({answer["body"] for answer in answers}) == 1


def test_key_used_for_another_operation_is_422(functions: Call) -> None:
    headers = {"Idempotency-Key": "k"}
    functions("create_customer", api_event("POST", "/api/v1/customers", ONE, headers=headers))

    answer = functions("bulk_upload", api_event("POST", BULK, {"customers": [ONE]}, headers=headers))

    assert answer["statusCode"] == 422
    assert body(answer)["detail"][0]["loc"] == ["header", "Idempotency-Key"]


def test_unknown_source_names_the_known_ones(functions: Call) -> None:
    event = api_event("GET", "/api/v1/customers/source/oracle", parameters={"source": "oracle"})

    answer = functions("by_source", event)

    assert answer["statusCode"] == 422
    assert body(answer)["detail"][0]["msg"] == "Input should be 'salesforce', 'hubspot' or 'internal'"


@pytest.mark.parametrize("names", [",", "hubspot,", ",hubspot", "hubspot,,internal"])
def test_list_with_an_empty_name_is_422(functions: Call, names: str) -> None:
    answer = functions("select_customers", api_event("GET", "/api/v1/deduplication/customers", query={"not_in": names}))

    assert (answer["statusCode"], body(answer)["detail"][0]["loc"]) == (422, ["query", "not_in"])


def test_database_that_is_down_is_503_with_retry_after(environment: pytest.MonkeyPatch, functions: Call) -> None:
    environment.setenv("DB_PORT", "1")
    from dedup.settings import settings

    settings.cache_clear()
    answers = {
        "analyze": functions("analyze", api_event("GET", "/api/v1/deduplication/analyze")),
        "create_customer": functions("create_customer", api_event("POST", "/api/v1/customers", ONE)),
        "status": functions("status", api_event("GET", "/health")),
    }

    assert {answer["statusCode"] for answer in answers.values()} == {503}
    assert all(answer["multiValueHeaders"]["Retry-After"] == ["1"] for answer in answers.values())
    assert body(answers["status"])["status"] == "unhealthy"


def test_failure_of_ours_is_500_without_a_word_of_sql_or_data(
    functions: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    from dedup.store import open_store

    functions("create_customer", api_event("POST", "/api/v1/customers", ONE))
    open_store()._database.write(
        lambda c: c.run("ALTER TABLE record ADD CHECK (name <> 'Zaphod Beeblebrox')"), repeatable=True
    )

    answer = functions("create_customer", api_event("POST", "/api/v1/customers", ONE | {"name": "Zaphod Beeblebrox"}))

    assert answer["statusCode"] == 500
    shown = answer["body"] + "".join(capsys.readouterr())
    assert not any(word in shown for word in ("Zaphod", "ann@example.com", "INSERT", "Traceback"))


def test_personal_data_is_in_no_log_line(
    environment: pytest.MonkeyPatch, functions: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    people = [{**record, "name": "Zaphod Beeblebrox"} for record in sample_records()]
    functions("bulk_upload", api_event("POST", BULK, {"customers": people}, headers={"Idempotency-Key": "k"}))
    functions("bulk_upload", api_event("POST", BULK, {"customers": [*people, {"name": "Zaphod", "email": "x@y"}]}))
    functions("list_customers", api_event("GET", "/api/v1/customers"))

    logged = "".join(capsys.readouterr())

    assert not any(word in logged for word in ("Zaphod", "c101@example.com", "x@y"))


FROM_A_PAGE = """
import json, sys
from tests.conftest import api_event, lambda_context, load_function
headers = {"Origin": sys.argv[1], "Content-Type": sys.argv[2]}
event = api_event("POST", "/api/v1/customers", "{", headers=headers)
print(json.dumps(load_function("create_customer").handler(event, lambda_context("create_customer"))))
"""


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://app.example.com", True), ("https://evil.example.com", False)]
)
@pytest.mark.parametrize(("content_type", "status"), [("application/json", 400), ("text/plain", 415)])
def test_only_configured_origins_may_read_answers(origin: str, allowed: bool, content_type: str, status: int) -> None:
    environment = {**os.environ, "ALLOWED_ORIGINS": "https://app.example.com", "PYTHONPATH": f"{ROOT / 'layers'}"}

    run = subprocess.run(
        [sys.executable, "-c", FROM_A_PAGE, origin, content_type],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
    )

    answer = json.loads(run.stdout.splitlines()[-1])
    headers = {name.lower() for name in {**answer.get("headers", {}), **answer.get("multiValueHeaders", {})}}
    assert answer["statusCode"] == status
    assert ("access-control-allow-origin" in headers) == allowed
