"""From a match weight to a match probability, whatever the weight."""

import math

import pytest
from dedup.matching.scoring import probability


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(0, 0.5), (1, 2 / 3), (2, 0.8), (-1, 1 / 3), (-10, 1 / 1025), (10, 1024 / 1025), (-1000, 2.0**-1000)],
)
def test_probability_of_a_weight_is_that_of_its_odds(weight: float, expected: float) -> None:
    assert probability(weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("extreme", [1024, 1075, 2000, 10**18, 10**308, 1e308, math.inf])
def test_probability_of_an_extreme_weight_is_none_or_all(extreme: float) -> None:
    """As an int too: PostgreSQL writes 1e308 in JSON as one of 309 digits."""
    assert probability(-extreme) < 1e-307
    assert probability(extreme) == 1.0


def test_probability_rises_with_the_weight() -> None:
    weights = [n / 4 for n in range(-6000, 6001)]
    found = [probability(weight) for weight in weights]
    assert found == sorted(found)
