"""Customers whose id is a text: through the API, files, exports, matching and erasure, beside those with an integer."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from dedup.api.pagination import MAX_CURSOR
from dedup.api.parameters import MAX_LIMIT
from dedup.aws.bucket import ObjectVersion
from dedup.customer_ids import CustomerId, order
from dedup.services import exports, ingest
from dedup.sets import EVERYBODY, SetQuery
from dedup.store import Store
from dedup.store.sql import PAGE_BYTES

from tests.conftest import api_event, ids_of, record
from tests.integration.conftest import BUCKET, plenty
from tests.integration.test_matching import matched
from tests.model import selected, sources_of
from tests.resolving import resolve

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

SHORT, LONG = "0035g00000XyZ1a", "0035g00000XyZ1aAAF"
IDS: tuple[CustomerId, ...] = (
    -5, 0, 7, 2**63 - 1, LONG, "007", "CUS_1", "a\"b\\c", "a/b c?#&%41", "cus_1", "x" * 255, "äö", "\U0001f600",
)  # fmt: skip
"""In the order in which answers list them."""


def one(customer_id: Any, source: str = "hubspot", **more: Any) -> dict[str, Any]:
    return {"customer_id": customer_id, "name": "Ann Lee", "email": "ann@example.com", "source": source, **more}


def ask(functions: Call, name: str, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, Any]:
    parameters = {"customer_id": path.rpartition("/")[2]} if "/customers/" in path else None
    answer = functions(name, api_event(method, f"/api/v1{path}", body, query=query, parameters=parameters))
    return answer["statusCode"], json.loads(answer["body"])


def in_path(customer_id: CustomerId) -> str:
    return f"/customers/{quote(str(customer_id), safe='')}"


@pytest.fixture
def everyone(store: Store) -> Store:
    """Each id in hubspot, and every second one in salesforce too."""
    store.records.add([record(customer_id, "hubspot") for customer_id in IDS[::-1]])
    store.records.add([record(customer_id, "salesforce") for customer_id in IDS[::2]])
    return store


def test_order_of_the_ids_of_this_test_is_the_documented_one() -> None:
    assert list(IDS) == sorted(IDS, key=order)


# API


@pytest.mark.parametrize("customer_id", IDS)
def test_record_is_stored_shown_and_erased_by_its_id(functions: Call, store: Store, customer_id: CustomerId) -> None:
    status, stored = ask(functions, "create_customer", "POST", "/customers", one(customer_id))

    assert (status, stored["customer_id"]) == (201, customer_id)
    _, shown = ask(functions, "show_customer", "GET", in_path(customer_id))
    assert shown["customer_id"] == customer_id
    assert [found["customer_id"] for found in shown["records"]] == [customer_id]
    _, listed = ask(functions, "list_customers", "GET", "/customers")
    assert listed == shown["records"]
    status, erased = ask(functions, "erase_customer", "DELETE", in_path(customer_id))
    assert (status, erased["details"]["customer_id"], erased["details"]["records"]) == (200, customer_id, 1)
    assert ask(functions, "show_customer", "GET", in_path(customer_id))[0] == 404
    assert store.maintenance.verify().agreed


def test_text_of_an_integer_is_the_integer_and_both_salesforce_ids_are_one(functions: Call, store: Store) -> None:
    sent = [one("7"), one(7, "internal"), one(f" {SHORT} "), one(LONG, "internal"), one("07")]

    assert ask(functions, "bulk_upload", "POST", "/customers/bulk", {"customers": sent})[0] == 201

    _, analysis = ask(functions, "analyze", "GET", "/deduplication/analyze")
    assert analysis == {
        "total_records": 5, "unique_customers": 3, "duplicates_found": 2, "unique_customer_ids": [7, LONG, "07"],
    }  # fmt: skip
    for form in (SHORT, LONG):
        _, shown = ask(functions, "show_customer", "GET", in_path(form))
        assert (shown["customer_id"], shown["sources"]) == (LONG, ["hubspot", "internal"])


@pytest.mark.parametrize(
    ("customer_id", "kind", "message"),
    [
        ("", "customer_id", "The customer_id is missing"),
        (" ", "customer_id", "The customer_id is missing"),
        ("x" * 256, "customer_id", "The customer_id has more than 255 characters"),
        ("a\nb", "customer_id", "Control characters are not allowed"),
        ("a\0b", "customer_id", "Control characters are not allowed"),
        (f"{SHORT}AAA", "customer_id", "The last three characters do not belong to this Salesforce id"),
        (True, "int_type", "Input should be a valid integer"),
        (1.0, "int_type", "Input should be a valid integer"),
        (None, "int_type", "Input should be a valid integer"),
        (2**63, "less_than_equal", "Input should be less than or equal to 9223372036854775807"),
    ],
)
def test_other_id_is_refused(functions: Call, store: Store, customer_id: Any, kind: str, message: str) -> None:
    status, problem = ask(functions, "create_customer", "POST", "/customers", one(customer_id))

    [error] = problem["detail"]
    assert (status, error["loc"], error["type"]) == (422, ["body", "customer_id"], kind)
    assert error["msg"].startswith(message)


# Set questions


@pytest.mark.parametrize("limit", [1, 2, 5, 13, 14, 1000])
def test_pages_of_a_set_question_are_brute_force_in_order(functions: Call, everyone: Store, limit: int) -> None:
    of = sources_of([*(("hubspot", one) for one in IDS), *(("salesforce", one) for one in IDS[::2])])
    for query, wanted in (
        ({}, selected(of)),
        ({"in": "salesforce"}, selected(of, within=["salesforce"])),
        ({"not_in": "salesforce"}, selected(of, without=["salesforce"])),
        ({"region": "hubspot"}, selected(of, exactly=["hubspot"])),
        ({"in": "internal"}, []),
    ):
        found: list[CustomerId] = []
        cursor: dict[str, str] = {}
        while True:
            event = api_event("GET", "/api/v1/deduplication/customers", query={**query, **cursor, "limit": limit})
            answer = functions("select_customers", event)
            page = json.loads(answer["body"])
            assert page["count"] == len(wanted)
            assert len(page["customer_ids"]) <= limit
            found += page["customer_ids"]
            link = answer["multiValueHeaders"].get("Link")
            if not link:
                break
            cursor = {"cursor": link[0].split("cursor=")[1].split(">")[0]}
        assert found == wanted


def test_pages_of_several_lists_go_on_where_each_ended(everyone: Store) -> None:
    queries = {
        "all": EVERYBODY,
        "both": SetQuery(within=frozenset({"salesforce"})),
        "none": SetQuery(exactly=frozenset({"internal"})),
    }
    found: dict[str, list[CustomerId]] = {name: [] for name in queries}
    after: Any = {}
    while after is not None:
        page = everyone.questions.select(queries, after, 3)
        for name in queries:
            found[name] += ids_of(page, name)
        after = page.next_positions(after)

    assert found == {"all": list(IDS), "both": list(IDS[::2]), "none": []}


def test_page_of_long_ids_ends_before_the_answer_is_too_large(functions: Call, store: Store) -> None:
    ids = sorted(f"{n:06}{chr(0x1F600 + n % 50) * 249}" for n in range(4_000))
    everybody: list[CustomerId] = [5, *ids]
    store.records.add([record(customer_id, "hubspot", email="x@example.com", name="x") for customer_id in everybody])

    found: list[CustomerId] = []
    after: Any = {}
    while after is not None:
        page = store.questions.select({"ids": EVERYBODY}, after, MAX_LIMIT)
        assert len(page.pages["ids"].json.encode()) <= PAGE_BYTES + 20
        found += ids_of(page)
        after = page.next_positions(after)

    assert found == everybody


def test_cursor_that_would_be_too_long_is_refused_with_a_way_out(
    functions: Call, store: Store, environment: pytest.MonkeyPatch
) -> None:
    names = [f"source{n}" for n in range(20)]
    environment.setenv("SOURCES", ",".join(names))
    from dedup.settings import settings

    settings.cache_clear()
    ids = [(f"{n}{name}{'ä' * 240}", name) for name in names for n in "ab"]
    store.records.add([record(customer_id, name, email="x@example.com") for customer_id, name in ids])

    status, problem = ask(functions, "compare", "GET", "/deduplication/compare-sources", limit=1)

    assert MAX_CURSOR < 20 * 500
    assert status == 422
    assert "one by one" in problem["detail"][0]["msg"]


def test_cursor_of_records_holds_no_text(functions: Call, everyone: Store) -> None:
    from dedup.api.pagination import encode_cursor

    cursor = encode_cursor({"id": "0 OR true"}, "records")

    assert ask(functions, "list_customers", "GET", "/customers", cursor=cursor)[0] == 422


# Files


def load(store: Store, s3: Any, body: bytes, key: str = "incoming/hubspot/night.csv", **metadata: str) -> Any:
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata=metadata)["VersionId"]
    return ingest.ingest(ObjectVersion(BUCKET, key, version), store, plenty)


def test_file_and_snapshot_count_customers_of_both_kinds(store: Store, s3: Any) -> None:
    first = load(store, s3, f"id,name\n7,Ann\n{SHORT},Bo\n{LONG},Bo\ncus_1,Cy\n".encode())
    assert (first.accepted, first.customers.added, first.customers.unchanged) == (4, 3, 0)

    snapshot = load(store, s3, b"id,name\n7,Ann\ncus_1,Cy\ncus_2,Di\n8,Ed\n", "incoming/hubspot/snapshot/night.csv")

    changes = snapshot.customers
    assert changes, snapshot
    assert (changes.added, changes.removed, changes.unchanged) == (2, 1, 2)
    assert ids_of(store.questions.select({"ids": EVERYBODY}, {}, 10)) == [7, 8, "cus_1", "cus_2"]
    assert store.maintenance.verify().agreed


def test_rejected_rows_of_a_text_id_are_cut_when_the_customer_is_erased(functions: Call, store: Store, s3: Any) -> None:
    upload = load(store, s3, f"id,name\n7,Ann\n{SHORT},{'x' * 256}\n".encode())
    assert upload.rejected == 1

    status, erased = ask(functions, "erase_customer", "DELETE", in_path(LONG))

    assert status in (200, 202)
    assert erased["details"]["rejected_files"]["rows"] == 1


# Exports


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_export_lists_both_kinds_and_loads_again(everyone: Store, s3: Any, form: str) -> None:
    export, _ = everyone.exports.create("{}", form)
    assert exports.write(export, everyone, plenty) == "done"
    body = s3.get_object(Bucket=BUCKET, Key=f"exports/export-{export}.{form}")["Body"].read()

    if form == "csv":
        ids = [row["customer_id"].removeprefix("'") for row in csv.DictReader(io.StringIO(body.decode("utf-8-sig")))]
    elif form == "parquet":
        # A column of Parquet has one type.
        ids = pq.read_table(io.BytesIO(body)).column("customer_id").to_pylist()
    else:
        ids = [json.loads(line)["customer_id"] for line in body.splitlines()]
    twice = [customer_id for n, customer_id in enumerate(IDS) for _ in range(2 if n % 2 == 0 else 1)]
    assert ids == (twice if form == "ndjson" else list(map(str, twice)))

    everyone.records.clear()
    upload = load(everyone, s3, body, f"incoming/night.{form}")
    assert (upload.accepted, upload.rejected) == (len(twice), 0)
    assert ids_of(everyone.questions.select({"ids": EVERYBODY}, {}, 100)) == list(IDS)


def test_export_of_integers_keeps_their_type(store: Store, s3: Any) -> None:
    store.records.add([record(7, "hubspot")])
    export, _ = store.exports.create("{}", "parquet")
    exports.write(export, store, plenty)

    body = s3.get_object(Bucket=BUCKET, Key=f"exports/export-{export}.parquet")["Body"].read()
    assert pq.read_table(io.BytesIO(body)).column("customer_id").to_pylist() == [7]


# Matching


def test_entities_lookups_decisions_and_erasure_know_text_ids(functions: Call, everyone: Store, s3: Any) -> None:
    matched(everyone, methods=["rules"])
    status, found = ask(functions, "look_up_entity", "POST", "/entities/lookup", one(SHORT, name="Customer"))
    assert (status, [match["rule"] for match in found["matches"]][:1]) == (200, ["same_id"])
    record_ids = [stored["id"] for stored in json.loads(everyone.records.page(None, 100)[0])
                  if stored["customer_id"] in (LONG, "cus_1")]  # fmt: skip
    everyone.decisions.decide(record_ids, "same", None, "me")
    everyone.records.add([record("cus_1", "internal"), record(LONG, "internal"), record(9, "internal")])
    resolve(everyone)
    assert everyone.maintenance.verify().agreed
    _, listed = ask(functions, "list_entities", "GET", "/entities", min_records=3)
    assert any({LONG, "cus_1"} <= {*entity["customer_ids"]} for entity in listed)

    export, _ = everyone.exports.create('{"by": "entity"}', "ndjson", by="entity")
    assert exports.write(export, everyone, plenty) == "done"
    body = s3.get_object(Bucket=BUCKET, Key=f"exports/export-{export}.ndjson")["Body"].read()
    assert {json.loads(line)["customer_id"] for line in body.splitlines()} == {*IDS, 9}

    for customer_id in (LONG, "cus_1", 7):
        assert ask(functions, "erase_customer", "DELETE", in_path(customer_id))[0] == 200
        assert everyone.maintenance.verify().agreed
    resolve(everyone)
    assert everyone.maintenance.verify().agreed
    assert everyone.decisions.page(None, 10) == []
