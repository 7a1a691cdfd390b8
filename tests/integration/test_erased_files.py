"""What an erasure takes out of files of rejected rows, and what it leaves in no table."""

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from dedup.api.parameters import client_key
from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.errors import Superseded, Unavailable
from dedup.records import Record
from dedup.services import erasure, ingest
from dedup.services.rejected_rows import without
from dedup.services.tasks import sweep
from dedup.settings import settings
from dedup.store import Store, erasures, rejected_rows
from dedup.store.uploads import Upload
from dedup.traces import Hashes, Trace

from tests.conftest import LONG_NAME, api_event, connect, lambda_context, load_function, record
from tests.integration.conftest import BUCKET, plenty

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
Load = Callable[..., Upload]

HEADER = "id,name,email,phone,street\n"
EXPORT = f"""{HEADER}7,Ann,ann@example.com,,
7,{LONG_NAME},ann@example.com,,
8,{LONG_NAME},no address of 17 or 70,,
1e9,Ann,ANN@example.com,,
9,"Cora {LONG_NAME}
7 lines",,,
""".encode()
TRACE = Trace(1, 7, {"ann@example.com"})


@pytest.fixture
def load(s3: Any, store: Store) -> Load:
    def load(body: bytes = EXPORT, key: str = "incoming/hubspot/night.csv") -> Upload:
        made = s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
        assert upload
        return upload

    return load


@pytest.fixture
def requests_to_s3(s3: Any) -> Iterator[list[str]]:
    """The operations that were asked of S3 by the code under test."""
    asked: list[str] = []

    def note(model: Any, **_: Any) -> None:
        asked.append(model.name)

    bucket.client().meta.events.register("before-call.s3", note)
    yield asked
    bucket.client().meta.events.unregister("before-call.s3", note)


def erase(functions: Call, customer_id: int) -> tuple[int, Any]:
    path = f"/api/v1/customers/{customer_id}"
    answer = functions("erase_customer", api_event("DELETE", path, parameters={"customer_id": str(customer_id)}))
    body = json.loads(answer["body"])
    return answer["statusCode"], body.get("details", body)


def left(details: Any) -> tuple[str, int, int]:
    of_files = details["rejected_files"]
    return of_files["status"], of_files["files"], of_files["rows"]


def cut(store: Store, customer_id: int) -> None:
    """Erases a customer, and does at once what that leaves to be done."""
    erased = store.customers.erase(customer_id)
    assert erased
    assert erasure.cut(erased.remaining.erasure_id, store, plenty) in ("done", None)


def content(s3: Any, store: Store, upload_id: int) -> bytes:
    """The upload's file of rejected rows; nothing where there is none."""
    upload = store.uploads.get(upload_id)
    assert upload
    if not upload.rejected_key:
        return b""
    at = {"Key": upload.rejected_key} | ({"VersionId": upload.rejected_version} if upload.rejected_version else {})
    body: bytes = s3.get_object(Bucket=BUCKET, **at)["Body"].read()
    return body


def rows(s3: Any, store: Store, upload_id: int) -> list[str]:
    text = content(s3, store, upload_id).decode("utf-8-sig")
    return [row["row"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def everything_in(s3: Any, prefix: str = "rejected/") -> bytes:
    """The content of all versions of all objects below a prefix."""
    found = s3.list_object_versions(Bucket=BUCKET, Prefix=prefix).get("Versions", [])
    return b"".join(
        s3.get_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])["Body"].read() for one in found
    )


def asked(query: str) -> list[list[Any]]:
    with connect() as owner:
        found: list[list[Any]] = owner.run(query)
        return found


def texts() -> str:
    """All that is in all tables but records, staging and runs."""
    names = asked(
        "SELECT format('%I', relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return "\n".join(
        line
        for [name] in names
        if name not in ("record", "hash_salt")
        for [line] in asked(f"SELECT t::text FROM {name} t")
    )


# What is cut


