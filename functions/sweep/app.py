"""Sends messages of tasks again that were lost, and ends tasks that can't go on. A schedule starts it."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup import tasks
from dedup.api import logger
from dedup.store import open_store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return asdict(tasks.sweep(open_store(), float(event.get("patience", tasks.PATIENCE))))
