"""Cognito's question before it gives a token: takes away the scopes that the person's groups do not give."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

SCOPES = ("read", "write", "publish", "admin")
GIVES = {
    "readers": {"read"},
    "writers": {"read", "write"},
    "publishers": {"read", "write", "publish"},
    "admins": {*SCOPES},
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    groups = event["request"]["groupConfiguration"].get("groupsToOverride") or []
    given = set().union(*(GIVES.get(group, set()) for group in groups))
    refused = [f"dedup/{scope}" for scope in SCOPES if scope not in given]
    event["response"] = {"claimsAndScopeOverrideDetails": {"accessTokenGeneration": {"scopesToSuppress": refused}}}
    return event
