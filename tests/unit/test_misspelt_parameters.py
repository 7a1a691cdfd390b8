"""A misspelt parameter or field is refused, with the one that was meant; nobody gets the answer to another question."""

import json
import re
from typing import Any

import pytest
from dedup.api.models.common import RequestModel
from dedup.api.unknown_parameters import API
from dedup.records import Batch, Record
from dedup.validation import MAX_ERRORS, misspellings, plain
from pydantic import ValidationError

from local import openapi
from tests.conftest import api_event, lambda_context, load_function
from tests.routes import ROUTES, Route

DOCUMENT: dict[str, Any] = json.loads(openapi.DOCUMENT.read_text())
OPERATIONS = [route for route in ROUTES if route.path.startswith(API)]
ONE = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}


def parameters(route: Route) -> list[str]:
    said = DOCUMENT["paths"][route.path][route.method.lower()].get("parameters", [])
    return [parameter["name"] for parameter in said if parameter["in"] == "query"]


def asked(route: Route, query: dict[str, Any]) -> list[dict[str, Any]]:
    """The validation errors that the operation answers with."""
    path = route.path.replace("{source}", "hubspot")
    event = api_event(route.method, re.sub(r"\{\w+\}", "1", path), query=query)
    if route.method == "POST":
        event["body"] = "{}"
    answer = load_function(route.function).handler(event, lambda_context(route.function))
    assert answer["statusCode"] == 422
    errors: list[dict[str, Any]] = json.loads(answer["body"])["detail"]
    return errors


def errors_of(model: Any, body: Any) -> list[tuple[tuple[int | str, ...], str]]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    return [(error["loc"], error["msg"]) for error in refused.value.errors()]


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_misspelt_parameter_is_422_and_names_the_right_one(route: Route) -> None:
    for name in parameters(route):
        wrong = f"{name}s"
        message = f"Unknown query parameter {wrong!r}. Did you mean {name!r}?"
        error = {"loc": ["query", wrong], "msg": message, "type": "extra_forbidden"}
        assert error in asked(route, {wrong: "hubspot"})


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: f"{route.method} {route.path}")
def test_parameter_that_no_operation_has_is_422_and_the_right_ones_are_named(route: Route) -> None:
    known = parameters(route)
    expected = f". Expected one of {', '.join(map(repr, known))}" if known else ". None is expected here"

    messages = [error["msg"] for error in asked(route, {"xyzzy": 1}) if error["loc"] == ["query", "xyzzy"]]

    assert messages == [f"Unknown query parameter 'xyzzy'{expected}"]


def test_notin_is_not_every_customer() -> None:
    route = next(route for route in ROUTES if route.function == "select_customers")

    [error] = asked(route, {"notin": "hubspot"})

    assert error["msg"] == "Unknown query parameter 'notin'. Did you mean 'not_in'?"


def test_required_parameter_that_is_misspelt_is_named_beside_what_is_missing() -> None:
    route = next(route for route in ROUTES if route.function == "run_changes")

    assert [(error["loc"], error["type"]) for error in asked(route, {"sinc": "1"})] == [
        (["query", "since"], "missing"),
        (["query", "sinc"], "extra_forbidden"),
    ]


def test_parameters_that_sign_a_request_are_not_ours_to_refuse() -> None:
    route = next(route for route in ROUTES if route.function == "list_customers")

    errors = asked(route, {"X-Amz-Signature": "0", "X-Amz-Date": "20261124T000000Z", "limit": "0"})

    assert [error["loc"] for error in errors] == [["query", "limit"]]


@pytest.mark.parametrize("path", ["/app", "/docs", "/redoc", "/openapi.json"])
def test_page_ignores_unknown_query_parameters(path: str) -> None:
    route = next(route for route in ROUTES if route.path == path)
    event = api_event("GET", path, query={"code": "a", "state": "b", "error": "c"})

    assert load_function(route.function).handler(event, lambda_context(route.function))["statusCode"] == 200


def test_many_unknown_parameters_are_answered_with_as_many_errors_as_others_are() -> None:
    route = next(route for route in ROUTES if route.function == "list_customers")

    assert len(asked(route, {f"x{number}": 1 for number in range(1000)})) == MAX_ERRORS


def test_name_that_is_repeated_in_an_answer_is_cut() -> None:
    route = next(route for route in ROUTES if route.function == "list_customers")

    [error] = asked(route, {"x" * 100_000: 1})

    assert len(json.dumps(error)) < 500


