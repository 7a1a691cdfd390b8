"""Customer ids are integers or texts, and the two forms of a Salesforce id are one."""

import re
from string import ascii_letters, digits

import pytest
from dedup.customer_ids import LARGEST, LAST_TEXT, SMALLEST, BadCustomerId, CustomerId, customer_id, order
from hypothesis import example, given
from hypothesis import strategies as st


@given(st.integers(SMALLEST, LARGEST))
@example(SMALLEST)
@example(LARGEST)
@example(0)
def test_decimal_form_of_an_integer_is_the_integer(number: int) -> None:
    assert customer_id(str(number)) == number
    assert customer_id(f"  {number}\u00a0") == number


@pytest.mark.parametrize(
    "text",
    [
        "007",
        "+5",
        "-0",
        "00",
        "1.0",
        "1e3",
        "1_000",
        "٣",
        "１２",
        str(2**63),
        str(-(2**63) - 1),
        "9" * 255,
        "a",
        "A b",
        "é",
    ],
)
def test_other_texts_are_texts(text: str) -> None:
    assert customer_id(text) == text
    assert customer_id(f" {text} ") == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing"),
        (" \u00a0 ", "missing"),
        ("x" * 256, "more than 255 characters"),
        ("a\0b", "Control characters"),
        ("a\nb", "Control characters"),
        ("a\x85b", "Control characters"),
        ("\ud800", "Control characters"),
    ],
)
def test_text_that_is_no_id_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadCustomerId, match=reason):
        customer_id(text)


@given(st.text(min_size=1, max_size=300))
def test_id_stays_the_same_when_it_is_read_again(text: str) -> None:
    try:
        found = customer_id(text)
    except BadCustomerId:
        return
    assert customer_id(str(found)) == found


# Salesforce


@pytest.mark.parametrize(
    ("short", "long"),
    [
        # From Salesforce's documentation and developer forum.
        ("001D000000IRFma", "001D000000IRFmaIAH"),
        ("0035g00000ABCde", "0035g00000ABCdeAAH"),
        ("a0B5g0000012345", "a0B5g0000012345EAA"),
    ],
)
def test_both_forms_of_a_salesforce_id_are_the_long_one(short: str, long: str) -> None:
    assert customer_id(short) == long
    assert customer_id(long) == long


SALESFORCE_IDS = st.builds(
    "{}{}".format,
    st.sampled_from(["001", "003", "005", "00Q"]),
    st.text(ascii_letters + digits, min_size=12, max_size=12),
).filter(lambda text: re.search("[A-Za-z]", text[3:]))


@given(SALESFORCE_IDS)
def test_long_form_keeps_the_short_one_and_differs_where_case_does(short: str) -> None:
    long = customer_id(short)

    assert isinstance(long, str)
    assert (long[:15], len(long)) == (short, 18)
    assert re.fullmatch("[A-Z0-5]{3}", long[15:])
    assert customer_id(long) == long
    swapped = short[:14] + short[14].swapcase()
    if swapped != short:
        # Salesforce's reason for the three characters: ids that differ in case only differ without case, too.
        assert str(customer_id(swapped)).lower() != long.lower()


@given(SALESFORCE_IDS, st.data())
def test_wrong_check_characters_are_refused(short: str, data: st.DataObject) -> None:
    long = str(customer_id(short))
    check = data.draw(
        st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", min_size=3, max_size=3).filter(lambda c: c != long[15:])
    )

    with pytest.raises(BadCustomerId, match="do not belong to this Salesforce id"):
        customer_id(short + check)


@pytest.mark.parametrize(
    "text",
    [
        "001234567890123",
        "abcdefghijklmno",
        "cus_NffrFeUfNV2Hib",
        "ABCDEFGHIJ12345",
        "0012345678901234",
        "a1b2c3d4e5f6a7b",
    ],
)
def test_ids_of_other_systems_are_not_converted(text: str) -> None:
    assert customer_id(text) == text


# Order


def test_integers_come_first_then_texts_by_code_point() -> None:
    ids: list[CustomerId] = ["b", 10, "a", 9, "B", "é", "\U0001f600", "\uffff", -1, "007"]

    assert sorted(ids, key=order) == [-1, 9, 10, "007", "B", "a", "b", "é", "\uffff", "\U0001f600"]


@given(st.text(min_size=1, max_size=255))
def test_order_of_texts_is_that_of_their_bytes_and_none_is_after_the_last(text: str) -> None:
    try:
        found = customer_id(text)
    except BadCustomerId:
        return
    if isinstance(found, str):
        assert found <= LAST_TEXT
        assert (found < "m") == (found.encode() < b"m")
