"""Resolves what changed since the last time: keeps the entities of the active run up to date. Messages in its queue and
a schedule start it, and mean the same."""

from collections.abc import Callable

from aws_lambda_powertools.metrics import MetricUnit
from dedup.api import queue_handler
from dedup.observability import logger, metrics
from dedup.services.resolver import wake
from dedup.store import Store

from jobs.matching.resolver import work


def resolve(store: Store, remaining_seconds: Callable[[], float]) -> None:
    worked = work(store, remaining_seconds)
    if worked.records or worked.seconds:
        logger.info("Resolved", extra={"records": worked.records, "unresolved_seconds": worked.seconds})
    metrics.add_metric("ResolvedRecords", MetricUnit.Count, worked.records)
    metrics.add_metric("UnresolvedSeconds", MetricUnit.Seconds, worked.seconds)
    metrics.flush_metrics()
    # The time ended before the work. Without records, another invocation is at work and goes on by itself.
    if worked.records and worked.seconds:
        wake()


handler = queue_handler.woken(resolve)