def test_rejected_rows_of_an_erased_customer_are_cut_out_by_the_queue(
    functions: Call, s3: Any, store: Store, load: Load, work: Callable[[], int]
) -> None:
    upload = load()
    first = str(upload.rejected_version)
    before = content(s3, store, upload.id).split(b"\r\n")

    status, details = erase(functions, 7)

    assert (status, details["records"], details["files"]) == (200, 1, ["incoming/hubspot/night.csv"])
    assert left(details) == ("waiting", 1, 2)
    assert store.customers.get(7, None, 1) is None
    assert work() == 1
    assert erase(functions, 7)[0] == 404
    assert content(s3, store, upload.id).split(b"\r\n") == [line for line in before if b"ann@" not in line.lower()]
    assert first not in {v["VersionId"] for v in s3.list_object_versions(Bucket=BUCKET, Prefix="rejected/")["Versions"]}
    assert work() == 0


def test_erasure_requested_again_shows_what_is_left_and_continues(
    functions: Call, store: Store, load: Load, work: Callable[[], int], files_queue: str
) -> None:
    load()
    erase(functions, 7)
    boto3.client("sqs").purge_queue(QueueUrl=files_queue)

    status, details = erase(functions, 7)

    assert (status, details["records"], left(details)) == (200, 0, ("waiting", 1, 2))
    assert work() == 1
    assert erase(functions, 7)[0] == 404
    assert asked("SELECT action, customer_id, records FROM audit WHERE action LIKE 'erase%'") == [
        ["erase customer", "7", 1]
    ]


def test_rejected_rows_alone_are_erased_too(
    functions: Call, s3: Any, store: Store, load: Load, work: Callable[[], int]
) -> None:
    upload = load()

    status, details = erase(functions, 8)

    assert (status, details["records"], left(details)) == (200, 0, ("waiting", 1, 1))
    work()
    assert len(rows(s3, store, upload.id)) == 3
    assert erase(functions, 8)[0] == 404


def test_numbers_in_other_columns_are_not_an_id(s3: Any, store: Store, load: Load) -> None:
    body = f"""{HEADER}1,Ann,ann@example.com,,
1,{LONG_NAME},a@example.com,,
2,{LONG_NAME},b@example.com,+1 (202) 555 0101,1 Main Street
3,{LONG_NAME},1@nowhere,1,1
"1,234,567",{LONG_NAME},d@example.com,,"1,
Long Street"
"""
    upload = load(body.encode())

    cut(store, 1)

    assert len(rows(s3, store, upload.id)) == 3
    assert b",a@example.com" not in everything_in(s3)
    cut(store, 1234567)
    assert len(rows(s3, store, upload.id)) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1e9", "email": "Rene+News@München.example"},
        {"id": "1e9", "email": "rene+news@xn--mnchen-3ya.example"},
        {"id": "1e9", "email": unicodedata.normalize("NFD", "rene+news@münchen.example")},
        {"id": "1e9", "email": "", "work email": ["rene+news@münchen.example"]},
        {"id": "7", "name": LONG_NAME, "email": "nowhere"},
    ],
)
@pytest.mark.parametrize("escapes", [True, False])
def test_rejected_json_hides_nobody_behind_escapes_punycode_or_accents(
    s3: Any, store: Store, load: Load, row: dict[str, Any], escapes: bool
) -> None:
    store.records.add([record(7, "hubspot", email="rene+news@münchen.example")])
    text = json.dumps(row, ensure_ascii=escapes).replace("+", r"\u002B")
    upload = load(f'{text}\n{{"id": 8}}\n{{"id": 9, "name": "B", "email": "b@example.com"}}\n'.encode())
    assert len(rows(s3, store, upload.id)) == 2

    cut(store, 7)

    assert rows(s3, store, upload.id) == ['{"id": 8}']


def test_file_without_an_accepted_row_is_cut_too_and_gone_where_nothing_is_left(
    s3: Any, store: Store, load: Load
) -> None:
    upload = load(f"{HEADER}7,{LONG_NAME},ann@example.com,,\n".encode())
    assert (upload.status, upload.rejected) == ("failed", 1)

    cut(store, 7)

    assert everything_in(s3) == b""
    after = store.uploads.get(upload.id)
    assert after
    assert (after.rejected_key, after.rejected) == (None, 1)


