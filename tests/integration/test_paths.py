"""A path in which an id is missing is no other path: nothing is deleted because a variable of a script was empty."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from dedup.store import Store, open_store

from tests.conftest import api_event, sample_records
from tests.routes import ROUTES, Route

Call = Callable[[str, dict[str, Any]], dict[str, Any]]


DELETIONS = [route for route in ROUTES if route.method == "DELETE"]


def with_an_empty_part(path: str) -> set[str]:
    """The paths that a client asks for who has nothing to put in the place of a parameter, or writes a slash too
    many."""
    whole = re.sub(r"\{\w+\}", "1", path)
    emptied = {re.sub(r"\{\w+\}", "1", path.replace(name, "")) for name in re.findall(r"\{\w+\}", path)}
    blank = {path.replace(name, " ") for name in re.findall(r"\{\w+\}", path)}
    more = {f"{whole}/", f"{whole}//", f"{whole}/ ", f"{whole}\n", f"/{whole}", whole.replace("/v1/", "/v1//")}
    return {*emptied, *blank, *more} - {whole}


def as_api_gateway_sends_it(method: str, path: str) -> dict[str, Any]:
    """The resource is that of the path without the slashes at its end, and the path is as the client wrote it."""
    event = api_event(method, path)
    event["requestContext"]["resourcePath"] = event["resource"] = path.rstrip("/")
    return event


@pytest.fixture
def store(environment: pytest.MonkeyPatch) -> Store:
    store = open_store()
    store.schema.migrate()
    store.records.add(sample_records())
    return store


def test_deletions_of_the_template_are_found() -> None:
    assert ("DELETE", "/api/v1/customers", "clear") in DELETIONS
    assert len(DELETIONS) >= 4


@pytest.mark.parametrize("route", DELETIONS, ids=lambda route: route.path)
def test_deletion_with_an_empty_parameter_is_404_in_every_function_and_deletes_nothing(
    functions: Call, store: Store, route: Route
) -> None:
    for path in with_an_empty_part(route.path):
        for function in {deletion.function for deletion in DELETIONS}:
            answer = functions(function, as_api_gateway_sends_it("DELETE", path))
            assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (404, 404), (function, path)

    assert len(json.loads(store.records.page(None, 1000)[0])) == len(sample_records())
    assert store.maintenance.verify().agreed


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.path != "/"], ids=lambda r: f"{r.method} {r.path}"
)
def test_path_that_ends_in_a_slash_is_404(functions: Call, store: Store, route: Route) -> None:
    for path in with_an_empty_part(route.path):
        answer = functions(route.function, as_api_gateway_sends_it(route.method, path))
        assert answer["statusCode"] == 404, path


def test_root_is_a_slash_and_is_answered(functions: Call, store: Store) -> None:
    assert functions("status", api_event("GET", "/"))["statusCode"] == 200
