"""The handler of a function that does the work that its queue names."""

import json
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from dedup.api import logger
from dedup.store import Store, open_store

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def handler(kind: str, work: Callable[[int, Store, Callable[[], float]], str | None]) -> Handler:
    """Gives each message's id, under the name of its kind, to `work`, with the store and what says how many seconds are
    left; that answers with the status that it came to, or None where it was done before. A message of which it raises
    is reported, and comes again; the others of its batch do not."""
    processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)

    def one(record: SQSRecord, lambda_context: LambdaContext) -> None:
        piece = int(json.loads(record.body)[kind])
        status = work(piece, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
        logger.info("Worked", extra={f"{kind}_id": piece, "status": status or "repeated delivery"})

    @logger.inject_lambda_context(clear_state=True)
    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        return dict(process_partial_response(event, one, processor, context))

    return handle
