"""The README's walk over people in three systems with ids of their own: a run, entities, a decision, a lookup."""

import json
import time
from typing import Any

import requests

from tests.conftest import ROOT

WAIT_SECONDS = 120
PEOPLE = json.loads((ROOT / "samples" / "people.json").read_text())


RESOLVED = {"Prefer": "wait=20"}


def get(url: str, **query: Any) -> Any:
    """The response, after what was written before is resolved."""
    answer = requests.get(url, params=query, headers=RESOLVED, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(url: str, body: Any, status: int) -> Any:
    answer = requests.post(url, json=body, timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json()


def run(api: str) -> Any:
    """A run of the matching, when it is done."""
    begun = post(f"{api}/matching/runs", {}, 202)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        seen = get(f"{api}/matching/runs/{begun['id']}")
        if seen["status"] not in ("waiting", "running"):
            assert seen["status"] == "done", seen["reason"]
            return seen
        time.sleep(0.2)
    raise AssertionError(f"the run did not end: {seen}")


def test_people_are_found_decided_about_and_counted(api: str) -> None:
    post(f"{api}/customers/bulk", PEOPLE, 201)
    people = requests.get(f"{api}/customers", params={"limit": 100}, timeout=30).json()
    ids = [record["id"] for record in people]

    done = run(api)
    assert (done["active"], done["records"], done["entities"]) == (True, 60, 32)
    assert get(f"{api}/deduplication/analyze", by="entity")["unique_customers"] == 32

    [first] = get(f"{api}/entities", min_records=2, limit=1)
    assert (first["customer_ids"], first["sources"]) == ([1001, 5001], ["hubspot", "internal", "salesforce"])
    whole = get(f"{api}/entities/{first['id']}")
    assert [record["id"] for record in whole["records"]] == ids[:3]
    # Each is joined to another, and for a reason that is told.
    assert {edge[side] for edge in whole["edges"] for side in ("record_a", "record_b")} == set(ids[:3])
    assert all(edge["rule"] or edge["fields"] for edge in whole["edges"])

    found = post(f"{api}/entities/lookup", {"name": "Kate Moreau", "phone": "202 555 0101"}, 200)["matches"]
    assert (found[0]["entity_id"], found[0]["rule"]) == (first["id"], "same_phone_and_name")

    father, son = ids[38], ids[39]
    decision = post(f"{api}/matching/decisions", {"record_ids": [father, son], "verdict": "different"}, 201)
    assert get(f"{api}/deduplication/analyze", by="entity")["unique_customers"] == 33
    again = run(api)
    assert again["entities"] == 33
    requests.delete(f"{api}/matching/decisions/{decision['id']}", timeout=30).raise_for_status()
    assert get(f"{api}/deduplication/analyze", by="entity")["unique_customers"] == 32
    # A decision is part of the run that was active then: the first run has them split, the second merged again.
    together = get(f"{api}/matching/runs/{again['id']}/changes", since=done["id"])
    assert (together["merged_count"], together["split_count"]) == (1, 0)
    assert {father, son} <= set(together["merged"][0]["record_ids"])


def test_a_file_and_a_snapshot_that_come_after_a_run_are_counted_by_person(api: str) -> None:
    post(f"{api}/customers/bulk", PEOPLE, 201)
    run(api)
    known = next(record for record in PEOPLE["customers"] if record["source"] == "hubspot")
    header = "id,name,email\n"
    same = f"77001,{known['name']},{known['email']}\n"
    another = "77002,Nobody Before,nobody.before@example.net\n"

    load(api, header + same + another, "internal", "uploads")
    assert get(f"{api}/deduplication/analyze", by="entity")["unique_customers"] == 33

    load(api, header + another, "internal", "uploads/snapshots")
    by_entity = get(f"{api}/deduplication/compare-sources", by="entity")
    assert by_entity["internal_count"] == 1
    assert by_entity["only_in_internal_count"] == 1


def load(api: str, text: str, source: str, path: str) -> None:
    expected = post(f"{api}/{path}", {"filename": "people.csv", "source": source}, 201)
    requests.put(expected["url"], data=text.encode(), timeout=30).raise_for_status()
    deadline = time.monotonic() + WAIT_SECONDS
    while (upload := get(f"{api}/uploads/{expected['id']}"))["status"] in ("waiting", "loading"):
        assert time.monotonic() < deadline, upload
        time.sleep(0.1)
    assert upload["status"] == "done", upload
