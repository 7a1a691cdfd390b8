"""Resolves what changed since the last time: keeps the entities of the active run up to date. Messages in its queue and
a schedule start it, and mean the same."""

from collections.abc import Callable

from aws_lambda_powertools.metrics import MetricUnit
from dedup.api import queue_handler
from dedup.observability import logger, metrics
from dedup.services.resolver import wake
from dedup.store import Store


def resolve(store: Store, remaining_seconds: Callable[[], float]) -> None:
    records, seconds = 0, 0.0
    if not store.resolving.is_idle():
        # Imported here, because it takes a second, and mostly there is nothing to do.
        from jobs.matching.resolver import work

        worked = work(store, remaining_seconds)
        records, seconds = worked.records, worked.seconds
    if records or seconds:
        logger.info("Resolved", extra={"records": records, "unresolved_seconds": seconds})
    metrics.add_metric("ResolvedRecords", MetricUnit.Count, records)
    metrics.add_metric("UnresolvedSeconds", MetricUnit.Seconds, seconds)
    metrics.flush_metrics()
    # The time ended before the work. Without records, another invocation is at work and goes on by itself.
    if records and seconds:
        wake()


handler = queue_handler.woken(resolve)
