import io
import json
import re
from typing import Any

import pytest
from dedup.api.models.matching import RunRequest
from dedup.api.parameters import client_key
from dedup.files.reading import read
from dedup.records import DETAILS, IDENTIFYING, KNOWN, Batch, Record
from dedup.validation import email_address
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import EmailStr, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from tests.conftest import record as fields_of

ANN = {"customer_id": 1, "name": "Ann Lee", "email": "ann@example.com", "source": "hubspot"}

email_str = TypeAdapter(EmailStr)


def record(customer_id: int, source: str, **changes: Any) -> Record:
    return Record(**fields_of(customer_id, source, **changes))


labels = st.text("ab09-", max_size=5) | st.sampled_from(["xn--bcher-kva", "ab--c", "a" * 63, "a" * 64, "example", "é"])
top_labels = st.sampled_from(["com", "COM", "test", "local", "localhost", "arpa", "c1", "x", "org", "ONION", "invalid"])
local_parts = st.text("aZ0.+-_'!#\"@ \t\x00é", max_size=10) | st.sampled_from(
    ["info", "Info", "POSTMASTER", "sales.Team", "a" * 64, "a" * 65, "Jo <jo", "webmaster"]
)
addresses = (
    st.builds(
        lambda local, parts, top, end: "@".join([local, ".".join([*parts, top])]) + end,
        local_parts,
        st.lists(labels, max_size=4),
        top_labels | labels,
        st.sampled_from(["", "", "", ".", " ", ">", "\n"]),
    )
    | st.text(max_size=20)
    | st.emails()
)


@given(addresses)
@example("Info@example.com")
@example("john.smith+tag@mail.example.co.uk")
@example("a@" + ".".join(["a" * 60] * 4) + ".com")
@example("someone@example.test")
@example("Ann <ann@example.com>")
def test_addresses_are_accepted_and_refused_as_emailstr_does(address: str) -> None:
    try:
        expected: Any = email_str.validate_python(address)
    except ValidationError as error:
        expected = error.errors()[0]["msg"]

    try:
        actual: Any = email_address(address)
    except PydanticCustomError as error:
        actual = error.message()

    assert actual == expected


@pytest.mark.parametrize("customer_id", [1.0, 1.5, 2.0**53, -(2.0**53), True, None, 2**63, -(2**63) - 1])
def test_id_is_not_coerced(customer_id: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Record.model_validate({**record(1, "hubspot").model_dump(), "customer_id": customer_id})

    assert [error["loc"] for error in refused.value.errors()] == [("customer_id",)]


@pytest.mark.parametrize("customer_id", [-(2**63), -1, 0, 2**63 - 1])
def test_id_has_64_bits(customer_id: int) -> None:
    assert record(customer_id, "hubspot").customer_id == customer_id


@pytest.mark.parametrize(
    "name",
    ["", " ", "\u00a0\t", "\u2003\n", "x" * 256, "a\x00b", "a\tb", "a\nb", "a\x7fb", "a\x85b", 1, "\ud800"],
)
def test_name_is_refused(name: object) -> None:
    with pytest.raises(ValidationError):
        Record.model_validate({**record(1, "hubspot").model_dump(), "name": name})


@pytest.mark.parametrize(
    "name", ["x" * 255, "Zoë Ⅷ 名", "<img src=x onerror=alert(1)>", "‮right to left", "O'Brien \\ Søn"]
)
def test_name_is_kept_as_it_came(name: str) -> None:
    assert record(1, "hubspot", name=name).name == name


@pytest.mark.parametrize("space", [" ", "\t", "\r\n", "\u00a0", "\u2003", "\x1c"])
def test_space_around_a_text_is_taken_off_as_files_do(space: str) -> None:
    around = {field: f"{space}{text}{space}" for field, text in (("name", "Ann  Lee"), ("phone", "7 7"))}
    line = json.dumps({"customer_id": 1, "email": "ann@example.com", **around})
    [batch] = read(io.BytesIO(line.encode()), "hubspot")

    made = record(1, "hubspot", **around)

    assert (made.name, made.phone) == ("Ann  Lee", "7 7")
    assert batch.rows == [(1, made.name, "ann@example.com", "hubspot", made.phone)]
    assert record(1, "hubspot", phone=space).phone is None


def test_schema_says_which_names_are_accepted() -> None:
    pattern = re.compile(Record.model_json_schema()["properties"]["name"]["anyOf"][0]["pattern"])
    for name in ("A", " Ann\t", "Ann Lee", "\nZoë O'Brien"):
        assert pattern.match(name)
        assert record(1, "hubspot", name=name).name == name.strip()
    for name in ("", " ", "\t\n", "a\tb", "\x00", "a\x7f"):
        assert not pattern.match(name)
        with pytest.raises(ValidationError):
            record(1, "hubspot", name=name)


def test_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="Input should be 'salesforce', 'hubspot' or 'internal'"):
        record(1, "Salesforce")


