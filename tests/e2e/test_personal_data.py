"""Nobody's name or address is in a log of the stack, or in the body of an error, whatever was done with them."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from dedup.store import Store

from tests.e2e.test_model import store  # noqa: F401 # a fixture
from tests.e2e.test_uploads import Aws, ended_object, send, unique_key

NAME, STREET, PHONE, COMPANY = "Quetzalina Vandersloot", "Xanthorrhoea Lane", "+14155550199", "Zyzzyva Holdings"
ADDRESS = "quetzalina.v@unmistakable.example.com"
WORDS = ("quetzalina", "vandersloot", "unmistakable", "xanthorrhoea", "4155550199", "zyzzyva")
PERSON = {
    "customer_id": 4711,
    "source": "hubspot",
    **{"name": NAME, "email": ADDRESS, "phone": PHONE, "company": COMPANY, "address": f"7 {STREET}"},
}
FILE = f"""id,name,email,phone,company,address
4711,{NAME},{ADDRESS},{PHONE},{COMPANY},7 {STREET}
1e9,{NAME},{ADDRESS},{PHONE},{COMPANY},7 {STREET}
4712,{NAME * 20},{ADDRESS}@nowhere,{PHONE},{COMPANY},7 {STREET}
"4713,{NAME},{ADDRESS}
""".encode()


@pytest.fixture
def aws(api: str) -> Aws:
    return Aws(api)


def said(text: str) -> set[str]:
    return {word for word in WORDS if word in text.lower()}


def test_log_and_errors_contain_no_name(
    api: str,
    aws: Aws,
    store: Store,  # noqa: F811
    stack_folder: Path | None,
) -> None:
    assert stack_folder is not None
    errors: list[requests.Response] = []

    def ask(method: str, path: str, **more: Any) -> requests.Response:
        answer = requests.request(method, f"{api}/{path}", timeout=60, **more)
        if not answer.ok:
            errors.append(answer)
        return answer

    # What is stored, shown and looked up, and what is refused of it
    key = {"Idempotency-Key": "Quetzalina-1"}
    assert ask("POST", "customers", json=PERSON, headers=key).ok
    assert ask("POST", "customers", json=PERSON | {"name": NAME * 2}, headers=key).status_code == 422
    assert ask("POST", "customers/bulk", json={"customers": [PERSON, PERSON]}).ok
    for wrong in (
        {"email": f"{ADDRESS}@x"},
        {"name": NAME * 20},
        {"source": NAME},
        {"customer_id": NAME * 20},
        {NAME: 1},
    ):
        ask("POST", "customers", json=PERSON | wrong)
        ask("POST", "customers/bulk", json={"customers": [PERSON | wrong]})
    ask("POST", "customers", data=json.dumps(PERSON)[:-1], headers={"Content-Type": "application/json"})
    ask("POST", "customers", data=json.dumps(PERSON), headers={"Content-Type": "text/plain"})
    assert ask("GET", "customers/4711").json()["records"][0]["name"] == NAME
    assert NAME in ask("GET", "customers/source/hubspot").text
    ask("POST", "entities/lookup", json=PERSON)
    ask("POST", "matching/decisions", json={"record_ids": [1, 2], "verdict": "same", "note": NAME})

    # What the database refuses: its error has the row
    def check(change: str) -> None:
        store._database.write(lambda connection: connection.run(f"ALTER TABLE record {change}"), repeatable=True)

    check(f"ADD CONSTRAINT nobody CHECK (name <> '{NAME}') NOT VALID")
    try:
        assert ask("POST", "customers", json=PERSON).status_code == 500
        assert ask("POST", "customers/bulk", json={"customers": [PERSON, PERSON]}).status_code == 500
    finally:
        check("DROP CONSTRAINT nobody")

    # Files: named after somebody, refused in part and as a whole, taken out again
    upload = send(api, FILE, filename=f"{NAME}.csv", source="hubspot")
    assert (upload["accepted"], upload["rejected"]) == (1, 3)
    assert NAME in requests.get(upload["rejected_url"], timeout=30).text
    dropped = unique_key(f"hubspot/{NAME}")
    aws.put(dropped, FILE)
    assert ended_object(api, dropped)["status"] == "done"
    unknown = send(api, FILE.replace(b"id,", b"nobody,"), filename=f"{ADDRESS}.csv", source="hubspot")
    assert unknown["status"] == "needs_mapping"
    mapping = {"columns": {"nobody": "customer_id", "name": NAME}}
    assert ask("PUT", f"uploads/{unknown['id']}/mapping", json=mapping).status_code == 422
    aws.put(f"incoming/{NAME}/{ADDRESS}.csv", FILE)
    assert ended_object(api, f"incoming/{NAME}/{ADDRESS}.csv")["status"] == "failed"
    assert ask("DELETE", f"uploads/{upload['id']}").ok

    # Erasure, with the rejected rows
    assert ask("DELETE", "customers/4711").json()["details"]["records"] > 0
    store.close()

    logs = {path.name: path.read_text(errors="replace") for path in (stack_folder / "log").iterdir()}
    assert {"functions.log", "gateway.log", "postgres.log", "s3.log"} <= logs.keys()
    assert {name: said(text) for name, text in logs.items() if said(text)} == {}
    assert len(errors) > 10
    # A validation error says what was wrong with a value, and not the value.
    assert [answer.text for answer in errors if said(answer.text)] == []
    # And nobody forges a line: each is one object.
    for line in logs["functions.log"].splitlines():
        assert isinstance(json.loads(line), dict)
