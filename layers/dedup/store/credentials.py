"""How to sign in to the database: by an IAM token, by a secret that may be rotated at any time, or, on a laptop, by a
password. boto3 is imported only when it is used, which is once per connection."""

import json
import os
from typing import NamedTuple

from dedup.settings import Settings

TOKEN_SECONDS = 15 * 60
"""How long RDS accepts a token. A connection that was opened with it stays open."""

SECRET_SECONDS = 60 * 60
"""How long a secret is cached. If it is rotated earlier, the sign-in is refused and the secret is fetched again."""


class Credentials(NamedTuple):
    """A role of the database and its password or token."""

    user: str
    password: str | None


def credentials(settings: Settings, *, changed: bool = False) -> Credentials:
    """The credentials for the next sign-in. With `changed`, the secret is fetched again, because it was rotated.

    Raises ConnectionError if AWS does not return them."""
    if settings.db_iam_auth:
        return Credentials(settings.db_user, _token(settings))
    if settings.db_secret_arn:
        return _secret(settings.db_secret_arn, settings.db_user, changed)
    return Credentials(settings.db_user, settings.db_password)


def _secret(arn: str, user: str, changed: bool) -> Credentials:
    from aws_lambda_powertools.utilities import parameters

    try:
        value = json.loads(str(parameters.get_secret(arn, max_age=SECRET_SECONDS, force_fetch=changed)))
    except parameters.GetParameterError as error:
        raise ConnectionError("Secrets Manager did not give the secret") from error
    return Credentials(value.get("username", user), value["password"])


def _token(settings: Settings) -> str:
    # The same as boto3.client("rds").generate_db_auth_token(), without loading the service model of RDS.
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.session import Session

    url = f"https://{settings.db_host}:{settings.db_port}/"
    request = AWSRequest("GET", url, params={"Action": "connect", "DBUser": settings.db_user})
    identity = Session().get_credentials()
    if identity is None:
        raise ConnectionError("There is no AWS identity to sign in with")
    SigV4QueryAuth(identity, "rds-db", os.environ["AWS_REGION"], expires=TOKEN_SECONDS).add_auth(request)
    return str(request.prepare().url).removeprefix("https://")
