"""No request takes more memory than a function has: half of its 512 MB are left for the database's answer."""

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
from dedup.records import MAX_RECORDS
from dedup.store import Store, open_store

from tests.conftest import ROOT, api_event, path_of_function

MOST_MB = 300
BODY = 6 * 1024 * 1024

# In a process of its own, which gets the event as Lambda's runtime does: its peak is that of the request, and of what
# the function imports.
CALL = """
import json, runpy, sys, types
handler = runpy.run_path(sys.argv[1])["handler"]
event = json.loads(sys.stdin.buffer.read())
context = types.SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:f", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 28_000,
)
answer = handler(event, context)
peak = next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"status": answer["statusCode"], "body": json.loads(answer["body"]), "peak": peak}))
"""

RECORD = '{"customer_id":%d,"name":"a","email":"a@b.co","source":"hubspot"}'
REPEATED = {
    "half a million empty records": ('{"customers":[', "{},", "{}]}", 500_000),
    "empty records": ('{"customers":[', "{},", "{}]}", BODY),
    "records that are too few to be cut off": ('{"customers":[', "{},", "{}]}", MAX_RECORDS - 1),
    "empty lists": ('{"customers":[', "[],", "[]]}", BODY),
    "small objects": ('{"customers":[', '{"":0},', "0]}", BODY),
    "objects in objects": ('{"customers":[', '{"":{}},', "0]}", BODY),
    "objects nested as deep as is read": ('{"customers":[', '{"":' * 180 + "0" + "}" * 180 + ",", "0]}", BODY),
    "lists nested deeper": ('{"customers":', "[", "", BODY),
    "one long name": ('{"customers":[{"name":"', "é", '"}]}', BODY // 2),
    "names that are too long": ('{"customers":[', '{"name":"%s"},' % ("x" * 300), "{}]}", BODY),
    "addresses that are none": ('{"customers":[', '{"email":"x"},', "{}]}", MAX_RECORDS - 1),
    "one record of many fields": ('{"customers":[{', '"%06x":0,', '"a":0}]}', BODY),
    "records of many misspelt fields": ('{"customers":[', '{"phne":0,"phon":0,"ciy":0,"counry":0},', "{}]}", BODY),
    "fields that the batch has not": ("{", '"customer%06x":0,', '"customer":[]}', BODY),
    "sources that are none": ('{"in":[', '"x",', '"x"]}', BODY),
    "sources many times": ('{"not_in":[', '"hubspot",', '"hubspot"]}', BODY),
    "fields that an export has not": ("{", '"in%06x":0,', '"in":[]}', BODY),
    "ids of records": ('{"record_ids":[', "1,", '1],"verdict":"same"}', BODY),
    "rules that are none": ('{"settings":{"rules":[', "{},", "{}]}}", BODY),
    "settings that are none": ('{"settings":{"constraints":{', '"%06x":0,', '"a":0}}}', BODY),
    "fields of a customer that is looked up": ("{", '"phone%06x":"x",', '"name":"Ann"}', BODY),
    "as many records as fit": ('{"customers":[', f"{RECORD},", f"{RECORD % 7}]}}", BODY),
}
"""By name: a beginning, what is repeated, an end, and how often at most. As often as fits, with the number put in."""


def body_of(name: str) -> str | None:
    if name not in REPEATED:
        return None
    begin, unit, end, times = REPEATED[name]
    room = (BODY - len(begin.encode()) - len(end.encode())) // len((unit % 100_000 if "%" in unit else unit).encode())
    count = min(times, room)
    return begin + ("".join(unit % n for n in range(count)) if "%" in unit else unit * count) + end


QUERIES: dict[str, dict[str, object]] = {
    "a source a million times": {"in": "hubspot," * 700_000 + "hubspot"},
    "sources that are none, in the query": {"not_in": "x," * 3_000_000},
    "parameters that are none": {f"limit{number}": 0 for number in range(100_000)},
    "a parameter with a long name": {"x" * 3_000_000: 0},
    "a parameter many times": {"limit": list(map(str, range(500_000)))},
}


class Answer(NamedTuple):
    """What a function answered, and how many megabytes its process took at most."""

    status: int
    body: Any
    peak: int


def call(function: str, method: str, path: str, name: str) -> Answer:
    event = api_event(method, path, body_of(name), QUERIES.get(name), headers={"Idempotency-Key": "k"})
    run = subprocess.run(
        [sys.executable, "-P", "-c", CALL, str(path_of_function(function))],
        input=json.dumps(event, ensure_ascii=False).encode(),
        env=os.environ | {"PYTHONPATH": str(ROOT / "layers")},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return Answer(**json.loads(run.stdout.splitlines()[-1]))


PATHS = {
    "sources that are none": ("create_export", "/api/v1/exports"),
    "sources many times": ("create_export", "/api/v1/exports"),
    "fields that an export has not": ("create_export", "/api/v1/exports"),
    "ids of records": ("decide", "/api/v1/matching/decisions"),
    "rules that are none": ("start_run", "/api/v1/matching/runs"),
    "settings that are none": ("start_run", "/api/v1/matching/runs"),
    "fields of a customer that is looked up": ("look_up_entity", "/api/v1/entities/lookup"),
}


@pytest.fixture(autouse=True)
def store(environment: pytest.MonkeyPatch) -> Store:
    store = open_store()
    store.schema.migrate()
    return store


@pytest.mark.parametrize("name", [name for name in REPEATED if name != "as many records as fit"])
def test_hostile_body_is_refused_within_the_memory(name: str) -> None:
    function, path = PATHS.get(name, ("bulk_upload", "/api/v1/customers/bulk"))

    answer = call(function, "POST", path, name)

    assert answer.status in (400, 413, 422), answer
    assert answer.peak < MOST_MB


@pytest.mark.parametrize("name", QUERIES)
def test_hostile_query_is_answered_within_the_memory(name: str) -> None:
    answer = call("select_customers", "GET", "/api/v1/deduplication/customers", name)

    assert answer.status in (200, 422), answer
    assert answer.peak < MOST_MB


def test_as_many_records_as_fit_into_a_body_are_stored_within_the_memory() -> None:
    answer = call("bulk_upload", "POST", "/api/v1/customers/bulk", "as many records as fit")

    assert answer.status == 201, answer
    assert answer.peak < MOST_MB
