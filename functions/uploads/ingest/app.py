"""Loads the objects of S3 or EventBridge events, from the queue or directly. The queue also delivers uploads whose
event was lost, deletions of large uploads, and removals of an erased customer's rows from files."""

import json
from collections.abc import Iterable
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.api.queue_handler import messages
from dedup.observability import logger
from dedup.services.erasure import cut
from dedup.services.ingest import ingest, objects_in, resume
from dedup.services.resolver import wake
from dedup.services.upload_events import announce
from dedup.store import open_store
from dedup.store.uploads import Upload


def load(event: dict[str, Any], context: LambdaContext) -> list[int]:
    store = open_store()

    def remaining_seconds() -> float:
        return context.get_remaining_time_in_millis() / 1000

    if "upload" in event:
        return announced([resume(int(event["upload"]), store, remaining_seconds)])
    return announced(ingest(version, store, remaining_seconds) for version in objects_in(event))


def announced(loaded_uploads: Iterable[Upload | None]) -> list[int]:
    uploads = []
    for upload in filter(None, loaded_uploads):
        announce(upload, open_store())
        logger.info("Ingested", extra={"upload_id": upload.id, "status": upload.status, "rows": upload.rows})
        uploads.append(upload.id)
    return uploads


def load_message(record: SQSRecord, lambda_context: LambdaContext) -> list[int]:
    message = json.loads(record.body)
    if "delete_upload" in message:
        open_store().uploads.delete_requested(int(message["delete_upload"]))
        wake()
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
