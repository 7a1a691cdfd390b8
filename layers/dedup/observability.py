"""The logger and the metrics that all functions share."""

import traceback

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from dedup.errors import sqlstate
from dedup.settings import SERVICE

STACK_FRAMES = 5
logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Dedup", service=SERVICE)


def count_accepted(records: int) -> None:
    """Counts records that were stored for the first time, in the metrics."""
    metrics.add_metric("RecordsAccepted", MetricUnit.Count, records)


def log_failure(error: Exception, **about: str) -> None:
    """Logs an error that nobody expected, and what more is known about it."""
    # The message of an exception may hold a customer's data; where it was raised does not.
    logger.error(
        "Unexpected failure",
        extra={
            "error": type(error).__name__,
            "sqlstate": sqlstate(error),
            "stack": traceback.format_tb(error.__traceback__)[-STACK_FRAMES:],
            **about,
        },
    )