# What it costs


def many_uploads(count: int, statistics: str = "ANALYZE") -> None:
    """Uploads whose three rejected rows are of others, and whose objects are not there any more."""
    with connect() as owner:
        owner.run(
            f"""INSERT INTO upload (origin, status, object_key, rejected_key, rejected_version, rejected, finished_at)
                SELECT 's3', 'done', 'incoming/old-' || n, 'rejected/old-' || n, 'v', 3, now()
                FROM generate_series(1, {count}) n"""
        )
        owner.run(
            """INSERT INTO rejected_row
                SELECT id, line, hashint8extended(id * 100 + line, 1), hashint8extended(id * 100 + line, 2)
                FROM upload, generate_series(1, 3) line WHERE object_key LIKE 'incoming/old-%'"""
        )
        owner.run(statistics)


def test_erasure_asks_nothing_of_s3_however_many_uploads_there_were(
    functions: Call, store: Store, load: Load, work: Callable[[], int], requests_to_s3: list[str]
) -> None:
    load()
    many_uploads(7_000)
    requests_to_s3.clear()

    assert left(erase(functions, 7)[1]) == ("waiting", 1, 2)

    assert requests_to_s3 == []
    work()
    assert requests_to_s3 == ["HeadObject", "GetObject", "PutObject", "DeleteObject"]


