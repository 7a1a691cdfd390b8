"""The optional fields of a record that are more than one text, from the API and from files to the answers."""

import io
import json
from collections.abc import Callable
from typing import Any

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


def stored(store: Store) -> list[dict[str, Any]]:
    page, _ = store.records.page(None, 100)
    records: list[dict[str, Any]] = json.loads(page)
    return records


def post(functions: Call, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = functions("create_customer", api_event("POST", "/api/v1/customers", {**ANN, **fields}))
    return answer["statusCode"], json.loads(answer["body"])


@pytest.fixture
def load(store: Store, s3: Any) -> Callable[[str], Upload]:
    """Loads a file of hubspot."""

    def load(content: str) -> Upload:
        key = "incoming/hubspot/file"
        put = s3.put_object(Bucket="uploads", Key=key, Body=io.BytesIO(content.encode()))
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
    [warning] = upload.warnings
    assert isinstance(warning, RowWarning)
    assert (warning.code, warning.field, warning.rows, warning.example_line) == ("unreadable_time", "modified_at", 1, 4)
    assert [one.get("modified_at") for one in stored(store)] == [
        "2024-01-16T10:22:00.000000Z", "2024-04-03T00:00:00.000000Z", None, None, "2024-01-16T10:22:33.000000Z",
    ]  # fmt: skip


def test_times_whose_day_and_month_cannot_be_told_apart_are_warnings(
    load: Callable[[str], Upload], store: Store
) -> None:
    upload = load("id,name,modified on\n1,Ann,03/04/2024\n2,Bo,2024-04-03\n")
    [warning] = upload.warnings
    assert isinstance(warning, RowWarning)
    assert (warning.code, warning.rows) == ("ambiguous_time", 1)
    assert [one.get("modified_at") for one in stored(store)] == [None, "2024-04-03T00:00:00.000000Z"]
