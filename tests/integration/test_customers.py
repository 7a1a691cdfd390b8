"""One customer: shown, erased everywhere; and who did what."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.services import ingest
from dedup.settings import settings
from dedup.store import Store
from pg8000.native import Connection

from tests.conftest import LONG_NAME, api_event, record, sample_records
from tests.integration.conftest import BUCKET, plenty

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

PATH = "/api/v1/customers/{customer_id}"
EXPORT = f"""id,name,email
7,Ann,ann@example.com
7,{LONG_NAME},ann@example.com
8,{LONG_NAME},no address of 17 or 70
1E+9,Ann,ANN@example.com
9,"Cora {LONG_NAME}
7 lines",
""".encode()


@pytest.fixture
def audit(store: Store) -> Callable[[], list[Any]]:
    def read(connection: Connection) -> list[Any]:
        return list(connection.run("SELECT action, principal, upload_id, customer_id, records FROM audit ORDER BY id"))

    return lambda: store._database.read(read)


@pytest.fixture
def exported(s3: "S3Client", store: Store) -> ObjectVersion:
    """An export with rejected rows, loaded."""
    key = "incoming/hubspot/night.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=EXPORT)
    version = ObjectVersion(BUCKET, key, made["VersionId"], "AWS:AIDANIGHTLY")
    upload = ingest.ingest(version, store, plenty)
    assert upload is not None
    assert (upload.status, upload.accepted, upload.rejected) == ("done", 1, 4)
    return version


def show(functions: Call, customer_id: Any, **query: Any) -> tuple[dict[str, Any], Any]:
    path = PATH.format(customer_id=customer_id)
    event = api_event("GET", path, query=query, parameters={"customer_id": str(customer_id)})
    answer = functions("show_customer", event)
    return answer, json.loads(answer["body"])


def delete(functions: Call, customer_id: Any) -> tuple[int, Any]:
    path = PATH.format(customer_id=customer_id)
    answer = functions("erase_customer", api_event("DELETE", path, parameters={"customer_id": str(customer_id)}))
    return answer["statusCode"], json.loads(answer["body"])


def test_customer_has_the_records_of_every_source(functions: Call, store: Store) -> None:
    store.records.add(sample_records())
    store.records.add([record(103, "hubspot", name="Again")])

    answer, customer = show(functions, 103)

    assert answer["statusCode"] == 200
    assert customer["sources"] == ["hubspot", "salesforce"]
    assert [(r["source"], r["name"]) for r in customer["records"]] == [
        ("salesforce", "Customer 103"),
        ("hubspot", "Customer 103"),
        ("hubspot", "Again"),
    ]


def test_records_of_a_customer_are_paged(functions: Call, store: Store) -> None:
    store.records.add([record(-5, "hubspot", name=f"Name {n}") for n in range(7)])
    names, query = [], {"limit": 3}
    while True:
        answer, customer = show(functions, -5, **query)
        names.append([r["name"] for r in customer["records"]])
        link = answer["multiValueHeaders"].get("Link")
        if not link:
            break
        query["cursor"] = link[0].split("cursor=")[1].split(">")[0].split("&")[0]

    assert [len(page) for page in names] == [3, 3, 1]
    assert [name for page in names for name in page] == [f"Name {n}" for n in range(7)]


@pytest.mark.parametrize(
    ("customer_id", "status"),
    [(1, 404), ("x", 404), (2**63, 404), ("x" * 256, 422), ("%20", 422), ("%00", 422), ("a%2Fb", 404)],
)
def test_no_customer_is_shown_or_erased(functions: Call, store: Store, customer_id: Any, status: int) -> None:
    answer, _ = show(functions, customer_id)

    assert answer["statusCode"] == status
    assert delete(functions, customer_id)[0] == status


def test_erased_customer_is_in_no_count_and_no_list(functions: Call, store: Store) -> None:
    store.records.add(sample_records())

    status, answer = delete(functions, 103)

    assert status == 200
    assert answer["details"] == {
        "customer_id": 103,
        "records": 2,
        "sources": ["hubspot", "salesforce"],
        "rejected_files": {"status": "done", "files": 0, "rows": 0, "reason": None},
        "files": [],
        "exports": [],
    }
    assert store.maintenance.verify().agreed
    assert sum(store.questions.counts().values()) == 7
    assert store.customers.get(103, None, 10) is None
    assert delete(functions, 103)[0] == 404


def test_audit_says_who_did_what(
    functions: Call, store: Store, s3: "S3Client", exported: ObjectVersion, audit: Callable[[], list[Any]]
) -> None:
    def by(event: dict[str, Any], **identity: Any) -> dict[str, Any]:
        event["requestContext"] |= identity
        return event

    arn = "arn:aws:sts::123456789012:assumed-role/Ops/jo"
    signed = {"identity": {"sourceIp": "127.0.0.1", "userArn": arn}}
    one = {"customer_id": 1, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
    functions(
        "create_customer", by(api_event("POST", "/api/v1/customers", one), authorizer={"claims": {"sub": "user-1"}})
    )
    functions("create_customer", by(api_event("POST", "/api/v1/customers", one), **signed))
    functions("create_upload", by(api_event("POST", "/api/v1/uploads", {"filename": "a.csv"}), **signed))
    functions("delete_upload", by(api_event("DELETE", "/api/v1/uploads/2", parameters={"upload_id": "2"}), **signed))
    functions(
        "erase_customer", by(api_event("DELETE", "/api/v1/customers/1", parameters={"customer_id": "1"}), **signed)
    )
    functions("clear", by(api_event("DELETE", "/api/v1/customers"), **signed))

    assert audit() == [
        ["upload", "AWS:AIDANIGHTLY", 1, None, 1],
        ["upload", "user-1", 2, None, 1],
        ["upload", arn, 3, None, 1],
        ["expect upload", arn, 4, None, None],
        ["delete upload", arn, 2, None, 1],
        ["erase customer", arn, None, "1", 1],
        ["clear", arn, None, None, 1],
    ]


def test_what_changed_nothing_is_not_in_the_audit(store: Store, audit: Callable[[], list[Any]]) -> None:
    for _ in range(2):
        store.records.add([record(1, "hubspot")], key="once", digest="d", principal="me")

    assert audit() == [["upload", "me", 1, None, 1]]


@pytest.mark.parametrize(
    ("confirm", "status", "left"), [({}, 422, 8), ({"confirm": "yes"}, 422, 8), ({"confirm": "everything"}, 200, 0)]
)
def test_clearing_asks_where_the_deployment_demands_it(
    functions: Call, environment: pytest.MonkeyPatch, store: Store, confirm: dict[str, str], status: int, left: int
) -> None:
    environment.setenv("CLEAR_CONFIRM", "true")
    store.records.add(sample_records())
    settings.cache_clear()

    answer = functions("clear", api_event("DELETE", "/api/v1/customers", query=confirm))

    assert answer["statusCode"] == status
    assert sum(store.questions.counts().values()) == left
