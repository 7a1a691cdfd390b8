"""The request header Prefer (RFC 7240), of which the API knows `wait`."""

import pytest
from dedup.api.freshness import MAX_WAIT, seconds_to_wait
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["wait=5"], 5),
        (["Wait=5"], 5),
        ([" wait = 5 ; strict"], 5),
        (['wait="5"'], 5),
        (["wait=005"], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (['note="a, wait=3", wait=5'], 5),
        (['note="a\\", wait=3", wait=5'], 5),
        (['note="a;wait=3"'], 0),
        (["handling=lenient; wait=3"], 0),
        (["wait=5, wait=7"], 5),
        (["wait=x, wait=7"], 0),
        (["wait=20"], 20),
        (["wait=21"], MAX_WAIT),
        (["wait=" + "9" * 10_000], MAX_WAIT),
        (["wait=0"], 0),
        (["wait"], 0),
        (["wait="], 0),
        (["wait=-1"], 0),
        (["wait=1.5"], 0),
        (["wait=5s"], 0),
        (['wait="5'], 0),
        (["wait=٥"], 0),
        (["waiting=5"], 0),
        ([""], 0),
        ([",,;=,"], 0),
        ([], 0),
    ],
)
def test_wait_is_read_as_rfc_7240_says(values: list[str], seconds: int) -> None:
    assert seconds_to_wait(values) == seconds


@given(st.lists(st.text() | st.text('wait="\\,;5 '), max_size=4))
def test_any_text_is_a_preference_or_ignored(values: list[str]) -> None:
    assert 0 <= seconds_to_wait(values) <= MAX_WAIT


def test_hostile_header_takes_linear_time() -> None:
    for hostile in ('"' * 200_000, 'a"\\' * 200_000, "," * 200_000, 'wait="' * 200_000):
        assert seconds_to_wait([hostile]) in (0, MAX_WAIT)
