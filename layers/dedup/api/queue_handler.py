"""Lambda handlers of functions with a queue as event source."""

import json
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from dedup.aws import queues
from dedup.errors import Busy
from dedup.observability import Handler, log_failure, logger, metrics
from dedup.store import Store, open_store

FIRST_RETRY_SECONDS = 65
"""Delay before the first retry of a message. It exceeds the lease of an attempt that was killed, and covers the most
common failures: a database that resumes or fails over. Later retries wait for the queue's visibility timeout, so that a
longer outage does not use up all attempts at once."""


def messages(process: Callable[[SQSRecord, LambdaContext], object]) -> Handler:
    """Returns a handler that calls `process` for each message of a batch.

    If `process` raises, the message alone is reported as failed, and is delivered again. The error is logged and
    counted, unless it is Busy, which means that another attempt holds the lease."""
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def counted(record: SQSRecord, lambda_context: LambdaContext) -> object:
        try:
            return process(record, lambda_context)
        except Busy:
            logger.info("Another attempt is running", extra={"message_id": record.message_id})
            _retry_soon(record)
            raise
        except Exception as error:
            _count_failure(error, message_id=record.message_id)
            _retry_soon(record)
            raise

    return lambda event, context: dict(process_partial_response(event, counted, processor, context))


def _count_failure(error: Exception, **about: str) -> None:
    log_failure(error, **about)
    # Lambda's Errors metric does not count it, because the function itself succeeds.
    metrics.add_metric("FailedMessages", MetricUnit.Count, 1)
    metrics.flush_metrics()


def _retry_soon(record: SQSRecord) -> None:
    if record.attributes.approximate_receive_count == "1":
        queues.give_back(record.queue_url, record.receipt_handle, FIRST_RETRY_SECONDS)


def handler(kind: str, execute: Callable[[int, Store, Callable[[], float]], str | None]) -> Handler:
    """Returns a handler that executes the tasks of its queue.

    A message is `{kind: task id}`. `execute` is called with the id, the store, and a function that returns the
    remaining seconds. It returns the status of the task, or None if another attempt has already ended it."""

    def one(record: SQSRecord, lambda_context: LambdaContext) -> None:
        task_id = int(json.loads(record.body)[kind])
        status = execute(task_id, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
        logger.info("Executed", extra={f"{kind}_id": task_id, "status": status or "repeated delivery"})

    return logger.inject_lambda_context(messages(one), clear_state=True)


def woken(work: Callable[[Store, Callable[[], float]], object]) -> Handler:
    """Returns a handler for a function that messages and a schedule only wake: what there is to do is in the database.

    `work` is called once for an event, however many messages it has, with the store and a function that returns the
    remaining seconds. If it raises, the error is logged and counted, and all messages are delivered again."""

    def once(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        failed = []
        try:
            work(open_store(), lambda: context.get_remaining_time_in_millis() / 1000)
        except Exception as error:
            _count_failure(error)
            failed = [{"itemIdentifier": record["messageId"]} for record in event.get("Records", [])]
        return {"batchItemFailures": failed}

    return logger.inject_lambda_context(once, clear_state=True)
