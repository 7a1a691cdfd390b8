from typing import Any

import pytest
from dedup.matching.golden import Survivorship, golden
from dedup.matching.normalise import FIELDS
from hypothesis import given
from hypothesis import strategies as st

SOURCES = ("salesforce", "hubspot", "internal")


def record(record_id: int, source: str = "hubspot", **fields: Any) -> dict[str, Any]:
    return {"id": record_id, "source": source, **fields}


records = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(1, 1000), "source": st.sampled_from(SOURCES)},
        optional={
            **{name: st.sampled_from([None, "", "Ann", "ann", "Ann Lee", "x1"]) for name in FIELDS},
            "created_at": st.sampled_from(["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
            "updated_at": st.none() | st.just("2026-01-01T00:00:00Z"),
            "modified_at": st.none() | st.just("2023-01-01T00:00:00Z"),
        },
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda item: item["id"],
)
rules = st.builds(
    Survivorship,
    trusted=st.permutations(SOURCES).map(tuple),
    default=st.lists(
        st.sampled_from(["most_recent", "most_complete", "most_trusted", "most_common"]), max_size=4, unique=True
    ).map(tuple),
    fields=st.just({}),
)


@given(records, rules)
def test_every_value_is_that_of_the_record_it_is_said_to_come_from(
    entity: list[dict[str, Any]], survivorship: Survivorship
) -> None:
    by_id = {item["id"]: item for item in entity}

    for name, origin in golden(entity, survivorship).items():
        assert origin.value == by_id[origin.record_id][name]
        assert origin.source == by_id[origin.record_id]["source"]


@given(records, rules)
def test_a_field_survives_where_a_record_has_it_and_the_address_as_a_whole(
    entity: list[dict[str, Any]], survivorship: Survivorship
) -> None:
    found = golden(entity, survivorship)

    place = {"address", "city", "postcode", "country"}
    for name in set(FIELDS) - place:
        assert (name in found) == any(item.get(name) for item in entity)
    assert len({found[name].record_id for name in place & found.keys()}) <= 1


@given(st.data(), records, rules)
def test_order_of_the_records_does_not_matter(
    data: st.DataObject, entity: list[dict[str, Any]], survivorship: Survivorship
) -> None:
    assert golden(data.draw(st.permutations(entity)), survivorship) == golden(entity, survivorship)


@given(records, rules)
def test_golden_record_of_one_record_is_that_record(entity: list[dict[str, Any]], survivorship: Survivorship) -> None:
    only = entity[0]

    assert {name: origin.value for name, origin in golden([only], survivorship).items()} == {
        name: only[name] for name in FIELDS if only.get(name)
    }


def test_most_recent_is_what_its_source_changed_last_and_not_what_was_uploaded_last() -> None:
    re_exported = record(1, phone="1", modified_at="2020-01-01T00:00:00Z", created_at="2026-01-01T00:00:00Z")
    changed = record(2, phone="2", modified_at="2024-01-01T00:00:00Z", created_at="2025-01-01T00:00:00Z")
    unknown = record(3, phone="3", created_at="2023-01-01T00:00:00Z")

    chosen = golden([re_exported, changed, unknown])["phone"]

    assert (chosen.value, chosen.rule) == ("2", "most_recent")
    # Where it is unknown, the time of the upload counts.
    assert golden([re_exported, unknown])["phone"].value == "3"


def test_attributes_survive_by_rules_of_their_own_those_of_all_or_the_default() -> None:
    old = record(1, "salesforce", attributes={"Stage": "Lead", "Tier": "Gold"}, created_at="2024-01-01T00:00:00Z")
    new = record(2, "hubspot", attributes={"Stage": "Customer", "Score": "7"}, created_at="2025-01-01T00:00:00Z")

    def chosen(**fields: tuple[Any, ...]) -> dict[str, Any]:
        found = golden([old, new, record(3)], Survivorship(trusted=("salesforce",), fields=fields))
        return {name: (origin.value, origin.record_id, origin.rule) for name, origin in found.items()}

    only = {"attributes.Tier": ("Gold", 1, "only"), "attributes.Score": ("7", 2, "only")}
    assert chosen() == {"attributes.Stage": ("Lead", 1, "most_trusted"), **only}
    assert chosen(attributes=("most_recent",)) == {"attributes.Stage": ("Customer", 2, "most_recent"), **only}
    both = {"attributes": ("most_recent",), "attributes.Stage": ("most_trusted",)}
    assert chosen(**both)["attributes.Stage"] == ("Lead", 1, "most_trusted")


def test_golden_record_has_a_bounded_number_of_attributes_those_that_most_records_have() -> None:
    entity = [record(n, attributes={"common": "x", **{f"{n}-{i}": "y" for i in range(49)}}) for n in range(1, 10)]

    found = golden(entity)

    assert len(found) == 50
    assert "attributes.common" in found


@pytest.mark.parametrize(
    ("rule", "winner"), [("most_recent", 3), ("most_complete", 2), ("most_trusted", 1), ("most_common", 4)]
)
def test_survivorship_rule_chooses_the_value(rule: Any, winner: int) -> None:
    entity = [
        record(1, "internal", company="Acme", created_at="2020"),
        record(2, "hubspot", company="Acme Logistics", created_at="2021"),
        record(3, "hubspot", company="Ajax", created_at="2022"),
        record(4, "salesforce", company="Apex", created_at="2019"),
        record(5, "salesforce", company="apex.", created_at="2018"),
    ]
    survivorship = Survivorship(trusted=("internal",), default=(rule, "most_recent"), fields={})

    assert golden(entity, survivorship)["company"].record_id == winner


def test_latest_phone_survives_and_says_why() -> None:
    entity = [record(1, phone="1", created_at="2020"), record(2, phone="2", created_at="2024")]

    assert golden(entity)["phone"] == ("2", 2, "hubspot", "most_recent")


def test_bare_country_is_no_address_however_late_it_came() -> None:
    home = {"address": "12 Harbor Street", "city": "Portland", "postcode": "97201", "country": "US"}
    known = golden([
        record(1, updated_at="2026-01-01", **home),
        record(2, updated_at="2026-02-01", country="United States"),
        record(3, updated_at="2026-03-01", city="Boston", country="US"),
    ])  # fmt: skip
    assert {name: origin.value for name, origin in known.items()} == home


def test_entity_without_records_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        golden([])
