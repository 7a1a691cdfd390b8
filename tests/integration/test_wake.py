"""Messages that wake the resolver, and the function that they start."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from dedup.aws import queues
from dedup.services import resolver, tasks
from dedup.services.resolver import INTERVAL_SECONDS, wake
from dedup.settings import settings
from dedup.store import Store
from dedup.store.task_outbox import Task

from tests.conftest import ROOT, sample_records
from tests.integration.conftest import BUCKET, Ask

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
Woken = Callable[[], int]

SCHEDULED = json.loads((ROOT / "events" / "sweep.json").read_text())
"""The event of a schedule. It is the same for all functions."""
MESSAGE = json.loads((ROOT / "events" / "resolve.json").read_text())
MESSAGES = {"Records": [{**MESSAGE["Records"][0], "messageId": str(number)} for number in range(10)]}


@pytest.fixture
def clock(environment: pytest.MonkeyPatch) -> list[float]:
    """The time that the throttle sees, as the only item."""
    now = [1_000_000.0]
    environment.setattr(resolver, "time", lambda: now[0])
    environment.setattr(resolver, "_woken_at", 0.0)
    return now


@pytest.fixture
def woken(s3: Any, environment: pytest.MonkeyPatch, clock: list[float]) -> Woken:
    """Takes the messages from the resolver's queue, and returns their number. What follows is not throttled."""
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="resolver")["QueueUrl"]
    environment.setenv("RESOLVER_QUEUE", url)
    settings.cache_clear()
    queues.client.cache_clear()

    def woken() -> int:
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        clock[0] += 2 * INTERVAL_SECONDS
        return len(found)

    return woken


@pytest.fixture
def no_queue(woken: Woken, environment: pytest.MonkeyPatch) -> None:
    """A queue that accepts no messages."""
    environment.setenv("RESOLVER_QUEUE", f"{settings().resolver_queue}-that-is-not-there")
    settings.cache_clear()


def test_wake_many_times_within_a_second_sends_one_message(woken: Woken, clock: list[float]) -> None:
    for _ in range(50):
        wake()
        clock[0] += INTERVAL_SECONDS / 60

    assert woken() == 1


def test_wake_after_a_second_sends_another_message(woken: Woken, clock: list[float]) -> None:
    wake()
    clock[0] += INTERVAL_SECONDS
    wake()

    assert woken() == 2


def test_wake_after_the_clock_was_set_back_sends_another_message(woken: Woken, clock: list[float]) -> None:
    wake()
    clock[0] -= 3600
    wake()

    assert woken() == 2


def test_wake_without_a_queue_does_nothing(s3: Any, environment: pytest.MonkeyPatch, clock: list[float]) -> None:
    environment.delenv("RESOLVER_QUEUE", raising=False)
    settings.cache_clear()

    wake()

    assert resolver._woken_at == 0.0


def test_wake_while_the_queue_is_down_does_not_raise_and_is_throttled_too(no_queue: None, clock: list[float]) -> None:
    wake()

    assert resolver._woken_at == clock[0]


def test_upload_while_the_resolver_can_not_be_woken_is_stored(no_queue: None, ask: Ask) -> None:
    body = {"customers": sample_records()}

    status, answer = ask("bulk_upload", "POST", "customers/bulk", body)

    assert (status, answer["details"]["count"]) == (201, 12)


def test_write_of_each_kind_wakes_the_resolver(woken: Woken, functions: Call, s3: Any, ask: Ask, store: Store) -> None:
    one = {**sample_records()[0], "source": "hubspot"}
    assert ask("create_customer", "POST", "customers", one)[0] == 201
    assert woken() == 1
    assert ask("bulk_upload", "POST", "customers/bulk", {"customers": sample_records()})[0] == 201
    assert woken() == 1
    assert ask("delete_upload", "DELETE", "uploads/1", upload_id="1")[0] == 200
    assert woken() == 1
    assert ask("erase_customer", "DELETE", "customers/101", customer_id="101")[0] == 200
    assert woken() == 1
    assert ask("clear", "DELETE", "customers")[0] == 200
    assert woken() == 1
    assert ask("list_customers", "GET", "customers") == (200, [])
    assert woken() == 0


def test_file_wakes_the_resolver_when_it_is_loaded_and_not_when_it_is_previewed(
    woken: Woken, functions: Call, s3: Any, work: Callable[[], int], ask: Ask
) -> None:
    rows, key = b"id,name,email\n1,A,a@example.com\n", "incoming/hubspot/a.csv"

    def load(**metadata: str) -> None:
        version = s3.put_object(Bucket=BUCKET, Key=key, Body=rows, Metadata=metadata)["VersionId"]
        there = {"bucket": {"name": BUCKET}, "object": {"key": key, "versionId": version}}
        functions("ingest", {"Records": [{"eventSource": "aws:s3", "s3": there}]})

    load(dry_run="true")
    assert woken() == 0
    assert ask("apply_upload", "POST", "uploads/1/apply", upload_id="1")[0] == 200
    assert woken() == 0, "nothing is written before the file is loaded"
    assert work() == 1
    assert woken() == 1
    load()
    assert woken() == 1


def test_upload_that_is_deleted_later_wakes_the_resolver_when_it_is_deleted(
    woken: Woken, store: Store, work: Callable[[], int]
) -> None:
    upload = store.records.add(sample_records()).id
    store.uploads.request_deletion(upload, "ops")
    tasks.enqueue(Task("delete_upload", upload), store)
    assert woken() == 0

    assert work() == 1

    assert woken() == 1


def test_runs_and_decisions_wake_the_resolver(woken: Woken, store: Store, ask: Ask, functions: Call) -> None:
    pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it")
    from jobs.matching import runs

    store.records.add(sample_records())
    number, _ = store.runs.create({"methods": ["rules"]}, None, "", activate=False)
    assert runs.run(number, store) == "done"
    assert woken() == 1
    assert ask("activate_run", "POST", f"matching/runs/{number}/activate", run_id=str(number))[0] == 200
    assert woken() == 1
    decision = {"record_ids": [1, 2], "verdict": "same"}
    status, made = ask("decide", "POST", "matching/decisions", decision)
    assert (status, woken()) == (201, 1)
    status, _ = ask("revoke_decision", "DELETE", f"matching/decisions/{made['id']}", decision_id=str(made["id"]))
    assert (status, woken()) == (200, 1)


@pytest.mark.parametrize("event", [MESSAGE, MESSAGES, SCHEDULED], ids=["message", "messages", "schedule"])
def test_resolve_with_either_event_works_once_and_measures_it(
    functions: Call, capsys: pytest.CaptureFixture[str], event: dict[str, Any]
) -> None:
    assert functions("resolve", event) == {"batchItemFailures": []}

    [measured] = [found for line in capsys.readouterr().out.splitlines() if "_aws" in (found := json.loads(line))]
    assert (measured["ResolvedRecords"], measured["UnresolvedSeconds"]) == ([0.0], [0.0])


def test_resolve_that_found_nothing_does_not_wake_itself(woken: Woken, functions: Call) -> None:
    functions("resolve", MESSAGE)

    assert woken() == 0
