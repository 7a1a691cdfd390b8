"""Client of SQS: messages to the functions that queues start."""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from dedup.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient


@cache
def client() -> "SQSClient":
    """The SQS client of this Lambda environment."""
    import boto3
    from botocore.config import Config

    # A request takes milliseconds. If it fails, the sweeper sends the message later.
    return boto3.client("sqs", config=Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 2}))


def send(url: str, message: Mapping[str, Any], delay: int = 0) -> None:
    """Sends a message to the queue at `url`, to be delivered after `delay` seconds. Raises Unavailable."""
    try:
        client().send_message(QueueUrl=url, MessageBody=json.dumps(message), DelaySeconds=delay)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("The queue does not accept messages now") from error


def give_back(url: str, receipt: str, delay: int) -> None:
    """Has a received message delivered again after `delay` seconds. If that fails, it is delivered after the queue's
    visibility timeout."""
    with suppress(BotoCoreError, ClientError):
        client().change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=delay)
