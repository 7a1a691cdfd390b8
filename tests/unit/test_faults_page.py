"""docs/explanation/consistency-and-faults.md names tests that exist."""

import re

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "explanation" / "consistency-and-faults.md"
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE.read_text())))
THERE = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_the_table_names_exists(name: str) -> None:
    assert name in THERE


def test_the_table_names_tests() -> None:
    assert len(NAMED) > 40
