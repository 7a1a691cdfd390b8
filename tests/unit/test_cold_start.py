"""What a cold start imports: each module takes a millisecond of the first request. Counted, because seconds vary."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

API = sorted(path.parent for path in (ROOT / "functions").glob("*/*/app.py") if "make_handler(" in path.read_text())

MOST_MODULES = 95
"""Most modules of ours in an API function. It takes up to twice as long to import as a handler that does nothing, which
benchmarks/empty is. Components of the store, presenters and models are imported only by functions that use them."""

FEW = {"analyze", "bulk_upload", "by_source", "compare", "create_customer", "regions", "select_customers"}
FEW_MODULES = 25
"""The same for the functions of most requests."""

READERS = {
    f"dedup.files.{name}"
    for name in ("reading", "formats", "compression", "csv_rows", "json_rows", "workbooks", "parquet_rows", "spool")
}

EMPTY = {"aws_lambda_powertools", "pydantic"}
DATABASE = {"pg8000", "scramp", "asn1crypto", "dateutil", "six"}
EXCEPTIONS = {"botocore", "jmespath"}
"""The packages that API functions may import: those of the empty handler, the database's client, and botocore's
exceptions. Clients of AWS take as long to import as everything else together."""

# One interpreter imports the empty handler, and a copy of it each function.
_IMPORTS = """
import json, os, sys
from local.environment import load

def imported(folder):
    before = set(sys.modules)
    load({"name": "cold", "folder": folder, "handler": "app.handler", "image": False})
    return sorted(set(sys.modules) - before)

found = {"empty": imported(sys.argv[1])}
for folder in sys.argv[2:]:
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, json.dumps(imported(folder)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        found[folder] = json.load(answer)
    os.wait()
print(json.dumps(found))
"""


@cache
def imports() -> dict[str, set[str]]:
    """The modules that each API function imports beside those of the empty handler, by folder."""
    folders = [str(ROOT / "benchmarks" / "empty"), *map(str, API)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'layers'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS, *folders], env=environment, capture_output=True, text=True, check=True
    )
    return {folder: set(names) for folder, names in json.loads(done.stdout).items()}


@pytest.mark.parametrize("folder", API, ids=lambda folder: folder.name)
def test_api_function_imports_little_more_than_an_empty_handler(folder: Path) -> None:
    names = imports()[str(folder)]

    ours = [name for name in names if name.startswith("dedup.")]
    assert len(ours) <= (FEW_MODULES if folder.name in FEW else MOST_MODULES)
    assert not READERS & names
    others = {name.split(".")[0] for name in names} - {"dedup", "function_cold", *sys.stdlib_module_names}
    assert others <= EMPTY | DATABASE | EXCEPTIONS
    assert "botocore.client" not in names
