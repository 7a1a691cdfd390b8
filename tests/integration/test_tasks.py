"""Tasks of every kind by one rule: asked for while the queue is down, lost on the way, cut off, delivered twice."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from dedup.aws import queues, spark
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Unavailable
from dedup.services import tasks
from dedup.services.ingest import ingest
from dedup.settings import settings
from dedup.store import Store
from dedup.store.task_outbox import KINDS, SENDS
from dedup.store.task_table import TRIES

from tests.conftest import LONG_NAME, api_event, connect, lambda_context, load_function, sample_records
from tests.integration.conftest import BUCKET, LOCAL_RUNNER

pytest.importorskip("splink", reason="a run needs what requirements-dev.txt has for it")

EXPORT, RUN, JOB, UPLOAD, DELETION, ERASURE = "export", "run", "job", "upload", "delete_upload", "erasure"
EVERY_KIND = [outbox.kind for outbox in KINDS]
ASKED = [EXPORT, RUN, JOB, DELETION]
CLAIMED = [EXPORT, RUN, JOB, UPLOAD, ERASURE]
"""Whoever works on these holds a lease. A deletion is one transaction."""

LONG = 7_200.0
FILE = b"customer_id,name,email\n7,Ada,ada@example.com\n"
REJECTED = f"customer_id,name,email\n9,{LONG_NAME},nine@example.com\n".encode()
WORKERS = {EXPORT: "export", RUN: "match", JOB: "run_job", UPLOAD: "ingest", DELETION: "ingest", ERASURE: "ingest"}


@dataclass
class Stack:
    """The functions on a local AWS, whose queues can be down."""

    environment: pytest.MonkeyPatch
    store: Store
    s3: Any
    queues: dict[str, str]

    def down(self, is_down: bool = True) -> None:
        if is_down:
            self.environment.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
        else:
            self.environment.delenv("AWS_ENDPOINT_URL_SQS", raising=False)
        queues.client.cache_clear()

    def ask(self, kind: str) -> int:
        """Asks for a task as a client does; its id. Of a file, loading begins and is interrupted."""
        if kind == UPLOAD:
            return self._interrupted_load()
        if kind == DELETION:
            deleting = load_function("delete_upload")
            deleting.MAX_SYNCHRONOUS = 2
            upload = self.store.records.add(sample_records()).id
            event = api_event("DELETE", f"/api/v1/uploads/{upload}", parameters={"upload_id": str(upload)})
            assert deleting.handler(event, lambda_context("delete_upload"))["statusCode"] == 202
            return upload
        if kind == ERASURE:
            return self._erasure()
        function, path, body = {
            EXPORT: ("create_export", "/api/v1/exports", {}),
            RUN: ("start_run", "/api/v1/matching/runs", {"settings": {"methods": ["rules"]}}),
            JOB: ("create_job", "/api/v1/deduplication/jobs", {"prefix": "incoming/nobody/"}),
        }[kind]
        answer = load_function(function).handler(api_event("POST", path, body), lambda_context(function))
        begun = json.loads(answer["body"])
        assert (answer["statusCode"], begun["status"]) == (202, "waiting")
        return int(begun["id"])

    def _erasure(self) -> int:
        key = "incoming/hubspot/rejected.csv"
        version = self.s3.put_object(Bucket=BUCKET, Key=key, Body=REJECTED)["VersionId"]
        ingest(ObjectVersion(BUCKET, key, version), self.store, lambda: 900)
        event = api_event("DELETE", "/api/v1/customers/9", parameters={"customer_id": "9"})
        assert load_function("erase_customer").handler(event, lambda_context("erase_customer"))["statusCode"] == 200
        [[erasure]] = self.sql("SELECT max(id) FROM erasure")
        return int(erasure)

    def _interrupted_load(self) -> int:
        key = "incoming/hubspot/night.csv"
        version = self.s3.put_object(Bucket=BUCKET, Key=key, Body=FILE)["VersionId"]
        load = self.claim_load(key, version, 60)
        self.store.loads.interrupt(load, "Interrupted (OSError); the next delivery starts over")
        return int(load.id)

    def claim_load(self, key: str, version: str, lease: float) -> Any:
        name, at = f"s3/{BUCKET}/{key}/{version}", datetime.now(UTC)
        return self.store.loads.claim(name, key, at, "hubspot", "add", lease, version, "somebody")

    def claim(self, kind: str, task: int, lease: float) -> Any:
        """Begins a task as its worker does."""
        if kind == UPLOAD:
            [[key, version]] = self.sql(f"SELECT object_key, object_version FROM upload WHERE id = {task}")
            return self.claim_load(key, version, lease)
        claim: dict[str, Callable[[int, float], Any]] = {
            EXPORT: self.store.exports.claim,
            RUN: self.store.runs.claim,
            JOB: self.store.jobs.claim,
            ERASURE: self.store.erasures.claim,
        }
        return claim[kind](task, lease)

    def messages(self) -> list[dict[str, int]]:
        """Takes what is in the queues."""
        sqs, found = boto3.client("sqs"), []
        for url in sorted(set(self.queues.values())):
            while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in received:
                    found.append(json.loads(message["Body"]))
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def deliver(self, kind: str, message: dict[str, int]) -> list[Any]:
        """Gives a message to its worker; what that says of it when it failed."""
        name = WORKERS[kind]
        record = {"messageId": "1", "body": json.dumps(message), "eventSource": "aws:sqs", "attributes": {}}
        event = {"Records": [record | {"messageAttributes": {}}]}
        failures: list[Any] = load_function(name).handler(event, lambda_context(name))["batchItemFailures"]
        return failures

    def sweep(self, patience: float = LONG) -> dict[str, int]:
        swept: dict[str, int] = load_function("sweep").handler({"patience": patience}, lambda_context("sweep"))
        return swept

    def state(self, kind: str, task: int) -> tuple[str, str | None]:
        """Its status and reason, as the API says them."""
        found: Any
        if kind == ERASURE:
            [[status, reason]] = self.sql(f"SELECT status, reason FROM erasure WHERE id = {task}")
            return status, reason
        if kind == RUN:
            run = self.store.runs.get(task)
            assert run
            return run["status"], run["reason"]
        if kind == EXPORT:
            found = self.store.exports.get(task, 7)
        elif kind == JOB:
            found = self.store.jobs.get(task, 7)
        else:
            found = self.store.uploads.get(task)
        return found.status, found.reason

    def sql(self, statement: str) -> Any:
        with connect() as admin:
            return admin.run(statement)


WAITS = {EXPORT: "waiting", RUN: "waiting", JOB: "waiting", UPLOAD: "waiting", DELETION: "deleting", ERASURE: "waiting"}
ENDS = {EXPORT: "done", RUN: "done", JOB: "failed", UPLOAD: "done", DELETION: "deleted", ERASURE: "done"}
"""How a task ends that is worked on: the job finds no files."""

GIVEN_UP = {EXPORT: "failed", RUN: "failed", JOB: "failed", UPLOAD: "failed", DELETION: "done", ERASURE: "failed"}


@pytest.fixture
def stack(s3: Any, environment: pytest.MonkeyPatch, store: Store) -> Stack:
    made = {name: boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"] for name in set(tasks.QUEUES.values())}
    for name, url in made.items():
        environment.setenv(name.upper(), url)
    environment.setenv("BATCH_RUNNER", LOCAL_RUNNER)
    settings.cache_clear()
    spark.client.cache_clear()
    queues.client.cache_clear()
    store.records.add(sample_records())
    return Stack(environment, store, s3, made)


@pytest.mark.parametrize("kind", ASKED)
def test_task_that_is_asked_for_while_the_queue_is_down_is_noted_and_done_later(stack: Stack, kind: str) -> None:
    stack.down()
    task = stack.ask(kind)
    with pytest.raises(Unavailable):
        tasks.sweep(stack.store)
    assert stack.state(kind, task)[0] == WAITS[kind]

    stack.down(False)
    assert stack.messages() == []
    assert stack.sweep() == {"enqueued": 1, "ended": 0}
    assert stack.sweep() == {"enqueued": 0, "ended": 0}

    [message] = stack.messages()
    assert message == {kind: task}
    assert stack.deliver(kind, message) == []
    assert stack.state(kind, task)[0] == ENDS[kind]
    assert stack.sweep(0) == {"enqueued": 0, "ended": 0}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_message_that_was_lost_is_sent_again_after_a_while_and_not_before(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    stack.messages()

    assert stack.sweep() == {"enqueued": 0, "ended": 0}
    assert stack.messages() == []
    assert stack.sweep(0) == {"enqueued": 1, "ended": 0}

    assert stack.messages() == [{kind: task}]


@pytest.mark.parametrize("kind", CLAIMED)
def test_task_that_somebody_works_on_is_left_alone_until_its_lease_is_over(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    stack.messages()
    assert stack.claim(kind, task, 60)
    assert stack.sweep(0) == {"enqueued": 0, "ended": 0}

    table = next(outbox.table for outbox in KINDS if outbox.kind == kind)
    stack.sql(f"UPDATE {table} SET lease_until = now() - interval '1 s' WHERE id = {task}")

    assert stack.sweep(0) == {"enqueued": 1, "ended": 0}
    assert stack.messages() == [{kind: task}]


def test_deletion_that_is_being_carried_out_is_left_alone(stack: Stack) -> None:
    task = stack.ask(DELETION)
    with connect() as worker:
        worker.run("BEGIN")
        worker.run(f"SELECT FROM upload WHERE id = {task} FOR UPDATE")
        assert stack.sweep(0) == {"enqueued": 0, "ended": 0}
        assert stack.deliver(DELETION, {DELETION: task}) != [], "it is to come again"
        worker.run("ROLLBACK")
    assert stack.sweep(0) == {"enqueued": 1, "ended": 0}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_task_that_nobody_takes_up_ends_with_a_reason(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    sent = 1
    while (swept := stack.sweep(0))["enqueued"]:
        sent += 1
        assert stack.state(kind, task)[0] == WAITS[kind]

    assert (sent, swept) == (SENDS, {"enqueued": 0, "ended": 1})
    status, reason = stack.state(kind, task)
    assert status == GIVEN_UP[kind]
    assert "again" in str(reason)
    assert stack.sweep(0) == {"enqueued": 0, "ended": 0}
    for message in stack.messages():
        assert stack.deliver(kind, message) == [], "one that comes after all changes nothing"
    assert stack.state(kind, task) == (status, reason)
    assert stack.store.maintenance.verify().records == 12 * (1 + (kind == DELETION))


@pytest.mark.parametrize("kind", CLAIMED)
def test_task_that_is_cut_off_every_time_ends_with_a_reason(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    tries = TRIES if kind != UPLOAD else 2 * TRIES - 1
    for _ in range(tries):
        assert stack.sweep(0)["ended"] == 0
        assert stack.claim(kind, task, 0)

    assert stack.sweep(0) == {"enqueued": 0, "ended": 1}

    status, reason = stack.state(kind, task)
    assert status == "failed"
    assert "interrupted" in str(reason)
    assert stack.claim(kind, task, 60) is None


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_message_that_comes_many_times_is_worked_on_once(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    for _ in range(4):
        stack.deliver(kind, {kind: task})

    assert stack.state(kind, task)[0] == ENDS[kind]
    if kind != UPLOAD:
        table = next(outbox.table for outbox in KINDS if outbox.kind == kind)
        [[attempts]] = stack.sql(f"SELECT attempt FROM {table} WHERE id = {task}")
        assert attempts == (0 if kind == DELETION else 1)
    [[noted]] = stack.sql(
        f"SELECT count(*) FROM audit WHERE upload_id = {task} AND action IN ('upload', 'delete upload')"
    )
    assert noted == {UPLOAD: 1, DELETION: 2}.get(kind, noted)
    assert stack.store.maintenance.verify().agreed


def test_sweeps_at_the_same_moment_send_one_message_for_each_task(
    stack: Stack, new_store: Callable[..., Store]
) -> None:
    stack.down()
    asked = [{kind: stack.ask(kind)} for kind in ASKED for _ in range(5)]
    stack.down(False)
    with ThreadPoolExecutor(4) as pool:
        swept = list(pool.map(lambda _: tasks.sweep(new_store()), range(4)))

    assert sum(len(one.enqueued) for one in swept) == len(asked)
    assert sorted(map(json.dumps, stack.messages())) == sorted(map(json.dumps, asked))


def test_more_tasks_than_one_sweep_sees_to_are_seen_to_by_the_next(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "AT_ONCE", 2)
    asked = [stack.ask(EXPORT) for _ in range(3)]
    stack.messages()
    stack.store.tasks.queues_lost(workers=False)

    assert [len(tasks.sweep(stack.store).enqueued) for _ in range(3)] == [2, 1, 0]

    assert sorted(message[EXPORT] for message in stack.messages()) == asked


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_lost_queues_make_every_task_due_at_once_and_lost_workers_theirs_too(stack: Stack, kind: str) -> None:
    task = stack.ask(kind)
    stack.messages()
    stack.store.tasks.queues_lost(workers=False)
    assert stack.sweep() == {"enqueued": 1, "ended": 0}
    if kind in CLAIMED:
        assert stack.claim(kind, task, 600)
    stack.store.tasks.queues_lost(workers=False)
    assert stack.sweep()["enqueued"] == (kind == DELETION)

    stack.store.tasks.queues_lost(workers=True)

    assert stack.sweep() == {"enqueued": 1, "ended": 0}


def test_load_that_is_resumed_is_the_same_object_of_the_same_sender(stack: Stack) -> None:
    task = stack.ask(UPLOAD)
    stack.s3.put_object(Bucket=BUCKET, Key="incoming/hubspot/night.csv", Body=FILE + b"8,Bob,bob@example.com\n")

    assert stack.deliver(UPLOAD, {UPLOAD: task}) == []

    upload = stack.store.uploads.get(task)
    assert upload
    assert (upload.status, upload.accepted) == ("done", 1)
    assert stack.sql(f"SELECT principal FROM audit WHERE action = 'upload' AND upload_id = {task}") == [["somebody"]]


def test_load_whose_object_is_gone_ends_with_that_reason(stack: Stack) -> None:
    task = stack.ask(UPLOAD)
    [[version]] = stack.sql(f"SELECT object_version FROM upload WHERE id = {task}")
    stack.s3.delete_object(Bucket=BUCKET, Key="incoming/hubspot/night.csv", VersionId=version)

    assert stack.deliver(UPLOAD, {UPLOAD: task}) == []

    status, reason = stack.state(UPLOAD, task)
    assert status == "failed"
    assert "no longer in the bucket" in str(reason)


def test_upload_that_no_file_came_for_within_a_day_ends_with_that_reason(stack: Stack) -> None:
    today, long_ago = (stack.store.uploads.create("incoming/{}-a.csv", None, "add") for _ in range(2))
    stack.sql(f"UPDATE upload SET created_at = now() - interval '25 hours' WHERE id = {long_ago}")

    assert stack.sweep(0) == {"enqueued": 0, "ended": 1}

    assert stack.state(UPLOAD, today) == ("waiting", None)
    status, reason = stack.state(UPLOAD, long_ago)
    assert status == "failed"
    assert "within a day" in str(reason)


def test_load_that_is_given_up_is_told_of_as_one_that_failed(stack: Stack, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EVENT_BUS", "default")
    settings.cache_clear()
    task = stack.ask(UPLOAD)
    for _ in range(SENDS):
        stack.sweep(0)

    upload = stack.store.uploads.get(task)
    assert upload
    assert (upload.status, upload.announced) == ("failed", True)


def test_load_that_has_no_attempt_left_ends_also_after_the_queues_were_lost(stack: Stack) -> None:
    task = stack.ask(UPLOAD)
    stack.sql(f"UPDATE upload SET attempt = {2 * TRIES} WHERE id = {task}")
    stack.store.tasks.queues_lost(workers=True)

    assert stack.sweep() == {"enqueued": 0, "ended": 1}


def test_run_on_spark_is_polled_also_if_its_message_is_lost(stack: Stack) -> None:
    task = stack.ask(RUN)
    stack.messages()
    claim = stack.claim(RUN, task, 60)
    stack.store.runs.submitted(claim, {"run": "elsewhere"})
    assert stack.sweep() == {"enqueued": 0, "ended": 0}

    assert stack.sweep(0) == {"enqueued": 1, "ended": 0}

    assert stack.messages() == [{RUN: task}]
    assert stack.state(RUN, task)[0] == "running"
    stack.store.tasks.queues_lost(workers=True)
    assert stack.state(RUN, task)[0] == "running", "Spark is not gone"


def test_attempt_at_a_job_that_was_overtaken_ends_nothing(stack: Stack) -> None:
    task = stack.ask(JOB)
    slow = stack.store.jobs.claim(task, 0)
    fast = stack.store.jobs.claim(task, 60)
    assert slow
    assert fast

    stack.store.jobs.fail(slow, "too late")
    stack.store.jobs.interrupt(slow, "too late")
    stack.store.jobs.submitted(slow, "too late")
    stack.store.jobs.finish(slow, {}, [])
    assert stack.state(JOB, task) == ("running", None)
    stack.store.jobs.finish(fast, {"records": 1}, [])

    job = stack.store.jobs.get(task, 7)
    assert job
    assert (job.status, job.run, job.figures) == ("done", None, {"records": 1})


def test_sweep_reads_open_tasks_and_not_all_that_ever_were(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.sql(
        """INSERT INTO upload (origin, status, source, key)
           SELECT 's3', 'done', 'hubspot', 'k' || n FROM generate_series(1, 20000) AS n;
           INSERT INTO export (question, format, status) SELECT '{}', 'csv', 'done' FROM generate_series(1, 20000);
           ANALYZE"""
    )
    plans: list[str] = []

    class Explains:
        def run(self, statement: str) -> list[Any]:
            plans.append("\n".join(line for [line] in stack.sql(f"EXPLAIN {statement}")))
            return []

    monkeypatch.setattr(stack.store._database, "write", lambda work, **_: work(Explains()))
    stack.store.tasks.due(LONG, 100)
    stack.store.tasks.end_overdue(LONG, 100)

    assert len(plans) == 2
    for plan in plans:
        assert "upload_open" in plan
        assert "export_open" in plan
        assert "Seq Scan on upload" not in plan
        assert "Seq Scan on export" not in plan
