"""Cognito's pre token generation trigger: removes the scopes that the user's groups do not grant."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

SCOPES = ("read", "write", "publish", "admin")
SCOPES_OF_GROUP = {
    "readers": {"read"},
    "writers": {"read", "write"},
    "publishers": {"read", "write", "publish"},
    "admins": {*SCOPES},
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    groups = event["request"]["groupConfiguration"].get("groupsToOverride") or []
    granted = set().union(*(SCOPES_OF_GROUP.get(group, set()) for group in groups))
    suppressed = [f"dedup/{scope}" for scope in SCOPES if scope not in granted]
    event["response"] = {"claimsAndScopeOverrideDetails": {"accessTokenGeneration": {"scopesToSuppress": suppressed}}}
    return event
