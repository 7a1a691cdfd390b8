"""Signing in to the database without a password in the environment: by a secret that is rotated, by an IAM token."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters import base
from dedup.errors import Unavailable
from dedup.settings import Settings, settings
from dedup.store import Store
from dedup.store.connection import Database
from dedup.store.credentials import credentials
from moto import mock_aws
from pg8000.native import Connection, identifier, literal

from tests.conftest import sample_records

USER = "rotated"


class Vault:
    """A role of the real database whose password is in Secrets Manager, rotated as RDS does it."""

    def __init__(self, admin: Connection, client: Any) -> None:
        self._admin = admin
        self._client = client
        self.arn = client.create_secret(Name="database", SecretString="{}")["ARN"]
        self.fetched = 0
        client.meta.events.register("before-call.secretsmanager.GetSecretValue", self._count)

    def change_password(self, password: str) -> None:
        self._admin.run(f"ALTER ROLE {identifier(USER)} PASSWORD {literal(password)}")

    def change_secret(self, password: str) -> None:
        secret = json.dumps({"username": USER, "password": password})
        self._client.put_secret_value(SecretId=self.arn, SecretString=secret)

    def cut_connections(self) -> None:
        cut = self._admin.run(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {literal(USER)}"
        )
        assert cut == [[True]]

    def _count(self, **_: Any) -> None:
        self.fetched += 1


@pytest.fixture
def vault(new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s = settings()
    with (
        mock_aws(),
        Connection(
            s.db_user, host=s.db_host, port=s.db_port, database=s.db_name, password=s.db_password, ssl_context=False
        ) as admin,
    ):
        parameters.clear_caches()  # type: ignore[no-untyped-call]
        provider = parameters.SecretsProvider()
        monkeypatch.setitem(base.DEFAULT_PROVIDERS, "secrets", provider)  # type: ignore[attr-defined]
        admin.run(
            f"""CREATE ROLE {USER} LOGIN PASSWORD 'first';
                GRANT ALL ON ALL TABLES IN SCHEMA public TO {USER}"""
        )
        made = Vault(admin, provider.client)
        made.change_secret("first")
        yield made
        parameters.clear_caches()  # type: ignore[no-untyped-call]
        made._admin.run(
            f"""SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{USER}';
                DROP OWNED BY {USER}; DROP ROLE {USER}"""
        )


@pytest.fixture
def rotated_store(vault: Vault, new_store: Callable[..., Store]) -> Store:
    return new_store(db_user="nobody", db_password=None, db_secret_arn=vault.arn)


def test_secret_names_the_user_and_is_fetched_once(vault: Vault, new_store: Callable[..., Store]) -> None:
    for _ in range(3):
        new_store(db_user="nobody", db_password=None, db_secret_arn=vault.arn).ping()
    assert vault.fetched == 1


def test_password_rotated_under_a_live_connection_is_not_noticed(vault: Vault, rotated_store: Store) -> None:
    rotated_store.records.add(sample_records())
    vault.change_password("second")
    vault.change_secret("second")
    vault.cut_connections()
    assert rotated_store.records.add(sample_records(), key="again", digest="d").accepted == 12
    assert vault.fetched == 2


def test_password_rotated_several_times_is_fetched_each_time(vault: Vault, rotated_store: Store) -> None:
    rotated_store.ping()
    for password in ("second", "third", "fourth"):
        vault.change_password(password)
        vault.change_secret(password)
        vault.cut_connections()
        assert rotated_store.questions.counts() == {}


def test_password_that_changed_before_the_secret_did_is_unavailable_until_then(
    vault: Vault, rotated_store: Store
) -> None:
    rotated_store.ping()
    vault.change_password("second")
    vault.cut_connections()
    with pytest.raises(Unavailable):
        rotated_store.ping()
    vault.change_secret("second")
    rotated_store.ping()


def test_secret_that_is_not_there_is_unavailable(vault: Vault, new_store: Callable[..., Store]) -> None:
    with pytest.raises(Unavailable):
        new_store(db_secret_arn=vault.arn + "x").ping()


def test_wrong_password_without_a_secret_is_tried_once(store: Store) -> None:
    with pytest.raises(Unavailable):
        Store(Database(settings().model_copy(update={"db_password": "wrong"}))).ping()


def test_token_is_the_one_that_boto3_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "example+/=")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    host, port, user = "dedup.proxy-abc.eu-west-1.rds.amazonaws.com", 5432, "dedup_app"
    wanted = Settings(db_iam_auth=True, db_host=host, db_port=port, db_user=user)
    client = boto3.client("rds", region_name="eu-west-1")
    # Either is signed with the second in which it is made.
    for _ in range(3):
        ours, theirs = credentials(wanted), client.generate_db_auth_token(host, port, user)
        if sorted(str(ours.password).split("&")) == sorted(theirs.split("&")):
            break
    else:
        pytest.fail(f"{ours.password} is not {theirs}")
    assert ours.user == user


def test_no_identity_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    with pytest.raises(Unavailable):
        Database(Settings(db_iam_auth=True)).ping()
