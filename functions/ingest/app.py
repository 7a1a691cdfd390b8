"""Loads the objects that an event names: from the queue, or S3's and EventBridge's events as they are. The queue also
brings what takes longer than an answer may: deletions of uploads, and what erasures have to cut out of files."""

import json
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.announce import announce
from dedup.api import logger
from dedup.erasure import cut, forget_expired
from dedup.ingest import ingest, objects_in
from dedup.store import open_store
from dedup.worker import messages


def load(event: dict[str, Any], context: LambdaContext) -> list[int]:
    store, uploads = open_store(), []
    forget_expired(store)
    for version in objects_in(event):
        account = ingest(version, store, lambda: context.get_remaining_time_in_millis() / 1000)
        if account:
            announce(account, store)
            logger.info("Ingested", extra={"upload_id": account.id, "status": account.status, "rows": account.rows})
            uploads.append(account.id)
    return uploads


def load_message(record: SQSRecord, lambda_context: LambdaContext) -> list[int]:
    message = json.loads(record.body)
    if "delete_upload" in message:
        open_store().delete_upload(message["delete_upload"], message["by"])
        return []
    if "erasure" in message:
        cut(message["erasure"], open_store(), lambda: lambda_context.get_remaining_time_in_millis() / 1000)
        return []
    return load(message, lambda_context)


from_queue = messages(load_message)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    records = event.get("Records") or [{}]
    if records[0].get("eventSource") == "aws:sqs":
        return from_queue(event, context)
    return {"uploads": load(event, context)}
