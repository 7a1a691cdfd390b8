"""Announces that an upload ended, or that it waits for a decision: by an event on the event bus, by metrics, and to the
resolver."""

import json
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from aws_lambda_powertools.metrics import MetricUnit

from dedup.observability import metrics
from dedup.services.resolver import wake
from dedup.sets import EVERYBODY, count
from dedup.settings import settings
from dedup.store import Store
from dedup.store.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_events.client import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

DETAIL_TYPES = {
    "done": "UploadCompleted",
    "failed": "UploadFailed",
    "needs_mapping": "UploadNeedsMapping",
    "previewed": "UploadPreviewed",
    "held": "UploadHeld",
}


@cache
def _client() -> "EventBridgeClient":
    import boto3

    return boto3.client("events")


def announce(upload: Upload, store: Store) -> None:
    """Announces an upload whose status is in DETAIL_TYPES. Each of these is announced once, or again by the next
    delivery of its event if the function is killed in between. Raises RuntimeError if EventBridge does not accept the
    event."""
    if upload.announced or upload.status not in DETAIL_TYPES:
        return
    if upload.status == "done":
        wake()
    if settings().event_bus:
        entry: PutEventsRequestEntryTypeDef = {
            "EventBusName": settings().event_bus,
            "Source": "dedup",
            "DetailType": DETAIL_TYPES[upload.status],
            "Detail": json.dumps({name: value for name, value in asdict(upload).items() if name != "announced"}),
        }
        response = _client().put_events(Entries=[entry])
        if response["FailedEntryCount"]:
            raise RuntimeError("EventBridge did not accept the event")
    if upload.status in ("done", "failed"):
        _count(upload, store)
    if upload.status == "held":
        metrics.add_metric("UploadsHeld", MetricUnit.Count, 1)
        metrics.flush_metrics()
    store.uploads.announced(upload.id)


def _count(upload: Upload, store: Store) -> None:
    # Read before the first metric is added: after an error, metrics would be emitted with the next upload's.
    found = store.questions.select({"ids": EVERYBODY}, {}, 1)
    customers = count(found.regions)
    metrics.add_metric("RecordsAccepted", MetricUnit.Count, upload.accepted)
    metrics.add_metric("RecordsRejected", MetricUnit.Count, upload.rejected)
    if upload.started_at and upload.finished_at:
        took = datetime.fromisoformat(upload.finished_at) - datetime.fromisoformat(upload.started_at)
        metrics.add_metric("UploadSeconds", MetricUnit.Seconds, took.total_seconds())
    metrics.add_metric("Customers", MetricUnit.Count, customers)
    metrics.add_metric("Duplicates", MetricUnit.Count, found.records - customers)
    metrics.flush_metrics()