def test_value_that_a_message_repeats_is_cut() -> None:
    settings = {"rules": [{"name": "a", "equal": ["x" * 600_000] * 9}]}
    event = api_event("POST", "/api/v1/matching/runs", {"settings": settings})

    answer = load_function("start_run").handler(event, lambda_context("start_run"))

    assert answer["statusCode"] == 422
    assert len(json.loads(answer["body"])["detail"]) >= 9
    assert len(answer["body"]) < 20_000


# Bodies


@pytest.mark.parametrize("model", RequestModel.__subclasses__(), ids=lambda model: model.__name__)
def test_unknown_field_of_our_own_operations_is_refused_and_the_nearest_is_named(model: type[RequestModel]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name in names:
        wrong = f"{name}s"
        assert ((wrong,), f"Unknown field {wrong!r}. Did you mean {name!r}?") in errors_of(model, {wrong: None})
    assert [loc for loc, _ in errors_of(model, {"xyzzy": 1}) if loc == ("xyzzy",)] == [("xyzzy",)]


@pytest.mark.parametrize(
    "name", ["emial", "e_mail", "E-Mail", "emai", "emaill", "emaul", "custmer_id", "customerId", "Customer ID"]
)
def test_misspelt_field_that_a_record_must_have_is_named_beside_what_is_missing(name: str) -> None:
    meant = "email" if name[0] in "eE" else "customer_id"
    sent = {**{field: value for field, value in ONE.items() if field != meant}, name: ONE[meant]}

    assert errors_of(Record, sent) == [
        ((meant,), "Field required"),
        ((name,), f"Unknown field {name!r}. Did you mean {meant!r}?"),
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("phne", "phone"),
        ("Phone", "phone"),
        ("dateOfBirth", "date_of_birth"),
        ("date_of_brith", "date_of_birth"),
        ("post_code", "postcode"),
        ("adress", "address"),
        ("contry", "country"),
    ],
)
def test_misspelt_field_that_a_record_may_have_is_refused(name: str, meant: str) -> None:
    message = f"Unknown field {name!r}. Did you mean {meant!r}?"

    assert errors_of(Record, ONE | {name: "x"}) == [((name,), message)]
    assert errors_of(Batch, {"customers": [ONE, ONE | {name: "x"}]}) == [(("customers", 1, name), message)]


@pytest.mark.parametrize(
    "others",
    [
        {"id": 7, "created_at": "2026-01-01T00:00:00Z", "updated_at": None},
        {"first_name": "Ann", "last_name": "Lee", "full_name": "Ann Lee", "username": "ann", "state": "OR"},
        {"address2": "Floor 2", "address_line_2": "Floor 2", "phone2": "7", "email2": "b@example.com"},
        {"phone_no": "7", "telephone": "7", "company_id": 7, "company_name": "Lee", "country_code": "GB"},
        {"county": "Kent", "customer": {"tier": "gold"}, "sources": ["a"], "tags": ["x"], "notes": "a" * 500},
        {"": 1, "\u00e9": 2, " ": 3},
    ],
    ids=lambda others: next(iter(others)),
)
def test_fields_that_clients_of_the_old_service_send_besides_are_ignored(others: dict[str, Any]) -> None:
    assert Record.model_validate(ONE | others) == Record.model_validate(ONE)
    assert Batch.model_validate({"customers": [ONE | others], **others}) == Batch.model_validate({"customers": [ONE]})


def test_field_that_looks_like_one_that_is_there_is_ignored() -> None:
    there = ONE | {"phone": "7", "country": "CH"}
    others = {"emails": [], "names": [], "phones": [], "e_mail": ""}

    assert Record.model_validate(there | others) == Record.model_validate(there)


def test_list_of_records_that_is_misspelt_is_named() -> None:
    assert errors_of(Batch, {"customer": []}) == [
        (("customers",), "Field required"),
        (("customer",), "Unknown field 'customer'. Did you mean 'customers'?"),
    ]


def test_names_of_a_record_are_not_each_others_misspellings() -> None:
    # A name that may be either is misspelt only if both are missing.
    names = frozenset(Record.model_fields) - {"emails", "phones"}
    assert all(misspellings(name, names) == (name,) for name in names)
    assert len({plain(name) for name in names}) == len(names)
