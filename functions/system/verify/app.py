"""Recomputes membership and counts from the records, repairs differences, and reports them."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.observability import logger
from dedup.store import open_store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    found = open_store().maintenance.verify()
    result = {"agreed": found.agreed, **asdict(found)}
    logger.info("Verified", extra=result)
    return result
