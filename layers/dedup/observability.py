"""The logger and the metrics that all functions share."""

import base64
import binascii
import hashlib
import json
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, CORSConfig, Response
from aws_lambda_powertools.event_handler.exceptions import ServiceError
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
    ResponseValidationError,
)
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from dedup.api.models.common import Problem
from dedup.store.connection import Unavailable
from dedup.store.connection import sqlstate
from dedup.api.pagination import BadCursor
from dedup.api.pagination import encode_cursor
from dedup.api.pagination import next_link
from dedup.records import MAX_RECORDS, describe
from dedup.settings import SERVICE
from dedup.store import UNKNOWN, Conflict, KeyReused, NoRun
from dedup.validation import MAX_BODY_BYTES, MAX_ERRORS, UNKNOWN_NAME, unknown_name


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