class Explained:
    """A connection that keeps the plan of each statement that it runs."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.plans: list[str] = []

    def run(self, query: str) -> Any:
        if query.startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            self.plans.append("\n".join(line for [line] in self._connection.run(f"EXPLAIN {query}")))
        return self._connection.run(query)


@pytest.mark.parametrize("statistics", ["ANALYZE", "SELECT"])
def test_erasure_reads_no_table_of_uploads_or_rejected_rows_whole(store: Store, load: Load, statistics: str) -> None:
    upload = load()
    many_uploads(100_000, statistics)
    hashes = Hashes(asked("SELECT salt FROM hash_salt")[0][0])
    customer, emails = hashes.customer(7), hashes.emails(["ann@example.com", "b@example.com"])
    with connect() as owner:
        owner.run("BEGIN")
        explained: Any = Explained(owner)
        assert erasures.is_known(explained, customer)
        erasures.hide_keys(explained, 7, customer, emails, ["Ann"])
        begun = erasures.begin(explained, customer, emails, anew=True)
        assert rejected_rows.lines_of_erased(explained, upload.id) == {3, 5}
        owner.run("ROLLBACK")

    assert begun.rows == 2
    assert len(explained.plans) >= 6
    for plan in explained.plans:
        assert "Seq Scan on upload" not in plan, plan
        assert "Seq Scan on rejected_row" not in plan, plan


def test_object_that_expired_is_asked_for_once(
    functions: Call, s3: Any, store: Store, load: Load, work: Callable[[], int], requests_to_s3: list[str]
) -> None:
    upload = load()
    s3.delete_object(Bucket=BUCKET, Key=upload.rejected_key, VersionId=upload.rejected_version)
    requests_to_s3.clear()

    erase(functions, 7)
    work()
    assert requests_to_s3 == ["HeadObject"]
    assert erase(functions, 8)[0] == 404
    shown = store.uploads.get(upload.id)

    assert shown
    assert shown.rejected_key is None
    assert asked("SELECT count(*) FROM rejected_row") == [[0]]
    assert requests_to_s3 == ["HeadObject"]


def test_rejected_rows_are_noted_in_bulk(store: Store, load: Load) -> None:
    rejected = "".join(f"{n},{LONG_NAME},c{n}@example.com,,\n" for n in range(20_000))
    body = HEADER + rejected + "1,Ann,ann@example.com,,\n"

    load(body.encode())

    assert asked("SELECT count(*), count(DISTINCT customer), count(DISTINCT email) FROM rejected_row") == [
        [20_000, 20_000, 20_000]
    ]
    assert asked("SELECT pg_column_size(r) FROM rejected_row r LIMIT 1")[0][0] <= 64


def test_what_expired_is_forgotten(store: Store, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.store.erasures.EXPIRING_ROWS", 2)
    old, new = load(), load(key="incoming/hubspot/new.csv")
    store.customers.erase(7)
    asked(f"UPDATE upload SET finished_at = now() - interval '41 days' WHERE id = {old.id} RETURNING id")
    asked("UPDATE erasure SET created_at = now() - interval '39 days' RETURNING id")

    counts = []
    for _ in range(4):
        erasure.forget_expired(store)
        counts.append([n for [n] in asked("SELECT count(*) FROM rejected_row GROUP BY upload_id ORDER BY upload_id")])

    assert counts == [[2, 4], [4], [4], [4]]
    loaded_uploads = {upload.id: bool(upload.rejected_key) for upload in store.uploads.page(None, 10)}
    assert loaded_uploads == {old.id: False, new.id: True}
    assert len(asked("SELECT FROM erasure")) == 1
    asked("UPDATE erasure SET created_at = now() - interval '41 days' RETURNING id")
    load_function("sweep").handler({}, lambda_context("sweep"))
    assert asked("SELECT FROM erasure") == []


# Files that are loaded meanwhile, or later


@pytest.mark.parametrize("method", ["lines_of_erased", "finish"])
def test_who_is_erased_while_a_file_is_loaded_is_in_none_of_its_rejected_rows(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, s3: Any, load: Load, store: Store, method: str
) -> None:
    other = new_store()
    store.records.add([record(7, "internal", email="ann@example.com")])
    original, erased = getattr(store.loads, method), list[Any]()

    def meanwhile(*args: Any) -> Any:
        if not erased:
            erased.append(other.customers.erase(7))
        return original(*args)

    monkeypatch.setattr(store.loads, method, meanwhile)
    upload = load(EXPORT.replace(b"7,Ann", b"6,Ann"))

    assert asked("SELECT status FROM erasure") == [["done"]]
    assert (upload.status, upload.accepted, upload.rejected) == ("done", 1, 4)
    assert len(rows(s3, store, upload.id)) == 2
    assert b"ann@" not in everything_in(s3).lower()
    assert len(asked("SELECT FROM rejected_row")) == 2
    assert store.maintenance.verify().agreed


def test_who_is_erased_while_a_file_fails_is_in_none_of_its_rejected_rows(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, s3: Any, load: Load, store: Store
) -> None:
    other = new_store()
    original, erased = store.loads.fail, list[Any]()

    def meanwhile(*args: Any) -> None:
        if not erased:
            erased.append(other.customers.erase(7))
        original(*args)

    store.records.add([record(7, "internal")])
    monkeypatch.setattr(store.loads, "fail", meanwhile)
    upload = load(f"{HEADER}7,{LONG_NAME},ann@example.com,,\n8,{LONG_NAME},b@example.com,,\n".encode())

    assert (upload.status, rows(s3, store, upload.id)) == ("failed", [f"8,{LONG_NAME},b@example.com,,"])
    assert b"ann@" not in everything_in(s3)


def test_file_from_before_an_erasure_that_is_loaded_later_leaves_no_rejected_row_of_it(
    s3: Any, store: Store, load: Load
) -> None:
    key = "incoming/hubspot/late.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=EXPORT)
    store.records.add([record(7, "internal", email="ann@example.com")])
    store.customers.erase(7)
    asked("UPDATE erasure SET created_at = created_at + interval '2 s' RETURNING id")

    late = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
    asked("UPDATE erasure SET created_at = created_at - interval '1 hour' RETURNING id")
    after = load()

    assert late
    assert (len(rows(s3, store, late.id)), len(rows(s3, store, after.id))) == (2, 4)


def test_load_that_broke_off_leaves_nothing_to_be_found(
    store: Store, load: Load, monkeypatch: pytest.MonkeyPatch, s3: Any
) -> None:
    def lose(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(store.loads, "finish", lose)
        with pytest.raises(ConnectionError):
            load()
    assert asked("SELECT FROM rejected_row") == []
    assert everything_in(s3) == b""

    killed = store.loads.claim("killed", "incoming/a.csv", datetime.now(UTC), "hubspot", "add", 60)
    assert killed
    store.loads.stage(killed, [], 0, 1, traces=[TRACE])
    assert len(asked("SELECT FROM rejected_row")) == 1
    asked("UPDATE upload SET lease_until = now() - interval '25 hours' WHERE lease_until IS NOT NULL RETURNING id")
    store.maintenance.sweep()
    assert asked("SELECT FROM rejected_row") == []


def test_attempt_that_was_overtaken_notes_no_rejected_row(store: Store) -> None:
    first = store.loads.claim("a file", "incoming/a.csv", datetime.now(UTC), "hubspot", "add", 0)
    assert first
    store.loads.stage(first, [], 0, 1, traces=[TRACE])
    second = store.loads.claim("a file", "incoming/a.csv", datetime.now(UTC), "hubspot", "add", 60)
    assert second
    assert asked("SELECT FROM rejected_row") == []

    with pytest.raises(Superseded):
        store.loads.stage(first, [], 0, 2, traces=[TRACE])
    with pytest.raises(Superseded):
        store.loads.forget_lines(first, [1])
    store.loads.stage(second, [], 0, 1, traces=[TRACE])

    assert len(asked("SELECT FROM rejected_row")) == 1


def test_upload_that_is_refused_at_its_end_writes_its_rejected_rows_once(s3: Any, store: Store, load: Load) -> None:
    key = "incoming/hubspot/snapshot/old.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=EXPORT)
    load(key="incoming/hubspot/snapshot/new.csv")
    asked("UPDATE upload SET object_at = object_at + interval '1 day' RETURNING id")

    upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)

    assert upload
    assert (upload.status, len(rows(s3, store, upload.id))) == ("failed", 4)
    [_] = s3.list_object_versions(Bucket=BUCKET, Prefix=upload.rejected_key)["Versions"]
    cut(store, 7)
    assert b"ann@" not in everything_in(s3).lower()


# Several at once, and such as die


def test_two_erasures_that_cut_one_file_at_the_same_moment_lose_no_cut(
    new_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, s3: Any, store: Store, load: Load
) -> None:
    upload = load(
        f"{HEADER}7,{LONG_NAME},ann@example.com,,\n8,{LONG_NAME},b@example.com,,\n"
        f"9,{LONG_NAME},c@example.com,,\n1,D,d@example.com,,\n".encode()
    )
    other, times = new_store(), list[Any]()

    def meanwhile(*args: Any) -> Any:
        times.append(args)
        if len(times) == 1:
            cut(other, 8)
        return without(*args)

    monkeypatch.setattr("dedup.services.erasure.without", meanwhile)
    cut(store, 7)

    assert rows(s3, store, upload.id) == [f"9,{LONG_NAME},c@example.com,,"]
    everything = everything_in(s3)
    assert b"ann@" not in everything
    assert b"b@" not in everything


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up."""