def test_digest_beside_a_key_tells_contents_and_operations_apart() -> None:
    one, several = record(1, "hubspot"), [Batch(customers=[record(1, "hubspot")] * n) for n in range(3)]

    assert client_key("k", one) == client_key("k", record(1, "hubspot"))
    assert len({client_key("k", request) for request in (one, *several)}) == 4
    assert client_key(None, one) == (None, "")


def test_what_is_known_beside_name_and_email_may_be_left_out_null_or_empty() -> None:
    for more in ({}, dict.fromkeys(KNOWN), dict.fromkeys(KNOWN, ""), dict.fromkeys(KNOWN, " ")):
        assert Record(**ANN, **more).model_dump(exclude_none=True) == ANN
    assert Record(**ANN, phone="+1 (202) 555-0101").phone == "+1 (202) 555-0101"


@pytest.mark.parametrize("field", ["name", "email"])
def test_unknown_name_or_email_is_null_and_not_left_out(field: str) -> None:
    assert getattr(Record(**{**ANN, field: None}), field) is None
    with pytest.raises(ValidationError) as refused:
        Record.model_validate({name: value for name, value in ANN.items() if name != field})
    assert [(error["loc"], error["type"], error["msg"]) for error in refused.value.errors()] == [
        ((field,), "missing", "Field required")
    ]


@pytest.mark.parametrize("field", DETAILS)
def test_record_needs_one_field_that_identifies(field: str) -> None:
    value = "ann@example.com" if field == "email" else "7"
    made = {**ANN, "name": None, "email": None, field: value}
    if field in IDENTIFYING:
        assert getattr(Record.model_validate(made), field) == value
    else:
        with pytest.raises(ValidationError, match="A record needs at least one of name, email, phone and company"):
            Record.model_validate(made)


@pytest.mark.parametrize("field", KNOWN)
@pytest.mark.parametrize("value", ["a\tb", "a\nb", "7" * 256, 7, ["7"]])
def test_what_is_known_is_text_on_one_line(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Record(**ANN, **{field: value})


def test_digest_beside_a_key_knows_what_is_known() -> None:
    plain, other = Record(**ANN), Record(**ANN, city="Bern")
    assert client_key("k", plain) == client_key("k", Record(**ANN, **dict.fromkeys(KNOWN)))
    assert len({client_key("k", one) for one in (plain, other, Record(**ANN, country="Bern"))}) == 3


def test_settings_of_a_run_are_the_same_in_any_order() -> None:
    asked: dict[str, Any] = {"constraints": {"max_entity": 9, "max_rule_block": 8}, "methods": ["rules"]}
    turned = {"methods": ["rules"], "constraints": {"max_rule_block": 8, "max_entity": 9}}
    assert client_key("k", RunRequest(settings=asked)) == client_key("k", RunRequest(settings=turned))


TEXTS = [None, "", " ", "Ann Lee", " a@b.co ", "a@b.co", "A@B.CO", "hubspot", "x\x00", "42", "2024-01-01T00:00:00Z"]
NO_TEXTS = [1, True, 2**70, ["a@b.co", "c@d.co"], ["a@b.co"], [], [" "], {"a": "b", "c": ""}, {}]

members = st.dictionaries(
    st.sampled_from([*Record.model_fields, "emial", "extra"]), st.sampled_from([*TEXTS, *NO_TEXTS])
)


def validated(items: list[Any]) -> tuple[list[Any], list[Any]]:
    """The records that are valid alone, and the errors of the others."""
    valid, wrong = [], []
    for number, item in enumerate(items):
        try:
            valid.append(Record.model_validate(item).fields())
        except ValidationError as error:
            wrong += [("customers", number, *found["loc"], found["msg"]) for found in error.errors()]
    return valid, wrong


def validated_together(items: list[Any]) -> tuple[list[Any], list[Any]]:
    """The records, and the errors, of all items as one batch."""
    try:
        found = Batch.model_validate({"customers": items}).customers
    except ValidationError as error:
        return [], [(*found["loc"], found["msg"]) for found in error.errors()]
    states = {"name", "email"}
    return [{k: v for k, v in one.items() if v is not None or k in states} for one in found], []


@given(st.lists(st.just(7) | members.map(lambda more: {**ANN, **more}), max_size=4))
def test_record_among_many_is_validated_as_one_alone(items: list[Any]) -> None:
    valid, wrong = validated(items)

    assert validated_together(items) == ([] if wrong else valid, wrong)
