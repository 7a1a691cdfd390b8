"""Works on the runs of the matching that the queue names."""

import json
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.api import logger
from dedup.store import open_store

from jobs.runs import run

# A message that failed is reported and comes again.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def work(record: SQSRecord, lambda_context: LambdaContext) -> None:
    run_id = int(json.loads(record.body)["run"])
    ended = run(run_id, open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
    logger.info("Run", extra={"run": run_id, "ended": ended})


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return dict(process_partial_response(event, work, processor, context))
