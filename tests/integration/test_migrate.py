"""What CloudFormation and the two roles of the database see of migrate."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from dedup.settings import settings
from dedup.store import Store
from pg8000.exceptions import DatabaseError

from tests.conftest import connect, lambda_context, load_function, sample_records

APP = "dedup_app"


class CloudFormation:
    """Takes the answers of custom resources, as the signed address of CloudFormation's does."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        stack = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                assert not self.headers["Content-Type"]
                stack.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def request(self, kind: str) -> dict[str, Any]:
        return {
            "RequestType": kind,
            "ResponseURL": f"http://127.0.0.1:{self.server.server_port}/answer?signature=x",
            "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/dedup/1",
            "RequestId": "a-request",
            "ResourceType": "Custom::Migration",
            "LogicalResourceId": "Migration",
            "ResourceProperties": {"Layer": "arn:aws:lambda:us-east-1:123456789012:layer:dedup:7"},
        }


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    stack = CloudFormation()
    yield stack
    stack.server.shutdown()


def context() -> Any:
    made = lambda_context("migrate")
    made.log_group_name = "/aws/lambda/dedup"
    return made


@pytest.fixture
def migrate(environment: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: load_function("migrate").handler(event, context())


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_stack_waits_for_the_migrations(
    migrate: Callable[..., dict[str, Any]], cloudformation: CloudFormation, kind: str
) -> None:
    assert migrate(cloudformation.request(kind))["applied"]
    [answer] = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert {name: answer[name] for name in ("StackId", "RequestId", "LogicalResourceId", "PhysicalResourceId")} == {
        "StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/dedup/1",
        "RequestId": "a-request",
        "LogicalResourceId": "Migration",
        "PhysicalResourceId": "migration",
    }


def test_update_without_new_migrations_succeeds(
    migrate: Callable[..., dict[str, Any]], cloudformation: CloudFormation
) -> None:
    migrate({})
    assert migrate(cloudformation.request("Update")) == {"applied": []}
    assert cloudformation.answers[0]["Status"] == "SUCCESS"


def test_deleting_the_stack_touches_no_database(
    migrate: Callable[..., dict[str, Any]], cloudformation: CloudFormation, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DB_PORT", "1")
    migrate(cloudformation.request("Delete"))
    assert cloudformation.answers[0]["Status"] == "SUCCESS"


def test_stack_is_told_of_a_failure(
    migrate: Callable[..., dict[str, Any]], cloudformation: CloudFormation, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DB_PORT", "1")
    with pytest.raises(RuntimeError, match="Unavailable"):
        migrate(cloudformation.request("Update"))
    [answer] = cloudformation.answers
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == "The migrations failed: Unavailable"


@pytest.fixture
def app_store(
    migrate: Callable[..., dict[str, Any]], environment: pytest.MonkeyPatch, new_store: Callable[..., Store]
) -> Iterator[Store]:
    """A store that signs in as the application, whom migrate, as the owner, let use the tables."""
    environment.setenv("DB_APP_USER", APP)
    environment.setenv("DB_APP_IAM_AUTH", "true")
    settings.cache_clear()
    migrate({})
    migrate({})
    with connect() as owner:
        owner.run(f"ALTER ROLE {APP} PASSWORD 'app'")
        store = new_store(db_user=APP, db_password="app", db_app_user="")
        yield store
        store.close()
        owner.run(f"DROP OWNED BY {APP}; DROP ROLE {APP}")


def test_application_does_all_its_work(app_store: Store) -> None:
    app_store.records.add(sample_records(), key="k", digest="d")
    assert sum(app_store.questions.counts().values()) == 8
    assert app_store.maintenance.verify().agreed
    app_store.maintenance.compact()
    assert app_store.records.clear() == 12


@pytest.mark.parametrize("mode", ["add", "replace"])
def test_application_loads_files(app_store: Store, mode: str) -> None:
    load = app_store.loads.claim("a file", "incoming/hubspot/a.csv", datetime.now(UTC), "hubspot", mode, 60)
    assert load is not None
    app_store.loads.stage(load, [(1, "A", "a@example.com", "hubspot")], 1, 0)
    app_store.loads.finish(load, None)
    upload = app_store.uploads.with_key("a file")
    assert upload is not None
    assert (upload.status, upload.accepted) == ("done", 1)
    assert app_store.uploads.delete(upload.id) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "ALTER TABLE record ADD COLUMN note text",
        "DROP TABLE record",
        "CREATE INDEX mine ON record (name)",
        "DELETE FROM migration",
        "CREATE ROLE other",
    ],
)
def test_application_changes_no_table(app_store: Store, statement: str) -> None:
    with pytest.raises(DatabaseError, match="42501"):
        app_store._database.write(lambda connection: connection.run(statement), repeatable=False)


def test_role_has_the_settings_that_a_proxy_lets_no_session_set(app_store: Store) -> None:
    with connect() as owner:
        owner.run(f"ALTER DATABASE {settings().db_name} SET standard_conforming_strings = off")
        try:
            with connect(APP, "app") as behind_a_proxy:
                assert behind_a_proxy.run("SHOW statement_timeout") == [["20s"]]
                assert behind_a_proxy.run("SHOW standard_conforming_strings") == [["on"]]
        finally:
            owner.run(f"ALTER DATABASE {settings().db_name} RESET standard_conforming_strings")
