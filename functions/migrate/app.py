"""Brings the database's tables up to date. Invoked before a new version serves; applies each migration once."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.api import logger
from dedup.store import open_store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    applied = open_store().migrate()
    logger.info("Migrated", extra={"applied": applied})
    return {"applied": applied}
