"""The handlers of functions that a queue starts."""

import json
from collections.abc import Callable

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from dedup.api.app import Handler
from dedup.aws import queues
from dedup.errors import Busy
from dedup.observability import log_failure, logger, metrics
from dedup.store import Store, open_store

SOON = 65
"""Seconds after which a message that failed for the first time comes again: more than the lease of an attempt that
died, and what most troubles take, a database that wakes or changes over. After that it waits as long as its queue says,
so that in a longer trouble not all of its tries are gone at once."""


def messages(work: Callable[[SQSRecord, LambdaContext], object]) -> Handler:
    """Gives each message of a batch to `work`. One of which it raises is reported, and comes again; the others do
    not. It is logged and counted as failed, unless another attempt is at it."""
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def counted(record: SQSRecord, lambda_context: LambdaContext) -> object:
        try:
            return work(record, lambda_context)
        except Busy:
            logger.info("Another attempt is at it", extra={"message_id": record.message_id})
            _give_back(record)
            raise
        except Exception as error:
            log_failure(error, message_id=record.message_id)
            # Lambda's own errors leave it out: the function itself has answered.
            metrics.add_metric("FailedMessages", MetricUnit.Count, 1)
            metrics.flush_metrics()
            _give_back(record)
            raise

    return lambda event, context: dict(process_partial_response(event, counted, processor, context))


def _give_back(record: SQSRecord) -> None:
    if record.attributes.approximate_receive_count == "1":
        queues.give_back(record.queue_url, record.receipt_handle, SOON)


def handler(kind: str, work: Callable[[int, Store, Callable[[], float]], str | None]) -> Handler:
    """Gives each message's id, under the name of its kind, to `work`, with the store and what says how many seconds are
    left; that answers with the status that it came to, or None where it was done before."""

    def one(record: SQSRecord, lambda_context: LambdaContext) -> None:
        piece = int(json.loads(record.body)[kind])
        status = work(piece, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
        logger.info("Worked", extra={f"{kind}_id": piece, "status": status or "repeated delivery"})

    return logger.inject_lambda_context(messages(one), clear_state=True)
