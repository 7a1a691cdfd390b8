"""Sends work to a function that is started by a queue."""

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

    # It takes milliseconds, or it does not come at all: the sweeper sends what was not sent here.
    return boto3.client("sqs", config=Config(connect_timeout=2, read_timeout=2, retries={"total_max_attempts": 2}))


def send(url: str, message: Mapping[str, Any], delay: int = 0) -> None:
    """Sends a message to the queue at `url`, to be delivered after so many seconds. Raises Unavailable where the queue
    does not take it."""
    try:
        client().send_message(QueueUrl=url, MessageBody=json.dumps(message), DelaySeconds=delay)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable("The queue does not take work now") from error


def give_back(url: str, receipt: str, delay: int) -> None:
    """Has a message that was received from the queue at `url` come again after so many seconds. Where the queue does
    not take it, it comes when the queue says."""
    with suppress(BotoCoreError, ClientError):
        client().change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=delay)
