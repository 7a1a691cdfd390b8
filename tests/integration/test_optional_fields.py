"""What is known of a customer beside name and email, from the API and from files to the answers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dedup.records import KNOWN
from dedup.store import Store

from tests.conftest import api_event, record

OLD_FIELDS = ["id", "customer_id", "name", "email", "source", "created_at", "updated_at"]
MORE = {field: f"{field} 'as' \\ it \"came\"" for field in KNOWN}


def stored(store: Store) -> list[dict[str, Any]]:
    page, _ = store.records.page(None, 100)
    records: list[dict[str, Any]] = json.loads(page)
    return records


def test_a_record_is_shown_with_what_is_known_and_with_nothing_where_nothing_is(store: Store) -> None:
    store.records.add([record(1, "hubspot"), record(2, "hubspot", **MORE), record(3, "hubspot", city="Bern")])
    store.records.add([record(4, "hubspot", **MORE)])

    plain, whole, partly, alone = stored(store)

    assert list(plain) == OLD_FIELDS
    assert list(whole) == [*OLD_FIELDS, *KNOWN]
    assert {field: whole[field] for field in KNOWN} == MORE == {field: alone[field] for field in KNOWN}
    assert {field for field in KNOWN if field in partly} == {"city"}


def test_the_answer_to_a_new_record_is_what_the_list_shows_of_it(
    functions: Callable[[str, dict[str, Any]], dict[str, Any]], store: Store
) -> None:
    for more in ({}, {"phone": "1", "city": None, "country": ""}, MORE):
        body = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot", **more}
        answer = functions("create_customer", api_event("POST", "/api/v1/customers", body))
        assert answer["statusCode"] == 201
        assert json.loads(answer["body"]) == stored(store)[-1]
        assert list(json.loads(answer["body"]))[: len(OLD_FIELDS)] == OLD_FIELDS


def test_the_rows_of_a_file_bring_what_is_known(store: Store) -> None:
    load = store.loads.claim("k", "incoming/hubspot/k", datetime.now(UTC), "hubspot", "add", 60.0)
    assert load is not None
    store.loads.stage(load, [(1, "Ann", "ann@example.com", "hubspot", "7", None)], 1, 0, ("phone", "city"))
    store.loads.stage(load, [(2, "Bo", "bo@example.com", "hubspot")], 2, 0)
    store.loads.finish(load)
    assert [one.get("phone") for one in stored(store)] == ["7", None]
    assert all("city" not in one for one in stored(store))
