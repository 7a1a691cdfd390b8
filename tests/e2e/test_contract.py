"""schemathesis holds the API to its own document, over HTTP: with few cases, and with many by `make fuzz`."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT, budget

SECONDS = budget(15, 300)
HEAVY = ("create_job", "start_run")
"""Each accepted request starts a JVM, or a run of the matching: they are for `make fuzz`."""


def test_api_answers_as_its_document_says(api: str) -> None:
    base = api.removesuffix("/api/v1")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "tests/contract/schemathesis.toml"]
    limits = ["--max-examples", str(budget(5, 50)), "--max-time", str(SECONDS)]
    heavy = [part for name in HEAVY for part in ("--exclude-operation-id", name)]
    run = subprocess.run(
        [*command, "run", f"{base}/openapi.json", "--url", base, *limits, *heavy],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    if run.returncode:
        pytest.fail(run.stdout[-20_000:] + run.stderr[-2_000:])
