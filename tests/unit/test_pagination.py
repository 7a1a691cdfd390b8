import pytest
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent
from dedup.api.errors import BadCursor
from dedup.api.pagination import decode_cursor, encode_cursor, next_link
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import api_event

positions = st.dictionaries(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), max_size=5)


@given(positions)
def test_cursor_is_decoded_to_the_same_positions(given_positions: dict[str, int]) -> None:
    assert decode_cursor(encode_cursor(given_positions, "q"), "q") == given_positions


@given(st.text(max_size=60) | st.text("ABCabc019-_", max_size=60))
def test_cursor_not_made_here_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        decode_cursor(cursor, "q")


@given(st.integers(0, 200), st.characters(codec="ascii"))
def test_altered_cursor_is_refused(place: int, letter: str) -> None:
    cursor = encode_cursor({"ids": 123456}, "q")
    place %= len(cursor)
    altered = cursor[:place] + letter + cursor[place + 1 :]
    if altered != cursor:
        with pytest.raises(BadCursor):
            decode_cursor(altered, "q")


def test_cursor_of_another_question_is_refused() -> None:
    with pytest.raises(BadCursor):
        decode_cursor(encode_cursor({"ids": 1}, "analyze"), "compare")


def test_link_leads_to_the_same_request_with_the_cursor() -> None:
    event = api_event("GET", "/api/v1/customers", query={"limit": 2, "cursor": "old", "in": "a,b"})

    link = next_link(APIGatewayProxyEvent(event), "new")

    assert link == '<https://api.example.com/live/api/v1/customers?limit=2&in=a%2Cb&cursor=new>; rel="next"'
