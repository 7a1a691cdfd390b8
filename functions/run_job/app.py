"""Starts the jobs that its queue names."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup import batch
from dedup.api import logger
from dedup.store import open_store

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def start(record: SQSRecord, lambda_context: LambdaContext) -> None:
    job_id = int(json.loads(record.body)["job"])
    status = batch.work(job_id, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
    logger.info("Job", extra={"job_id": job_id, "status": status or "repeated delivery"})


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return dict(process_partial_response(event, start, processor, context))
