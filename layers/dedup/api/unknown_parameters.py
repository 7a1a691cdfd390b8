"""Finds query parameters that an operation does not declare, and the nearest declared ones."""

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


API = "/api/"
"""What the paths of the operations begin with that take no parameters but their own. To others, the page's and the
documentation's, whoever leads there may add some: signing in does."""


SIGNATURE = "x-amz-"
"""What the parameters begin with that sign a request, in lower case."""


def refuse_unknown_parameters(app: APIGatewayRestResolver, go_on: NextMiddleware) -> Response[Any]:
    """For a route: goes on where the query has no other parameters than the route declares. Raises
    RequestValidationError."""
    if errors := unknown_parameters(app):
        raise RequestValidationError(errors)
    return go_on(app)


def unknown_parameters(app: APIGatewayRestResolver) -> list[dict[str, Any]]:
    """An error for each parameter of the query that the route does not declare, in the shape that validation gives."""
    route, event = app.context["_route"], app.current_event
    if not route.path.startswith(API):
        return []
    known = [parameter.alias for parameter in route.dependant.query_params]
    given = {**event.query_string_parameters, **event.multi_value_query_string_parameters}
    unknown = (name for name in given if name not in known and not name.lower().startswith(SIGNATURE))
    return [
        {"loc": ("query", name), "msg": unknown_name("query parameter", name, known), "type": UNKNOWN_NAME}
        for name in islice(unknown, MAX_ERRORS)
    ]
