"""Who a record most likely is, beside what its upload does."""

import json
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.api.models.entities import LookupRecord
from dedup.matching.settings import Settings
from dedup.records import Record
from dedup.services import lookup
from dedup.store import Store

from tests.conftest import api_event
from tests.integration.test_matching import Call, matched, person
from tests.resolving import resolve

OWN_RULE = {"name": "same_company_and_family", "equal": ["company", "family"]}
RULES = [*(rule.model_dump(mode="json") for rule in Settings.load().rules), OWN_RULE]


@pytest.fixture
def known(store: Store) -> Store:
    """With Ann Lee, three of one name and mailbox, and people who share nothing with anybody."""
    store.records.add(
        [
            person(1, "salesforce", name="Ann Lee", email="ann@example.com", company="Lee & Sons Ltd"),
            *(
                person(n, "internal", name="Front Desk", email="desk@example.com", city=f"City {n}")
                for n in (11, 12, 13)
            ),
            *(person(n, "hubspot") for n in range(20, 30)),
        ]
    )
    matched(store, methods=["rules"], rules=RULES, constraints={"max_rule_block": 3})
    return store


def asked(customer_id: int, source: str, name: str, **more: str) -> dict[str, Any]:
    return {"customer_id": customer_id, "source": source, "name": name, "email": "zq@example.net", **more}


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (asked(1, "salesforce", "Zoe Quill"), "same_id"),
        (asked(1, "hubspot", "Ann Lee"), "same_id_and_name"),
        (asked(1, "hubspot", "Zoe Quill"), None),
        (asked(2, "salesforce", "Zoe Quill"), None),
        (asked(2, "hubspot", "Bo Lee", company="Lee and Sons"), "same_company_and_family"),
        (asked(2, "hubspot", "Bo Quill", company="Lee and Sons"), None),
        (asked(2, "hubspot", "Front Desk", email="desk@example.com"), None),
    ],
)
def test_lookup_names_the_rule_by_which_the_record_is_joined_when_it_is_uploaded(
    known: Store, record: dict[str, Any], rule: str | None
) -> None:
    matches = lookup.look_up(LookupRecord(**record).model_dump(), known)
    before = set(known.entities.of_records(range(1, 15)).values())
    known.records.add([Record(**record).fields()])
    resolve(known)

    entity_id = known.entities.of_records([15])[15]
    assert [match["rule"] for match in matches if match["rule"]] == ([rule] if rule else [])
    if not rule:
        assert entity_id not in before
        return
    assert (matches[0]["entity_id"], matches[0]["record_id"]) == (entity_id, 1)
    found = known.entities.get(entity_id)
    assert found is not None
    assert [(edge["record_a"], edge["record_b"], edge["rule"]) for edge in found[0]["edges"]] == [(1, 15, rule)]


@pytest.mark.parametrize("email", ["Ann@Example.com", " ann @example.com\u00a0", "ann+news@example.com."])
def test_address_is_found_as_people_type_it(known: Store, email: str) -> None:
    [match] = lookup.look_up(LookupRecord(name="Ann Lee", email=email).model_dump(), known)

    assert (match["record_id"], match["rule"]) == (1, "same_email_and_name")


def test_lookup_scores_a_limited_number_of_candidates(known: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    everybody = {"customer_id": 1, "source": "salesforce", "name": "Front Desk", "email": "desk@example.com"}
    assert {match["record_id"] for match in lookup.look_up(LookupRecord(**everybody).model_dump(), known)} == {1, 2}

    monkeypatch.setattr(lookup, "MAX_CANDIDATES_IN_ALL", 1)
    # The strongest rule's.
    assert [match["rule"] for match in lookup.look_up(LookupRecord(**everybody).model_dump(), known)] == ["same_id"]


def test_text_that_postgres_can_not_hold_is_refused(functions: Call) -> None:
    answer = functions("look_up_entity", api_event("POST", "/api/v1/entities/lookup", {"email": "a\0b@example.com"}))
    assert answer["statusCode"] == 422
    assert json.loads(answer["body"])["detail"][0]["loc"] == ["body", "email"]


def test_source_that_is_not_configured_is_refused(functions: Call) -> None:
    body = {"source": "nobody", "customer_id": 1}
    answer = functions("look_up_entity", api_event("POST", "/api/v1/entities/lookup", body))
    assert answer["statusCode"] == 422
    assert json.loads(answer["body"])["detail"][0]["loc"] == ["body", "source"]
