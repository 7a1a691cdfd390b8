"""Applies pending database migrations and grants the application's role access to the tables.

CloudFormation invokes it before a new version receives traffic. It can be invoked manually at any time."""

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
        # Deleting the stack keeps the tables: they are deleted with their database.
        done = {} if event["RequestType"] == "Delete" else migrate()
    except Exception as error:
        # The message of the exception is left out: it may contain a customer's data.
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
    """Sends the custom resource's response to CloudFormation, which waits for it until the resource's
    ServiceTimeout."""
    response = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    response |= {"Status": status, "Reason": reason, "PhysicalResourceId": "migration"}
    # The URL is signed for a request with an empty content type.
    request = Request(event["ResponseURL"], json.dumps(response).encode(), {"Content-Type": ""}, method="PUT")  # noqa: S310
    with urlopen(request, timeout=30):  # noqa: S310 # nosec B310
        pass
