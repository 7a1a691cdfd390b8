"""Writes the exports that its queue names."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup import exports
from dedup.api import logger
from dedup.store import open_store

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def write(record: SQSRecord, lambda_context: LambdaContext) -> None:
    export_id = int(json.loads(record.body)["export"])
    status = exports.write(export_id, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
    logger.info("Exported", extra={"export_id": export_id, "status": status or "repeated delivery"})


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return dict(process_partial_response(event, write, processor, context))
