"""Brings the database's tables up to date, each migration once, and lets the application's role use them.
CloudFormation asks before a new version serves; anyone may ask at any time."""

import json
from typing import Any
from urllib.request import Request, urlopen

from aws_lambda_powertools.utilities.typing import LambdaContext
from dedup.errors import sqlstate
from dedup.observability import logger
from dedup.settings import settings
from dedup.store import open_store
from dedup.store.roles import admit


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    if "ResponseURL" not in event:
        return migrate()
    try:
        # A stack that is deleted leaves its tables: they go with their database.
        done = {} if event["RequestType"] == "Delete" else migrate()
    except Exception as error:
        # The message of an exception may hold a customer's data.
        reason = f"The migrations failed: {type(error).__name__} {sqlstate(error)}".strip()
        respond(event, "FAILED", reason)
        raise RuntimeError(reason) from None
    respond(event, "SUCCESS", json.dumps(done))
    return done


def migrate() -> dict[str, Any]:
    applied = open_store().schema.migrate()
    if settings().db_app_user:
        admit(settings())
    logger.info("Migrated", extra={"applied": applied})
    return {"applied": applied}


def respond(event: dict[str, Any], status: str, reason: str) -> None:
    """Answers CloudFormation, which waits for it until the resource's ServiceTimeout."""
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer |= {"Status": status, "Reason": reason, "PhysicalResourceId": "migration"}
    # The address is signed for a request without a content type.
    request = Request(event["ResponseURL"], json.dumps(answer).encode(), {"Content-Type": ""}, method="PUT")  # noqa: S310
    with urlopen(request, timeout=30):  # noqa: S310 # nosec B310
        pass
