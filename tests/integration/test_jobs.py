"""Jobs on Spark: what is asked, what is started on EMR Serverless, and a job that is done here."""

import io
import json
from collections.abc import Callable
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import requests
from dedup.aws import queues, spark
from dedup.settings import settings
from dedup.store import Store
from moto.emrserverless.models import emrserverless_backends

from tests.conftest import ROOT, api_event, lambda_context, load_function
from tests.integration.conftest import LOCAL_RUNNER
from tests.integration.test_regions import needs_spark

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
BUCKET = "uploads"
PATH = "/api/v1/deduplication/jobs"
ACCOUNT, REGION = "123456789012", "eu-west-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/job"
FIGURES = {
    "regions": [{"sources": ["hubspot"], "count": 3, "records": 4}],
    "customers": 3,
    "records": 4,
    "files": 2,
    "failed": 1,
    "rejected": 5,
}


def configured(environment: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    settings.cache_clear()
    spark.client.cache_clear()


def emr_application(environment: pytest.MonkeyPatch, **variables: str) -> str:
    """An application on EMR Serverless, which the functions are told of; its id."""
    made = boto3.client("emr-serverless").create_application(name="dedup", releaseLabel="emr-7.5.0", type="SPARK")
    name = str(made["applicationId"])
    configured(environment, BATCH_APPLICATION=name, BATCH_ROLE=ROLE, **variables)
    return name


@pytest.fixture
def queue(s3: Any, environment: pytest.MonkeyPatch) -> str:
    url = str(boto3.client("sqs").create_queue(QueueName="jobs")["QueueUrl"])
    configured(environment, JOB_QUEUE=url, BATCH_RUNNER=LOCAL_RUNNER)
    queues.client.cache_clear()
    return url


@pytest.fixture
def application(queue: str, environment: pytest.MonkeyPatch) -> str:
    return emr_application(environment, BATCH_RUNNER="")


@pytest.fixture
def ask(functions: Call, queue: str) -> Callable[..., dict[str, Any]]:
    def ask(wish: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        answer = functions("create_job", api_event("POST", PATH, wish or {}, headers=headers))
        return {"statusCode": answer["statusCode"], **json.loads(answer["body"])}

    return ask


@pytest.fixture
def show(functions: Call) -> Callable[[int], dict[str, Any]]:
    def show(job_id: int) -> dict[str, Any]:
        event = api_event("GET", f"{PATH}/{job_id}", parameters={"job_id": str(job_id)})
        answer: dict[str, Any] = json.loads(functions("show_job", event)["body"])
        return answer

    return show


def deliver(job_id: int) -> list[Any]:
    """What the queue's function says of a message that failed."""
    record = {"messageId": "1", "body": json.dumps({"job": job_id}), "eventSource": "aws:sqs", "attributes": {}}
    answer = load_function("run_job").handler({"Records": [{**record, "messageAttributes": {}}]}, lambda_context("run"))
    failures: list[Any] = answer["batchItemFailures"]
    return failures


def runs(application: str) -> list[Any]:
    return list(emrserverless_backends[ACCOUNT][REGION].job_runs.get(application, []))


def test_request_is_sent_once_to_the_queue_and_kept(ask: Any, show: Any, queue: str, store: Store) -> None:
    first = ask({"prefix": "incoming/hubspot/"}, **{"Idempotency-Key": "k"})

    assert (first["statusCode"], first["status"]) == (202, "waiting")
    [message] = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert json.loads(message["Body"]) == {"job": first["id"]}
    assert show(first["id"]).items() >= {"status": "waiting", "prefix": "incoming/hubspot/", "regions": None}.items()
    assert ask({"prefix": "incoming/hubspot/"}, **{"Idempotency-Key": "k"}) == first
    assert ask({}, **{"Idempotency-Key": "k"})["statusCode"] == 422
    assert ask()["id"] != first["id"]


@pytest.mark.parametrize("prefix", ["rejected/", "", "incoming", "incoming/\n", 7])
def test_only_what_arrived_can_be_read(ask: Any, store: Store, prefix: object) -> None:
    answer = ask({"prefix": prefix})

    assert answer["statusCode"] == 422
    assert answer["detail"][0]["loc"][:2] == ["body", "prefix"]


def test_where_nothing_can_run_jobs_the_answer_says_so(
    ask: Any, environment: pytest.MonkeyPatch, store: Store, functions: Call
) -> None:
    configured(environment, BATCH_RUNNER="")

    answer = ask()

    assert (answer["statusCode"], "CreateBatch=true" in answer["detail"]) == (409, True)
    assert functions("list_jobs", api_event("GET", PATH))["body"] == "[]"


def test_jobs_are_listed_newest_first_in_pages(ask: Any, functions: Call, store: Store) -> None:
    ids = [ask()["id"] for _ in range(3)]

    first = functions("list_jobs", api_event("GET", PATH, query={"limit": 2}))
    cursor = first["multiValueHeaders"]["Link"][0].split("cursor=")[1].split(">")[0]
    second = functions("list_jobs", api_event("GET", PATH, query={"limit": 2, "cursor": cursor}))

    assert [one["id"] for one in json.loads(first["body"]) + json.loads(second["body"])] == ids[::-1]


def test_unknown_job_is_404(functions: Call, store: Store) -> None:
    assert functions("show_job", api_event("GET", f"{PATH}/7", parameters={"job_id": "7"}))["statusCode"] == 404


def test_job_is_started_on_emr_once_and_its_end_is_seen(
    ask: Any, show: Any, application: str, s3: Any, store: Store
) -> None:
    begun = ask({"prefix": "incoming/hubspot/"})

    assert deliver(begun["id"]) == deliver(begun["id"]) == []

    [run] = runs(application)
    driver = run.job_driver["sparkSubmit"]
    assert driver["entryPointArguments"] == [f"s3://{BUCKET}/incoming/hubspot/", f"s3://{BUCKET}/jobs/{begun['id']}"]
    assert driver["entryPoint"] == f"s3://{BUCKET}/code/regions.py"
    assert "--conf spark.executorEnv.SOURCES=salesforce,hubspot,internal" in driver["sparkSubmitParameters"]
    assert run.execution_role_arn == ROLE
    run.state = "RUNNING"
    assert show(begun["id"]).items() >= {"status": "running", "outputs": [], "regions": None}.items()

    s3.put_object(Bucket=BUCKET, Key=f"jobs/{begun['id']}/summary.json", Body=json.dumps(FIGURES))
    s3.put_object(Bucket=BUCKET, Key=f"jobs/{begun['id']}/regions/part-0.parquet", Body=b"PAR1")
    s3.put_object(Bucket=BUCKET, Key=f"jobs/{begun['id']}/regions/_SUCCESS", Body=b"")
    run.state = "SUCCESS"
    job = show(begun["id"])
    assert job.items() >= {"status": "done", "reason": None, **FIGURES}.items()
    assert [one["name"] for one in job["outputs"]] == ["regions/part-0.parquet", "summary.json"]
    assert requests.get(job["outputs"][0]["url"], timeout=30).content == b"PAR1"


def test_job_of_many_regions_shows_the_largest_and_how_many_there_are(
    ask: Any, show: Any, application: str, s3: Any, store: Store
) -> None:
    begun = ask()
    deliver(begun["id"])
    regions = [{"sources": [f"source_{number}"], "count": 1, "records": 1} for number in range(50_000)]
    figures = json.dumps(FIGURES | {"regions": regions})
    s3.put_object(Bucket=BUCKET, Key=f"jobs/{begun['id']}/summary.json", Body=figures)
    [run] = runs(application)
    run.state = "SUCCESS"

    job = show(begun["id"])

    assert job["regions"] == regions[:100]
    assert job["region_count"] == 50_000


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_job_that_ends_badly_on_emr_says_why(ask: Any, show: Any, application: str, store: Store, state: str) -> None:
    begun = ask()
    deliver(begun["id"])
    [run] = runs(application)
    run.state, run.state_details = state, "Job failed, please check complete logs"

    assert show(begun["id"]).items() >= {"status": "failed", "reason": run.state_details, "outputs": []}.items()


def test_job_that_can_not_be_started_is_tried_three_times(
    ask: Any, show: Any, application: str, environment: pytest.MonkeyPatch, store: Store
) -> None:
    begun = ask()
    configured(environment, BATCH_APPLICATION="gone")

    states = []
    for _ in range(3):
        assert deliver(begun["id"]) == [{"itemIdentifier": "1"}]
        states.append(show(begun["id"])["status"])

    assert states == ["waiting", "waiting", "failed"]
    assert deliver(begun["id"]) == []


def test_job_here_without_files_fails_with_that_reason(ask: Any, show: Any, store: Store) -> None:
    begun = ask({"prefix": "incoming/nobody/"})

    deliver(begun["id"])

    reason = f"There are no files in s3://{BUCKET}/incoming/nobody/"
    assert show(begun["id"]).items() >= {"status": "failed", "reason": reason}.items()


@needs_spark
def test_spark_job_on_this_machine_writes_the_regions_of_the_files(ask: Any, show: Any, s3: Any, store: Store) -> None:
    body = (ROOT / "samples" / "customers.csv").read_bytes()
    s3.put_object(Bucket=BUCKET, Key="incoming/customers.csv", Body=body)
    begun = ask()

    assert deliver(begun["id"]) == []

    job = show(begun["id"])
    assert (job["status"], job["reason"], job["customers"], job["records"]) == ("done", None, 8, 12)
    assert job["regions"][0] == {"sources": ["hubspot", "salesforce"], "count": 2, "records": 4}
    tables = {one["name"].split("/")[0]: one["url"] for one in job["outputs"]}
    assert set(tables) == {"customers", "files", "regions", "rejects", "summary.json"}
    rows = pq.read_table(io.BytesIO(requests.get(tables["customers"], timeout=30).content)).to_pylist()
    assert sorted(row["customer_id"] for row in rows) == [101, 102, 103, 104, 105, 106, 107, 108]