STEPS = ("claim", "files_to_cut", "lines_to_cut", "replace_file", "leftovers", "forget_leftover")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*STEPS, "finish"])
def test_cut_that_is_killed_at_any_step_is_gone_on_with(
    functions: Call, monkeypatch: pytest.MonkeyPatch, s3: Any, store: Store, load: Load, step: str, when: str
) -> None:
    upload = load()
    erased = store.customers.erase(7)
    assert erased
    original = getattr(store.erasures, step)

    def die(*args: Any, **named: Any) -> Any:
        if when == "after":
            original(*args, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store.erasures, step, die)
        patch.setattr(store.erasures, "interrupt", lambda *_: None)
        with pytest.raises(Killed):
            erasure.cut(erased.remaining.erasure_id, store, plenty)
    asked("UPDATE erasure SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL RETURNING id")

    # A version that was written and not noted has none of theirs.
    erasure.cut(erased.remaining.erasure_id, store, plenty)

    assert len(rows(s3, store, upload.id)) == 2
    assert b"ann@" not in everything_in(s3).lower()
    assert asked("SELECT FROM erasure_leftover") == []
    assert asked("SELECT status, rows FROM erasure") == [["done", 2]]
    assert erase(functions, 7)[0] == 404


def test_erasure_that_failed_three_times_says_so_and_is_tried_again_on_request(
    functions: Call, monkeypatch: pytest.MonkeyPatch, s3: Any, store: Store, load: Load, work: Callable[[], int]
) -> None:
    def away(*_: Any) -> None:
        raise OSError("S3 is away")

    upload = load()
    _, details = erase(functions, 7)
    assert left(details)[0] == "waiting"
    [[erasure_id]] = asked("SELECT id FROM erasure")
    with monkeypatch.context() as patch:
        patch.setattr("dedup.services.erasure.without", away)
        for _ in range(3):
            with pytest.raises(OSError, match="away"):
                erasure.cut(erasure_id, store, plenty)
    assert asked("SELECT status FROM erasure") == [["failed"]]
    work()  # the message that was sent first: its work has ended
    assert len(rows(s3, store, upload.id)) == 4

    status, details = erase(functions, 7)

    assert (status, left(details)) == (200, ("waiting", 1, 2))
    assert work() == 1
    assert len(rows(s3, store, upload.id)) == 2
    assert erase(functions, 7)[0] == 404


