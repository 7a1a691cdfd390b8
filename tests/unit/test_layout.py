"""The lines that DESIGN draws between the parts."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYER = ROOT / "layers" / "dedup"
HANDLERS = sorted((ROOT / "functions").glob("*/*/app.py"))


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imported(path) if name.startswith("dedup.")}


def test_set_logic_imports_nothing_of_ours() -> None:
    assert ours(LAYER / "sets.py") == set()


def test_records_know_only_the_settings_and_what_all_validation_has_in_common() -> None:
    assert ours(LAYER / "records.py") - {"Settings"} <= {"settings", "validation"}
    assert ours(LAYER / "validation.py") == set()


def test_only_the_store_and_its_connection_know_pg8000() -> None:
    knowing = [path for path in LAYER.rglob("*.py") if any(name.startswith("pg8000") for name in imported(path))]
    assert {path.relative_to(LAYER).parts[0] for path in knowing} == {"store"}


@pytest.mark.parametrize("path", sorted((LAYER / "store").glob("*.py")), ids=lambda path: path.stem)
def test_store_knows_neither_the_api_nor_the_bucket(path: Path) -> None:
    assert {name for name in ours(path) if name.islower()} <= {
        "clusters",
        "connection",
        "matching",
        "normalise",
        "records",
        "sets",
        "settings",
        "store",
        "traces",
    }


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.parent.name)
def test_handler_is_short_and_has_no_sql(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 65
    assert not any(word in source for word in ("SELECT ", "INSERT ", "UPDATE ", "pg8000", "boto3"))


@pytest.mark.parametrize("folder", ["cli", "jobs"])
def test_clients_and_jobs_do_not_reach_into_functions(folder: str) -> None:
    assert not any(
        name.split(".")[0] == "functions" for path in (ROOT / folder).rglob("*.py") for name in imported(path)
    )


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_command_line_knows_nothing_of_ours_but_the_api(path: Path) -> None:
    assert not any(name.split(".")[0] in ("dedup", "local", "jobs", "tests") for name in imported(path))
