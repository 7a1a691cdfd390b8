"""What is seen of messages that a queue's function does not get done."""

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

from tests.conftest import ROOT

# In a process of its own, for a logger keeps the level and the output that it was made with.
BATCH = """
import json
from dedup.errors import Busy
from dedup.api.queue_handler import messages
from tests.conftest import lambda_context

def work(record, lambda_context):
    if record.body == "bad":
        raise ValueError("ann@example.com")
    if record.body == "busy":
        raise Busy

ARN = "arn:aws:sqs:eu-west-1:123456789012:files"
records = [
    {
        "messageId": body,
        "body": body,
        "eventSource": "aws:sqs",
        "eventSourceARN": ARN,
        "receiptHandle": body,
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    for body in ("good", "bad", "busy")
]
print(json.dumps(messages(work)({"Records": records}, lambda_context("ingest"))))
"""

WOKEN = """
import json
from dedup.api.queue_handler import woken
from tests.conftest import lambda_context

def work(store, remaining_seconds):
    calls.append(remaining_seconds())
    if len(calls) > 1:
        raise ValueError("ann@example.com")

calls = []
handler = woken(work)
message = {"Records": [{"messageId": name, "body": "{}", "eventSource": "aws:sqs"} for name in ("a", "b")]}
for event in (message, message, {"detail-type": "Scheduled Event"}):
    print(json.dumps(handler(event, lambda_context("resolve"))))
print(json.dumps({"calls": calls}))
"""


def printed_by(program: str) -> list[dict[str, Any]]:
    """What a program prints, a JSON document in each line."""
    powertools = {"POWERTOOLS_LOG_LEVEL": "INFO", "POWERTOOLS_SERVICE_NAME": "this-stack"}
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_MAX_ATTEMPTS": "1"}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'layers'}", **powertools, **nowhere, **keys}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    return [json.loads(line) for line in run.stdout.splitlines()]


@cache
def said() -> list[dict[str, Any]]:
    """What a batch prints, where one message is done, one fails and one is at work elsewhere."""
    return printed_by(BATCH)


def test_message_that_failed_is_logged_counted_and_comes_again() -> None:
    lines = said()

    assert {"batchItemFailures": [{"itemIdentifier": "bad"}, {"itemIdentifier": "busy"}]} in lines
    [metric] = [line for line in lines if "_aws" in line]
    assert (metric["FailedMessages"], metric["service"]) == ([1.0], "this-stack")
    assert [one["Namespace"] for one in metric["_aws"]["CloudWatchMetrics"]] == ["Dedup"]
    [error] = [line for line in lines if line.get("level") == "ERROR"]
    assert (error["error"], error["message_id"]) == ("ValueError", "bad")
    assert "ann@example.com" not in json.dumps(lines)


def test_message_that_another_attempt_works_on_is_no_failure() -> None:
    [note] = [line for line in said() if line.get("message_id") == "busy"]
    assert note["level"] == "INFO"


def test_function_that_is_woken_works_once_for_an_event_and_all_messages_of_a_failure_come_again() -> None:
    lines = printed_by(WOKEN)

    answers = [line["batchItemFailures"] for line in lines if "batchItemFailures" in line]
    assert answers == [[], [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}], []]
    assert {"calls": [900.0, 900.0, 900.0]} in lines
    assert [line["FailedMessages"] for line in lines if "_aws" in line] == [[1.0], [1.0]]
    assert [line["error"] for line in lines if line.get("level") == "ERROR"] == ["ValueError", "ValueError"]
    assert "ann@example.com" not in json.dumps(lines)
