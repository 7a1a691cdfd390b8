"""When a message that failed comes again, on a local SQS."""

from typing import Any

import boto3
import pytest
from dedup.api import queue_handler
from dedup.aws import queues

from tests.conftest import lambda_context

LATER = 5400


def event(message: Any, count: int) -> dict[str, Any]:
    """What Lambda makes of a message that it received so many times."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {"ApproximateReceiveCount": str(count)},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:work",
    }
    return {"Records": [record]}


def test_message_comes_again_soon_once_and_then_when_its_queue_says(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError

    queues.client.cache_clear()
    monkeypatch.setattr(queue_handler, "FIRST_RETRY_SECONDS", 0)
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="work", Attributes={"VisibilityTimeout": str(LATER)})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="1")

    [first] = sqs.receive_message(QueueUrl=url)["Messages"]
    answer = queue_handler.messages(fails)(event(first, 1), lambda_context("ingest"))
    assert answer == {"batchItemFailures": [{"itemIdentifier": first["MessageId"]}]}

    [second] = sqs.receive_message(QueueUrl=url)["Messages"]
    queue_handler.messages(fails)(event(second, 2), lambda_context("ingest"))
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    queues.client.cache_clear()
