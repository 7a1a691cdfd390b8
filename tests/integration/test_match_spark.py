"""Runs of the matching with many records: what is started on EMR Serverless, and Spark on this machine."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

import pyarrow.parquet as pq
from dedup.aws import queues
from dedup.store import Store
from dedup.store.matching.runs import Runs
from moto.emrserverless.models import emrserverless_backends

from jobs import storage
from jobs.matching import runs
from jobs.matching.command import main
from tests.conftest import lambda_context, load_function
from tests.integration.conftest import LOCAL_RUNNER
from tests.integration.test_jobs import ACCOUNT, BUCKET, REGION, ROLE, configured, emr_application
from tests.integration.test_matching import RULES, agrees, matched, members, people, person, together
from tests.integration.test_regions import needs_spark


@pytest.fixture
def queue(s3: Any, environment: pytest.MonkeyPatch) -> str:
    """With runs of more than three records for Spark, and nothing that it could run on."""
    url = str(boto3.client("sqs").create_queue(QueueName="matches")["QueueUrl"])
    configured(environment, MATCH_QUEUE=url, ENGINE_THRESHOLD="4")
    queues.client.cache_clear()
    return url


@pytest.fixture
def application(queue: str, environment: pytest.MonkeyPatch) -> str:
    return emr_application(environment)


def started(application: str) -> list[Any]:
    return list(emrserverless_backends[ACCOUNT][REGION].job_runs.get(application, []))


def deliver(run: int) -> list[Any]:
    record = {"messageId": "1", "body": json.dumps({"run": run}), "eventSource": "aws:sqs", "attributes": {}}
    event = {"Records": [{**record, "messageAttributes": {}}]}
    failures: list[Any] = load_function("match").handler(event, lambda_context("match"))["batchItemFailures"]
    return failures


def keys(s3: Any) -> list[str]:
    return sorted(one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()))


def ask(store: Store) -> int:
    return store.runs.create(RULES, None, "")[0]


def shown(store: Store, run: int) -> dict[str, Any]:
    found = store.runs.get(run)
    assert found is not None
    return found


def work(arguments: list[str], folder: Path) -> None:
    """Does what EMR Serverless was told, on DuckDB, and leaves it where it was told to."""
    told = [str(folder / "output") if n == 1 else one for n, one in enumerate(arguments)]
    told[told.index("spark")] = "duckdb"
    assert main(told) == 0
    storage.upload(folder / "output", arguments[1])


@pytest.fixture
def four(store: Store) -> Store:
    """With four records, of which a decision makes two one."""
    store.records.add([person(1, "salesforce"), person(2, "salesforce"), person(3, "internal"), person(4, "hubspot")])
    store.decisions.decide([1, 3], "same", None, "ops")
    return store


def test_many_records_are_matched_on_emr_and_the_job_is_polled(
    four: Store, application: str, queue: str, s3: Any, tmp_path: Path
) -> None:
    run = ask(four)
    assert deliver(run) == []

    [outside] = started(application)
    # EMR Serverless starts one job for a token, however often it is asked.
    assert outside.client_token == f"match-{run}-1"
    driver = outside.job_driver["sparkSubmit"]
    place = f"s3://{BUCKET}/jobs/match/{run}-1"
    assert driver["entryPoint"] == f"s3://{BUCKET}/code/matching.py"
    assert driver["entryPointArguments"][:4] == [
        f"{place}/input/records.parquet",
        f"{place}/output",
        "--engine",
        "spark",
    ]
    assert f"--conf spark.jars=s3://{BUCKET}/code/similarity.jar" in driver["sparkSubmitParameters"]
    assert outside.execution_role_arn == ROLE
    body = s3.get_object(Bucket=BUCKET, Key=f"jobs/match/{run}-1/input/records.parquet")["Body"].read()
    (tmp_path / "records.parquet").write_bytes(body)
    assert pq.read_metadata(tmp_path / "records.parquet").num_rows == 4

    outside.state = "RUNNING"
    for _ in range(5):  # more often than an attempt may fail
        assert deliver(run) == []
    assert shown(four, run).items() >= {"status": "running", "engine": "spark", "stage": "spark"}.items()
    assert len(started(application)) == 1
    attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "6"

    work(driver["entryPointArguments"], tmp_path)
    four.records.add([person(5, "hubspot")])
    outside.state = "SUCCESS"
    assert deliver(run) == []
    assert shown(four, run).items() >= {"status": "done", "active": True, "reason": None, "records": 5}.items()
    assert together(four) == {frozenset({1, 3}), frozenset({2}), frozenset({4}), frozenset({5})}
    agrees(four)
    assert keys(s3) == []
    assert deliver(run) == []


def test_version_of_another_run_goes_with_the_records_to_emr(
    four: Store, application: str, environment: pytest.MonkeyPatch, s3: Any, tmp_path: Path
) -> None:
    configured(environment, ENGINE_THRESHOLD="5")
    first = matched(four, **RULES)
    configured(environment, ENGINE_THRESHOLD="4")
    run, _ = four.runs.create({}, None, "", model_of=first, activate=False)
    assert deliver(run) == []

    [outside] = started(application)
    arguments = outside.job_driver["sparkSubmit"]["entryPointArguments"]
    location = f"s3://{BUCKET}/jobs/match/{run}-1/input"
    assert arguments[arguments.index("--model") + 1] == location
    assert {f"jobs/match/{run}-1/input/{name}" for name in ("model.json", "terms.parquet")} <= {*keys(s3)}
    work(arguments, tmp_path)
    outside.state = "SUCCESS"
    assert deliver(run) == []

    one, other = shown(four, first), shown(four, run)
    assert (other["status"], other["active"], other["model"]) == ("done", False, one["model"])
    assert four.runs.model(run) == four.runs.model(first)
    assert keys(s3) == []


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_run_that_ends_badly_on_emr_says_why_and_the_last_one_stays(
    four: Store, application: str, environment: pytest.MonkeyPatch, s3: Any, state: str
) -> None:
    configured(environment, ENGINE_THRESHOLD="5")
    first = matched(four, **RULES)
    configured(environment, ENGINE_THRESHOLD="4")
    run = ask(four)
    deliver(run)
    [outside] = started(application)
    outside.state, outside.state_details = state, "Job failed, please check complete logs"

    assert deliver(run) == []
    assert shown(four, run).items() >= {"status": "failed", "reason": f"Spark: {outside.state_details}"}.items()
    assert shown(four, first)["active"]
    assert keys(s3) == []


def test_loading_that_was_interrupted_is_done_again_without_spark(
    four: Store, application: str, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(four)
    deliver(run)
    [outside] = started(application)
    work(outside.job_driver["sparkSubmit"]["entryPointArguments"], tmp_path)
    outside.state = "SUCCESS"
    with monkeypatch.context() as broken:
        broken.setattr(Runs, "load", lambda *_: (_ for _ in ()).throw(OSError("no disk")))
        assert deliver(run) == [{"itemIdentifier": "1"}]

    assert shown(four, run)["status"] == "waiting"
    assert deliver(run) == []
    assert shown(four, run)["status"] == "done"
    assert len(started(application)) == 1


def test_many_records_and_no_spark_fail_with_the_way_out(four: Store, queue: str) -> None:
    run = ask(four)
    assert runs.run(run, four) == "failed"
    assert "CreateBatch=true" in shown(four, run)["reason"]


@needs_spark
def test_run_by_spark_on_this_machine_gives_the_entities_and_the_review_of_duckdb(
    store: Store, queue: str, s3: Any, environment: pytest.MonkeyPatch
) -> None:
    store.records.add(people())
    names = [one["name"] for one in people()]
    two_people = [1 + names.index(name) for name in ("Robert Castellan", "Castellan, Teresa")]
    store.decisions.decide(two_people, "same", None, "ops")
    configured(environment, ENGINE_THRESHOLD="61")
    matched(store)
    by_duckdb, review_of_duckdb = members(store), reviewed_pairs(store)
    assert any(by_duckdb[entity] >= set(two_people) for entity in by_duckdb)

    configured(environment, ENGINE_THRESHOLD="60", BATCH_RUNNER=LOCAL_RUNNER)
    run = matched(store)

    assert shown(store, run).items() >= {"engine": "spark", "active": True, "records": 60}.items()
    # With their ids, which come from the run before.
    assert members(store) == by_duckdb
    assert reviewed_pairs(store) == review_of_duckdb
    agrees(store)
    assert keys(s3) == []


def reviewed_pairs(store: Store) -> dict[tuple[int, int], tuple[str, Any]]:
    """The constraint and the waterfall of each pair for clerical review."""
    pairs, _ = store.review.page(1000)
    assert len(pairs) > 3
    return {
        (pair["record_a"]["id"], pair["record_b"]["id"]): (pair["constraint_name"], pair["waterfall"]) for pair in pairs
    }