def test_cut_that_runs_out_of_time_goes_on_with_the_files_that_are_left(store: Store, s3: Any, load: Load) -> None:
    loaded_uploads = [load(key=f"incoming/hubspot/{n}.csv") for n in range(3)]
    erased = store.customers.erase(7)
    assert erased
    times = iter([900.0, 900.0, 900.0, 1.0])

    with pytest.raises(Unavailable):
        erasure.cut(erased.remaining.erasure_id, store, lambda: next(times))

    assert [len(rows(s3, store, upload.id)) for upload in loaded_uploads] == [2, 4, 4]
    assert erasure.cut(erased.remaining.erasure_id, store, plenty) == "done"
    assert [len(rows(s3, store, upload.id)) for upload in loaded_uploads] == [2, 2, 2]


def test_queue_that_is_down_loses_nothing_of_an_erasure(
    functions: Call,
    environment: pytest.MonkeyPatch,
    store: Store,
    load: Load,
    work: Callable[[], int],
    files_queue: str,
) -> None:
    load()
    environment.setenv("FILES_QUEUE", files_queue + "-that-is-not-there")
    settings.cache_clear()

    status, details = erase(functions, 7)

    assert (status, details["records"], left(details)) == (200, 1, ("waiting", 1, 2))
    environment.setenv("FILES_QUEUE", files_queue)
    settings.cache_clear()
    assert len(sweep(store).enqueued) == 1
    assert work() == 1
    assert erase(functions, 7)[0] == 404


def test_customer_added_again_after_an_erasure_is_erased_with_what_the_first_one_left(
    functions: Call, s3: Any, store: Store, load: Load, work: Callable[[], int]
) -> None:
    upload = load(
        f"{HEADER}1e9,,ann@example.com,,\n1e9,,new@example.com,,\n1e9,,c@example.com,,\n7,A,ann@example.com,,\n".encode()
    )
    erase(functions, 7)
    store.records.add([record(7, "internal", email="new@example.com")])

    assert left(erase(functions, 7)[1]) == ("waiting", 1, 2)

    assert work() == 2
    assert rows(s3, store, upload.id) == ["1e9,,c@example.com,,"]
    assert asked("SELECT status FROM erasure") == [["done"]]


# What is left in the database


