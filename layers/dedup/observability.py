"""The logger and the metrics shared by all functions."""

import traceback
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from dedup.errors import sqlstate
from dedup.settings import SERVICE

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]
"""A Lambda handler."""

STACK_FRAMES = 5
logger = Logger(service=SERVICE)
metrics = Metrics(namespace="Dedup", service=SERVICE)


def count_accepted(records: int) -> None:
    """Adds records that an upload stored to the metrics."""
    metrics.add_metric("RecordsAccepted", MetricUnit.Count, records)


def log_failure(error: Exception, **about: str) -> None:
    """Logs an unexpected error with its stack, and `about` as additional fields."""
    # The message of the exception is left out: it may contain a customer's data.
    logger.error(
        "Unexpected failure",
        extra={
            "error": type(error).__name__,
            "sqlstate": sqlstate(error),
            "stack": traceback.format_tb(error.__traceback__)[-STACK_FRAMES:],
            **about,
        },
    )
