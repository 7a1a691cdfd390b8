"""The API's description: true to the code and to template.yaml, and served with all that its pages need."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from dedup.api import static_files
from dedup.api.models.deduplication import Comparison
from dedup.api.unknown_parameters import API
from dedup.records import Record
from dedup.settings import settings

from local import openapi
from tests.conftest import ROOT, api_event, lambda_context, load_function
from tests.routes import read_template

DOCUMENT: dict[str, Any] = json.loads(openapi.DOCUMENT.read_text())
OPERATIONS = {
    (path, method): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}
FUNCTIONS = {
    name: resource["Properties"]
    for name, resource in read_template()["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Function"
}
DOMAINS = {path.parent.name: path.parents[1].name for path in (ROOT / "functions").glob("*/*/app.py")}
FOLDERS = set(DOMAINS)
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
HEALTH = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
PAGES = ["/docs", "/redoc"]
LAMBDA_LIMIT = 6 * 1024 * 1024


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv("SOURCES", "crm,shop")
    settings.cache_clear()
    yield ["crm", "shop"]
    settings.cache_clear()


def get(path: str, query: dict[str, str] | None = None, stage: str = "/live") -> dict[str, Any]:
    event = api_event("GET", path, query=query)
    event["requestContext"]["path"] = f"{stage}{path}"
    answer: dict[str, Any] = load_function("docs").handler(event, lambda_context("docs"))
    return answer


def header(answer: dict[str, Any], name: str) -> str:
    return str(answer["multiValueHeaders"][name][0])


def links(page: str) -> list[str]:
    html = get(page)["body"]
    return re.findall(r'(?:href|src)="(?!data:)([^"]*)"', html)


def test_committed_document_is_what_the_code_says() -> None:
    assert openapi.DOCUMENT.read_text() == openapi.text(), "the functions have changed: make openapi"


def test_document_is_valid() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    from openapi_spec_validator import OpenAPIV31SpecValidator

    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_document_and_template_have_the_same_routes() -> None:
    events = [event["Properties"] for function in FUNCTIONS.values() for event in function.get("Events", {}).values()]
    routes = {(event["Path"], event["Method"].lower()) for event in events if "Path" in event}

    assert set(OPERATIONS) == routes


OTHER_FORMS = {"s3_put"}
"""Events that are not named after their function: other forms of what it takes."""


def test_function_bears_one_name_everywhere() -> None:
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in FUNCTIONS}

    assert set(snake) == FOLDERS
    assert {path.stem for path in (ROOT / "events").glob("*.json")} - OTHER_FORMS == FOLDERS
    for folder, name in snake.items():
        if FUNCTIONS[name].get("PackageType") == "Image":
            assert FUNCTIONS[name]["ImageConfig"] == {"Command": [f"functions.{DOMAINS[folder]}.{folder}.app.handler"]}
        else:
            assert FUNCTIONS[name]["CodeUri"] == f"functions/{DOMAINS[folder]}/{folder}/"


def test_operations_are_named_and_told_apart() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(names)) == len(names)
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} <= {
        tag["name"] for tag in DOCUMENT["tags"] if tag["description"]
    }


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route[1]} {route[0]}")
def test_every_error_is_a_problem(route: tuple[str, str]) -> None:
    errors = {status: answer["content"] for status, answer in OPERATIONS[route]["responses"].items() if status >= "400"}

    assert errors == {
        status: HEALTH if (route[0], status) == ("/health", "503") else PROBLEM for status in errors | {"500": None}
    }


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route[1]} {route[0]}")
def test_every_operation_of_the_api_can_refuse_a_request_and_no_page_can(route: tuple[str, str]) -> None:
    responses = OPERATIONS[route]["responses"]

    assert ("422" in responses) == route[0].startswith(API)
    assert ("400" in responses) == ("requestBody" in OPERATIONS[route])


def test_bodies_of_our_own_allow_no_other_fields_and_records_do() -> None:
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
        for operation in OPERATIONS.values()
        if "requestBody" in operation
    }
    schemas = DOCUMENT["components"]["schemas"]
    open_ones = {name for name in bodies if schemas[name].get("additionalProperties") is not False}

    assert open_ones == {"Batch", "Record"}
    assert "additionalProperties" not in schemas["Record"]


def test_source_is_one_schema_wherever_it_is_named() -> None:
    named = re.findall(r'"enum": (\[[^\]]*"salesforce"[^\]]*\])', json.dumps(DOCUMENT))

    assert [json.loads(one) for one in named] == [["salesforce", "hubspot", "internal"]]
    assert DOCUMENT["components"]["schemas"]["Record"]["properties"]["source"] == openapi.SOURCE


def test_examples_are_accepted() -> None:
    fields = DOCUMENT["components"]["schemas"]["Record"]["properties"]
    Record.model_validate({name: field.get("examples", ["internal"])[0] for name, field in fields.items()})
    Comparison.model_validate(DOCUMENT["components"]["schemas"]["Comparison"]["examples"][0])


@pytest.mark.parametrize("stage", ["/live", ""])
def test_served_document_names_this_stage_and_these_sources(sources: list[str], stage: str) -> None:
    answer = get("/openapi.json", stage=stage)
    document = json.loads(answer["body"])

    assert header(answer, "Content-Type") == "application/json"
    assert document["servers"] == [{"url": f"https://api.example.com{stage}"}]
    assert document["components"]["schemas"]["Source"]["enum"] == sources
    assert document["paths"] == DOCUMENT["paths"]


@pytest.mark.parametrize("page", PAGES)
def test_page_asks_no_other_host_and_runs_no_script_but_ours(page: str) -> None:
    answer = get(page)

    assert header(answer, "Content-Type").startswith("text/html")
    assert not re.search(r"https?:|['\"(]//", answer["body"])
    assert "script-src 'self';" in answer["body"]
    assert header(answer, "X-Frame-Options") == "DENY"
    assert all(re.fullmatch(r"docs/[\w.-]+\?v=[0-9a-f]{16}", link) for link in links(page))


@pytest.mark.parametrize("page", PAGES)
def test_asset_is_served_to_be_kept_for_good(page: str) -> None:
    for link in links(page):
        name, version = link.split("?v=")
        answer = get(f"/{name}", {"v": version})
        assert answer["statusCode"] == 200
        assert (
            header(answer, "Content-Type")
            == {
                "css": "text/css; charset=utf-8",
                "js": "text/javascript; charset=utf-8",
            }[name.rsplit(".", 1)[1]]
        )
        assert "immutable" in header(answer, "Cache-Control")
        assert {name: header(answer, name) for name in static_files.SAFE} == static_files.SAFE
        assert len(json.dumps(answer).encode()) < LAMBDA_LIMIT


def test_asset_without_its_version_is_not_kept() -> None:
    assert header(get("/docs/redoc.js"), "Cache-Control") == "no-cache"


def test_scripts_fetch_from_no_other_host() -> None:
    assert "cdn.redoc.ly" not in get("/docs/redoc.js")["body"]
    assert "validatorUrl: null" in get("/docs/swagger-ui-start.js")["body"]


@pytest.mark.parametrize("name", ["nothing.js", "app.py", "..", "html.py", "../app.py"])
def test_only_assets_are_served(name: str) -> None:
    answer = get(f"/docs/{name}")

    assert answer["statusCode"] == 404
    assert header(answer, "Content-Type") == "application/problem+json"