def test_no_table_has_an_address_a_key_or_a_digest_that_tells_who_was_erased(
    functions: Call, store: Store, load: Load, work: Callable[[], int]
) -> None:
    body = {"customer_id": 77, "name": "Zebulon Wyvern", "email": "zeb@wyvern.example", "source": "hubspot"}
    key = {"Idempotency-Key": "zeb@wyvern.example"}
    for _ in range(2):
        answer = functions("create_customer", api_event("POST", "/api/v1/customers", body, headers=key))
        assert answer["statusCode"] == 201
    other = functions("create_customer", api_event("POST", "/api/v1/customers", {**body, "name": "Z"}, headers=key))
    assert other["statusCode"] == 422
    rejected = f"77,{LONG_NAME},zeb@wyvern.example,,\n"
    load(f"{HEADER}{rejected}8,B,b@example.com,,\n".encode(), "incoming/hubspot/zeb@wyvern.example.csv")
    load(f"{HEADER}77,Zebulon Wyvern,,,\n8,B,b@example.com,,\n".encode(), "incoming/hubspot/Wyvern, Zebulon.csv")
    load(b"77,Zebulon Wyvern,zeb@wyvern.example\n", "incoming/hubspot/no-header.csv")
    load(b"id\n", "incoming/zeb@wyvern.example/x.csv")
    uploads = "/api/v1/uploads"
    functions("create_upload", api_event("POST", uploads, {"filename": "zeb@wyvern.example.csv"}))
    asked("UPDATE upload SET created_at = now() - interval '25 hours' WHERE status = 'waiting' RETURNING id")
    functions("create_upload", api_event("POST", uploads, {"filename": "zeb@wyvern.example.csv", "source": "hubspot"}))
    # It is known by its key until its object comes.
    [[expected]] = asked("SELECT object_key FROM upload WHERE status = 'waiting' AND source = 'hubspot'")

    status, _ = erase(functions, 77)
    work()

    assert status == 200
    left_in_tables = texts().replace(expected, "").lower()
    assert not any(trace in left_in_tables for trace in ("zeb", "wyvern"))
    _, digest = client_key("any", Record.model_validate(body))
    said = [digest, *(hashlib.sha256(text.encode()).hexdigest() for text in ("77", "zeb@wyvern.example"))]
    assert not any(text in left_in_tables for text in said)
    assert [upload.object_key for upload in store.uploads.page(None, 10)] == [
        expected,
        "incoming/erased",
        "incoming/erased",
        "incoming/hubspot/no-header.csv",
        "incoming/hubspot/erased",
        "incoming/hubspot/erased",
        None,
    ]


def test_key_of_an_object_that_comes_after_an_erasure_of_its_address_is_hidden_when_it_ends(
    s3: Any, store: Store, load: Load
) -> None:
    key = "incoming/hubspot/ann@example.com.csv"
    made = s3.put_object(Bucket=BUCKET, Key=key, Body=f"{HEADER}8,B,b@example.com,,\n".encode())
    store.records.add([record(7, "internal", email="ann@example.com")])
    store.customers.erase(7)
    asked("UPDATE erasure SET created_at = created_at + interval '2 s' RETURNING id")

    upload = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)
    again = ingest.ingest(ObjectVersion(BUCKET, key, made["VersionId"]), store, plenty)

    assert upload
    assert (upload.status, upload.object_key) == ("done", "incoming/hubspot/erased")
    assert again == upload


def test_hash_in_sql_is_the_hash_in_python(store: Store) -> None:
    [[salt, salted]] = asked("SELECT salt, salted('zoë@example.com') FROM hash_salt")
    assert Hashes(salt).of("zoë@example.com").to_bytes(8, "big", signed=True).hex() == salted[:16]
    assert len(salt) == 32


def test_where_the_bucket_was_lost_nothing_waits_to_be_cut(
    functions: Call, store: Store, load: Load, files_queue: str
) -> None:
    load()
    store.customers.erase(7)

    store.uploads.bucket_lost("gone")

    assert erase(functions, 7)[0] == 404
    assert asked("SELECT status FROM erasure") == [["done"]]
    assert asked("SELECT FROM rejected_row") == []
