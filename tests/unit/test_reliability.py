"""docs/explanation/consistency-and-faults.md names tests that exist."""

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "explanation" / "consistency-and-faults.md"
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE.read_text())))
THERE = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef)
}


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_the_table_names_exists(name: str) -> None:
    assert name in THERE


def test_the_table_names_tests() -> None:
    assert len(NAMED) > 40
