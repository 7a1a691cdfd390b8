"""Dependencies point downwards only: docs/explanation/architecture.md."""

import ast
import re
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

LAYER = ROOT / "layers" / "dedup"
STORE = LAYER / "store"
HANDLERS = sorted((ROOT / "functions").glob("*/*/app.py"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


PURE = {"customer_ids", "errors", "file_options", "findings", "lifeline", "moments", "sets", "traces", "validation"}
LOW = PURE | {"records", "settings"}
MAY_USE = {
    **{name: set() for name in PURE},
    "traces": {"customer_ids"},
    "settings": set(),
    "records": {"customer_ids", "moments", "settings", "validation"},
    "matching": {"validation"},
    "files": {"customer_ids", "file_options", "findings", "moments", "records", "settings", "traces", "validation"},
    "store": {"matching", *LOW},
    "observability": {"errors", "settings"},
    "aws": {"errors", "file_options", "settings"},
    "services": {"aws", "files", "matching", "observability", "store", *LOW},
    "api": {"aws", "files", "matching", "observability", "services", "store", *LOW},
}
"""The packages and modules of the layer, and which of the others each may import."""


def part_of(path: Path) -> str:
    """The package or module of the layer that a file belongs to."""
    return path.relative_to(LAYER).parts[0].removesuffix(".py")


def ours(path: Path) -> set[str]:
    """The packages and modules of the layer that a file imports, its own left out."""
    found = {name.split(".")[1] for name in imported(path) if name.startswith("dedup.")}
    return {name for name in found if (LAYER / name).is_dir() or (LAYER / f"{name}.py").exists()} - {part_of(path)}


@pytest.mark.parametrize("part", sorted({part_of(path) for path in LAYER.rglob("*.py")} - {"__init__"}))
def test_part_of_the_layer_imports_only_what_it_may(part: str) -> None:
    files = [path for path in LAYER.rglob("*.py") if part_of(path) == part]
    assert set().union(*(ours(path) for path in files)) <= MAY_USE[part]


@pytest.mark.parametrize("path", sorted(LAYER.rglob("*.py")), ids=lambda path: str(path.relative_to(LAYER)))
def test_layer_does_not_know_the_functions_or_the_jobs(path: Path) -> None:
    assert not any(name.split(".")[0] in ("functions", "jobs", "cli", "local", "tests") for name in imported(path))


@pytest.mark.parametrize("path", sorted(LAYER.rglob("*.py")), ids=lambda path: str(path.relative_to(LAYER)))
def test_layer_does_not_know_the_repository_or_start_processes(path: Path) -> None:
    assert "subprocess" not in imported(path)
    assert "__file__" not in path.read_text()


WRITES_RECORDS = re.compile(r"((INSERT|MERGE) INTO|UPDATE( ONLY)?|DELETE FROM|COPY|TRUNCATE( \w+,)*)\s+record\b")
"""The SQL of a statement that changes the table of records."""


def test_what_writes_records_appends_to_the_change_log() -> None:
    functions = {node.name for node in nodes_of(STORE / "change_log.py") if isinstance(node, ast.FunctionDef)}
    appending = {name for name in functions if name.startswith(("append_", "logged"))}
    writing, silent = set[str](), set[str]()
    for path in STORE.rglob("*.py"):
        for function in nodes_of(path):
            if isinstance(function, ast.FunctionDef):
                nodes = list(ast.walk(function))
                texts = [node.value for node in nodes if isinstance(node, ast.Constant)]
                names = {getattr(node, "attr", getattr(node, "id", None)) for node in nodes}
                if any(WRITES_RECORDS.search(text) for text in texts if isinstance(text, str)):
                    (writing if names & appending else silent).add(f"{path.stem}.{function.name}")
    assert (len(writing) >= 6, silent) == (True, set())


def test_only_the_store_knows_pg8000() -> None:
    knowing = [path for path in LAYER.rglob("*.py") if any(name.startswith("pg8000") for name in imported(path))]
    assert {part_of(path) for path in knowing} == {"store"}


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.parent.name)
def test_handler_is_short_and_has_no_sql(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 60
    assert not any(word in source for word in ("SELECT ", "INSERT ", "UPDATE ", "pg8000", "boto3"))


@pytest.mark.parametrize(
    "worker",
    [
        "uploads/ingest",
        "exports/export",
        "matching/match",
        "matching/resolve",
        "deduplication/run_job",
    ],
)
def test_queue_workers_do_not_import_the_http_resolver(worker: str) -> None:
    path = ROOT / "functions" / worker / "app.py"
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); print('dedup.api.app' in sys.modules)"
    environment = {"PYTHONPATH": f"{LAYER.parent}:{ROOT}"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == ("False\n", "")


@pytest.mark.parametrize("folder", ["cli", "jobs"])
def test_clients_and_jobs_do_not_reach_into_functions(folder: str) -> None:
    assert not any(
        name.split(".")[0] == "functions" for path in (ROOT / folder).rglob("*.py") for name in imported(path)
    )


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_command_line_knows_nothing_of_ours_but_the_api(path: Path) -> None:
    assert not any(name.split(".")[0] in ("dedup", "local", "jobs", "tests") for name in imported(path))


PRODUCT = sorted(
    path for folder in ("layers/dedup", "functions", "jobs", "cli", "local") for path in (ROOT / folder).rglob("*.py")
)


def test_files_and_functions_are_short() -> None:
    long_files = [str(path.relative_to(ROOT)) for path in PRODUCT if len(path.read_text().splitlines()) > 500]
    long_functions = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in PRODUCT
        for node in nodes_of(path)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert (long_files, long_functions) == ([], [])


def module_name(path: Path) -> str:
    """What other modules import a file as."""
    base = ROOT / "layers" if path.is_relative_to(LAYER) else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def modules_used(path: Path, modules: Collection[str]) -> set[str]:
    """Which of some modules a file imports. `from package import module` is an import of the module."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & set(modules) or {node.module}
    return found & set(modules)


def test_no_module_imports_itself_through_others() -> None:
    modules = {module_name(path): path for path in PRODUCT}
    uses = {name: modules_used(path, modules) for name, path in modules.items()}
    assert list(TopologicalSorter(uses).static_order())
