"""The optional fields of a record that are more than one text, from the API and from files to the answers."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.records import FURTHER
from dedup.services import ingest
from dedup.store import Store
from dedup.store.uploads import RowWarning, Upload

from tests.conftest import api_event, record
from tests.integration.conftest import plenty

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
ANN = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}


def row_warnings(upload: Upload) -> list[RowWarning]:
    return [warning for warning in upload.warnings if isinstance(warning, RowWarning)]


def stored(store: Store) -> list[dict[str, Any]]:
    page, _ = store.records.page(None, 100)
    records: list[dict[str, Any]] = json.loads(page)
    return records


def post(functions: Call, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = functions("create_customer", api_event("POST", "/api/v1/customers", {**ANN, **fields}))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def load(store: Store, s3: Any) -> Callable[[str | bytes], Upload]:
    """Loads a file of hubspot."""

    def load(content: str | bytes) -> Upload:
        key, body = "incoming/hubspot/file", content.encode() if isinstance(content, str) else content
        put = s3.put_object(Bucket="uploads", Key=key, Body=io.BytesIO(body))
        upload = ingest.ingest(ObjectVersion("uploads", key, put.get("VersionId")), store, plenty)
        assert upload
        return upload

    return load


def test_record_without_these_fields_shows_none_of_them(functions: Call, store: Store) -> None:
    post(functions, phone="7")
    post(functions, **dict.fromkeys(FURTHER))
    assert not any({*FURTHER} & {*one} for one in stored(store))


# When the source last changed the record


def test_time_of_the_last_change_is_returned_in_utc(functions: Call, store: Store) -> None:
    status, answer = post(functions, modified_at="2024-01-16T10:22:33+05:30")
    assert (status, answer["modified_at"]) == (201, "2024-01-16T04:52:33.000000Z")
    store.records.add([record(2, "hubspot"), record(3, "hubspot", modified_at="2024-01-16 10:22")])

    one, other, third = stored(store)

    assert one == answer
    assert "modified_at" not in other
    assert third["modified_at"] == "2024-01-16T10:22:00.000000Z"


@pytest.mark.parametrize("value", ["yesterday", "16/01/2024", "", 1705400553, True, "2024-02-30T00:00:00Z"])
def test_time_of_the_last_change_that_is_not_iso_is_refused(functions: Call, value: Any) -> None:
    status, answer = post(functions, modified_at=value)
    assert status == 422
    assert [error["loc"] for error in answer["detail"]] == [["body", "modified_at"]]


def test_times_of_a_file_are_stored_and_those_that_cannot_be_read_are_warnings(
    load: Callable[[str], Upload], store: Store
) -> None:
    upload = load(
        "Record ID,Name,Last Modified Date\n"
        "1,Ann,16/01/2024 10:22\n2,Bo,03/04/2024\n3,Cy,yesterday\n4,Di,\n5,Ed,1705400553\n6,,yesterday\n"
    )
    assert (upload.accepted, upload.rejected) == (5, 1)
    [warning] = row_warnings(upload)
    assert (warning.code, warning.field, warning.rows, warning.example_line) == ("unreadable_time", "modified_at", 1, 4)
    assert [one.get("modified_at") for one in stored(store)] == [
        "2024-01-16T10:22:00.000000Z", "2024-04-03T00:00:00.000000Z", None, None, "2024-01-16T10:22:33.000000Z",
    ]  # fmt: skip


def test_times_whose_day_and_month_cannot_be_told_apart_are_warnings(
    load: Callable[[str], Upload], store: Store
) -> None:
    upload = load("id,name,modified on\n1,Ann,03/04/2024\n2,Bo,2024-04-03\n")
    [warning] = row_warnings(upload)
    assert (warning.code, warning.rows) == ("ambiguous_time", 1)
    assert [one.get("modified_at") for one in stored(store)] == [None, "2024-04-03T00:00:00.000000Z"]


# Attributes

ATTRIBUTES = {"Lifecycle Stage": "Lead", 'a "b" \\ c': '{"x": 1}, דנה', "Z": "1", "A": "2"}


def test_attributes_are_returned_in_their_order_without_blank_ones(functions: Call, store: Store) -> None:
    status, answer = post(functions, attributes={**ATTRIBUTES, " Score ": " 12 ", "Empty": " ", "Null": None})
    assert status == 201
    assert list(answer["attributes"].items()) == [*ATTRIBUTES.items(), ("Score", "12")]
    store.records.add([record(2, "hubspot"), record(3, "hubspot", attributes=ATTRIBUTES)])
    _, blank = post(functions, attributes={"Empty": ""})

    one, other, third, last = stored(store)

    assert one == answer
    assert list(third["attributes"].items()) == list(ATTRIBUTES.items())
    assert "attributes" not in other
    assert last == blank
    assert "attributes" not in blank


@pytest.mark.parametrize(
    ("value", "loc"),
    [
        ({"x": "a" * 2_001}, ["x"]),
        ({"x" * 256: "a"}, ["x" * 100 + "…", "[key]"]),
        ({"": "a"}, ["", "[key]"]),
        ({"x": "a\nb"}, ["x"]),
        ({"x\t": "a", "a\tb": "c"}, ["a\tb", "[key]"]),
        ({"x": 1}, ["x"]),
        ({str(n): "a" for n in range(51)}, []),
        ([], []),
        ("{}", []),
    ],
)
def test_attributes_beyond_the_limits_are_refused(functions: Call, value: Any, loc: list[str]) -> None:
    status, answer = post(functions, attributes=value)
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", "attributes", *loc])


def test_largest_attributes_are_stored_and_shown(functions: Call, store: Store) -> None:
    largest = {f"{n:255}": '"' * 2_000 for n in range(50)}
    status, answer = post(functions, attributes=largest)
    assert status == 201
    post(functions, attributes={f"{n:0255}": "דנה\\" * 500 for n in range(50)})

    assert stored(store)[0]["attributes"] == answer["attributes"]
    assert len(answer["attributes"]) == 50


def test_attributes_of_a_csv_file_are_a_column_of_json(load: Callable[[str], Upload], store: Store) -> None:
    cells = [
        json.dumps(ATTRIBUTES),
        "",
        "[1]",
        json.dumps({"n": 1.0, "b": True, "l": ["x", 2], "none": None, "c": "a\0\tb"}),
    ]
    rows = "".join(f'{at},Ann,"{cell.replace(chr(34), chr(34) * 2)}"\n' for at, cell in enumerate(cells))

    upload = load("id,name,attributes\n" + rows)

    assert [(one.code, one.rows, one.example_line) for one in row_warnings(upload)] == [("unreadable_attributes", 1, 4)]
    assert [one.get("attributes") for one in stored(store)] == [
        ATTRIBUTES, None, None, {"n": "1", "b": "true", "l": '["x", 2]', "c": "a b"},
    ]  # fmt: skip


def test_attributes_of_a_json_file_are_an_object_and_those_of_salesforce_are_left_out(
    load: Callable[[str], Upload], store: Store
) -> None:
    of_salesforce = {"type": "Contact", "url": "/services/data/v60.0/sobjects/Contact/003"}
    records = [
        {"id": 1, "name": "Ann", "attributes": ATTRIBUTES},
        {"Id": 2, "Name": "Bo", "attributes": of_salesforce},
        {"id": 3, "name": "Cy", "attributes": {"mood": "good", "place": {"city": "Bern"}}},
    ]
    upload = load("".join(json.dumps(one) + "\n" for one in records))

    assert (upload.rejected, upload.warnings) == (0, [])
    assert [one.get("attributes") for one in stored(store)] == [
        ATTRIBUTES, None, {"mood": "good", "place.city": "Bern"},
    ]  # fmt: skip


def test_attributes_of_a_file_beyond_the_limits_are_cut_with_a_warning(
    load: Callable[[str], Upload], store: Store
) -> None:
    many = {str(n): "x" for n in range(60)}
    records = [{"id": 1, "name": "Ann", "attributes": many}, {"id": 2, "name": "Bo", "attributes": {"x": "a" * 2_001}}]
    upload = load(json.dumps(records))

    assert sorted((one.code, one.rows) for one in row_warnings(upload)) == [
        ("long_attribute", 1),
        ("too_many_attributes", 1),
    ]
    assert [list(one["attributes"].items()) for one in stored(store)] == [
        list(many.items())[:50], [("x", "a" * 2_000)],
    ]  # fmt: skip


# Several emails and phones


def test_record_with_several_emails_and_phones_shows_the_first_and_all(functions: Call, store: Store) -> None:
    emails, phones = ["b@example.com", "Ann@example.com", "ANN@example.com"], [" +1 555 0100", "", "+1 (555) 0100", "7"]
    status, answer = post(functions, emails=emails, phones=phones)
    assert status == 201
    assert (answer["email"], answer["emails"]) == ("ann@example.com", ["ann@example.com", "b@example.com"])
    assert (answer["phone"], answer["phones"]) == ("+1 555 0100", ["+1 555 0100", "7"])
    post(functions, email=None, phone="7", emails=["b@example.com"], phones=["7"])
    post(functions, email=None, emails=['"b"\\@example.com', "דנה@example.com", "c@example.com"][1:])
    store.records.add([record(2, "hubspot", phones=['\\ "a", {b}', "NULL", "8"]), record(3, "hubspot")])

    one, other, third, fourth, last = stored(store)

    assert one == answer
    assert {"emails", "phones"}.isdisjoint(other)
    assert (other["email"], other["phone"]) == ("b@example.com", "7")
    assert third["emails"] == ["דנה@example.com", "c@example.com"]
    assert fourth["phones"] == ['\\ "a", {b}', "NULL", "8"]
    assert {"emails", "phones"}.isdisjoint(last)


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"emails": ["ann@example.com", "b"]}, ["emails", 1]),
        ({"emails": [None]}, ["emails", 0]),
        ({"emails": "ann@example.com"}, ["emails"]),
        ({"emails": [f"{n}@example.com" for n in range(21)]}, ["emails"]),
        ({"emails": [f"{n}@example.com" for n in range(20)]}, []),
        ({"phones": ["7" * 256]}, ["phones", 0]),
        ({"phones": ["7\n"], "phone": "a\tb"}, ["phone"]),
        ({"phones": [7]}, ["phones", 0]),
    ],
)
def test_emails_and_phones_are_validated_like_email_and_phone(functions: Call, fields: Any, loc: list[Any]) -> None:
    status, answer = post(functions, **fields)
    assert (status, answer["detail"][0]["loc"]) == (422, ["body", *loc])


def test_emails_do_not_stand_for_an_email_that_is_left_out(functions: Call) -> None:
    body = {"customer_id": 1, "name": "Ann", "source": "hubspot", "emails": ["ann@example.com"]}
    answer = functions("create_customer", api_event("POST", "/api/v1/customers", body))
    assert (answer["statusCode"], json.loads(answer["body"])["detail"][0]["loc"]) == (422, ["body", "email"])


def test_name_that_differs_by_a_letter_is_ignored_as_before_where_the_field_is_given(functions: Call) -> None:
    assert post(functions, phone="7", Phone="8", Email="x", **{"e-mail": "y"})[0] == 201
    assert post(functions, Phone="8")[0] == 422
    assert post(functions, Phones=["8"])[0] == 422


def test_all_columns_and_lists_of_a_file_count(load: Callable[[str], Upload], store: Store) -> None:
    upload = load(
        "Record ID,Name,Work email,Email,Additional email addresses,Phone,Mobile Phone,Home Phone\n"
        '1,Ann,a@x.com,b@x.com,"c@x.com; A@x.com,d@x.com",+1 555 0100,+1 555 0200,+1 555 0100\n'
        '2,Bo,,,"n/a ; e@x.com",,"+1 555 0300 ::: 555 0400 ext. 5",\n'
        '3,Cy,"Lee, Cy",,,"1,234","020 7946 0000, ext. 5",\n'
        "4,Di,n/a,d@x.com,,,,\n"
        "5,Ed,e@x.com,,,7,,\n"
    )
    assert (upload.accepted, upload.rejected) == (5, 0)
    assert [(one.code, one.rows, one.example_line) for one in row_warnings(upload)] == [("invalid_email", 3, 3)]

    def of(name: str) -> list[Any]:
        return [one.get(name) for one in stored(store)]

    assert of("email") == ["b@x.com", "e@x.com", "Lee, Cy", "d@x.com", "e@x.com"]
    assert of("emails") == [
        ["b@x.com", "a@x.com", "c@x.com", "d@x.com"], ["e@x.com", "n/a"], None, ["d@x.com", "n/a"], None,
    ]  # fmt: skip
    assert of("phone") == ["+1 555 0100", "+1 555 0300", "1,234", None, "7"]
    assert of("phones") == [
        ["+1 555 0100", "+1 555 0200"], ["+1 555 0300", "555 0400 ext. 5"], ["1,234", "020 7946 0000, ext. 5"],
        None, None,
    ]  # fmt: skip


def test_lists_of_a_json_file_count(load: Callable[[str], Upload], store: Store) -> None:
    records = [
        {"id": 1, "name": "Ann", "emails": ["a@x.com", "b@x.com"], "phone": [{"label": "work", "value": "5550100"}]},
        {"id": 2, "name": "Bo", "email": "c@x.com", "emails": ["c@x.com"], "phones": [5550100, "5550200"]},
        {"id": 3, "name": "Cy", "email": [], "phones": [True]},
    ]
    upload = load(json.dumps(records))

    assert (upload.accepted, upload.rejected) == (2, 1)
    one, other = stored(store)
    assert (one["emails"], one["phone"], "phones" in one) == (["a@x.com", "b@x.com"], "5550100", False)
    assert (other["email"], "emails" in other, other["phones"]) == ("c@x.com", False, ["5550100", "5550200"])


def test_lists_and_structs_of_a_parquet_file_count(load: Callable[[str | bytes], Upload], store: Store) -> None:
    rows = [
        {
            "Id": 1,
            "Name": "Ann",
            "Email": ["a@x.com", "b@x.com"],
            "Phone": "5550100",
            "MobilePhone": "5550200",
            "LastModifiedDate": datetime(2024, 1, 16, 10, 22, tzinfo=UTC),
            "attributes": {"Stage": "Lead", "Score": 7},
        },
        {"Id": 2, "Name": "Bo", "Email": None, "attributes": None},
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)

    upload = load(file.getvalue())

    assert (upload.accepted, upload.warnings) == (2, [])
    one, other = stored(store)
    assert (one["emails"], one["phones"]) == (["a@x.com", "b@x.com"], ["5550100", "5550200"])
    assert (one["modified_at"], one["attributes"]) == ("2024-01-16T10:22:00.000000Z", {"Stage": "Lead", "Score": "7"})
    assert {*FURTHER}.isdisjoint(other)


def test_more_than_twenty_emails_of_a_file_are_a_warning(load: Callable[[str], Upload], store: Store) -> None:
    upload = load("id,name,email\n1,Ann," + ";".join(f"{n}@x.com" for n in range(25)) + "\n")
    assert [(one.code, one.field, one.rows) for one in row_warnings(upload)] == [("too_many_emails", "emails", 1)]
    assert stored(store)[0]["emails"] == [f"{n}@x.com" for n in range(20)]


def test_erasure_finds_rejected_rows_by_every_email_of_the_customer(
    load: Callable[[str], Upload], functions: Call, store: Store
) -> None:
    load("id,name,email,Email 2\n7,Ann,a@x.com,b@x.com\n")
    rejected = load("id,name,email,E-mail 2 Address\n1e9,Ann,,b@x.com\n2e9,Bo,c@x.com;B@x.com,\n3e9,Cy,d@x.com,\n")
    assert rejected.rejected == 3

    event = api_event("DELETE", "/api/v1/customers/7", parameters={"customer_id": "7"})
    answer = json.loads(functions("erase_customer", event)["body"])

    assert answer["details"]["rejected_files"]["rows"] == 2


# Entities


def test_entity_with_long_attributes_shows_records_up_to_a_size_and_a_list_shows_none_of_them(
    functions: Call, store: Store
) -> None:
    runs = pytest.importorskip("jobs.matching.runs", reason="a run needs what requirements-dev.txt has for it")
    long = {f"{n}": "€" * 2_000 for n in range(50)}
    store.records.add([record(1, "hubspot", attributes=long, emails=["b@example.com"]) for _ in range(10)])
    run, _ = store.runs.create({"methods": ["rules"]}, None, "")
    assert runs.run(run, store) == "done"
    entity = store.entities.of_records([1])[1]

    event = api_event("GET", f"/api/v1/entities/{entity}", parameters={"entity_id": str(entity)})
    answer = functions("show_entity", event)
    listed = functions("list_entities", api_event("GET", "/api/v1/entities"))

    shown = json.loads(answer["body"])
    assert (answer["statusCode"], shown["total_records"], len(shown["records"])) == (200, 10, 6)
    assert len(answer["body"].encode()) < 3_000_000
    assert shown["records"][0]["attributes"] == long
    assert shown["golden"]["attributes.49"]["value"] == "€" * 2_000
    assert [*json.loads(listed["body"])[0]["golden"]] == ["name", "email"]
