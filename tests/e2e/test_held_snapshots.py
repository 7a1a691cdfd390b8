"""Previews and held snapshots over HTTP, and on the command line."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.test_cli import Dedup, Done, run
from tests.e2e.test_uploads import ended, get, rows, send


@pytest.fixture
def dedup(base_url: str, api: str) -> Dedup:
    """Runs the command against an API without a record."""
    return lambda *words, **variables: run(base_url, *words, **variables)


def overlap(api: str) -> Any:
    return get(f"{api}/deduplication/analyze", limit=1)


def test_truncated_export_removes_nothing_until_it_is_released(api: str) -> None:
    assert send(api, rows(range(10_000)), source="hubspot", mode="replace")["accepted"] == 10_000
    before = overlap(api)

    upload = send(api, rows(range(3_000)), source="hubspot", mode="replace")

    assert (upload["status"], upload["reason"]) == (
        "held", "The snapshot would remove 7,000 of 10,000 customers (70 %)",
    )  # fmt: skip
    assert overlap(api) == before
    assert len(get(f"{api}/uploads/{upload['id']}/examples")["removed"]) == 100
    requests.post(f"{api}/uploads/{upload['id']}/release", timeout=30).raise_for_status()
    assert ended(api, upload["id"])["customers"]["removed"] == 7_000
    assert overlap(api)["unique_customers"] == 3_000


def test_held_snapshot_is_discarded(api: str) -> None:
    send(api, rows(range(200)), source="hubspot")
    upload = send(api, rows(range(20)), source="hubspot", mode="replace")

    assert requests.delete(f"{api}/uploads/{upload['id']}", timeout=30).status_code == 200

    assert get(f"{api}/uploads/{upload['id']}")["status"] == "deleted"
    assert requests.post(f"{api}/uploads/{upload['id']}/release", timeout=30).status_code == 409
    assert overlap(api)["unique_customers"] == 200


# The command line


def write(folder: Path, ids: Iterable[int], name: str = "Customer") -> str:
    file = folder / "night.csv"
    file.write_bytes(rows(ids, name))
    return str(file)


def snapshot(dedup: Dedup, file: str, *more: str) -> Done:
    return dedup("upload", file, "--source", "hubspot", "--mode", "replace", *more)


def last_words(done: Done) -> list[str]:
    """The command that the last line names."""
    return done.stderr.strip().rpartition("dedup ")[2].split()


def test_dry_run_shows_figures_and_examples_and_how_to_apply_it(dedup: Dedup, api: str, tmp_path: Path) -> None:
    assert snapshot(dedup, write(tmp_path, range(100))).returncode == 0
    before = overlap(api)

    done = snapshot(dedup, write(tmp_path, range(5, 120), "Other"), "--dry-run")

    assert done.returncode == 0, done.stderr
    assert overlap(api) == before
    assert "not loaded: the figures say what it would do" in done.stdout
    for title in (
        "records to be added: 20, of which 10 are shown",
        "records to be changed: 95, of which 10 are shown",
        "records to be removed: 5 ",
    ):
        assert title in done.stdout
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert ["5", "name", "Customer", "Other"] in [row[2:] for row in cells]

    applied = dedup(*last_words(done), "--json")

    assert (applied.returncode, applied.stderr) == (0, "")
    assert json.loads(applied.stdout)["records"] == {"added": 20, "changed": 95, "removed": 5, "unchanged": 0}


def test_dry_run_as_json_has_the_examples(dedup: Dedup, tmp_path: Path) -> None:
    done = snapshot(dedup, write(tmp_path, range(3)), "--dry-run", "--json")

    upload = json.loads(done.stdout)
    assert (done.returncode, upload["status"]) == (0, "previewed")
    assert [one["customer_id"] for one in upload["examples"]["added"]] == [0, 1, 2]


def test_dry_run_of_an_upsert_is_applied(dedup: Dedup, api: str, tmp_path: Path) -> None:
    snapshot(dedup, write(tmp_path, range(3)))
    file = tmp_path / "delta.csv"
    file.write_text("id,name,archived\n0,Other,false\n1,,true\n7,New,false\n")

    done = dedup("upload", str(file), "--source", "hubspot", "--mode", "upsert", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert overlap(api)["unique_customers"] == 3
    for title in ("records to be added: 1 ", "records to be changed: 1 ", "records to be removed: 1 "):
        assert title in done.stdout
    applied = dedup(*last_words(done), "--json")
    assert json.loads(applied.stdout)["records"] == {"added": 1, "changed": 1, "removed": 1, "unchanged": 0}


def test_held_snapshot_has_an_exit_code_of_its_own_and_is_released(dedup: Dedup, api: str, tmp_path: Path) -> None:
    assert snapshot(dedup, write(tmp_path, range(200))).returncode == 0

    done = snapshot(dedup, write(tmp_path, range(100)))

    assert done.returncode == 5
    assert "Held, nothing is loaded yet. The snapshot would remove 100 of 200 customers (50 %)." in done.stderr
    assert "records to be removed: 100, of which 10 are shown" in done.stdout
    [upload] = json.loads(dedup("uploads", "--limit", "1", "--json").stdout)
    assert upload["status"] == "held"
    assert f"`dedup uploads release {upload['id']}`" in done.stderr
    assert overlap(api)["unique_customers"] == 200

    released = dedup("uploads", "release", str(upload["id"]), "--json")

    assert released.returncode == 0, released.stderr
    assert json.loads(released.stdout)["customers"]["removed"] == 100
    assert overlap(api)["unique_customers"] == 100


def test_held_snapshot_is_discarded_by_a_command(dedup: Dedup, api: str, tmp_path: Path) -> None:
    snapshot(dedup, write(tmp_path, range(200)))
    snapshot(dedup, write(tmp_path, range(100)))
    [held, done] = json.loads(dedup("uploads", "--limit", "2", "--json").stdout)

    refused = dedup("uploads", "discard", str(done["id"]))
    discarded = dedup("uploads", "discard", str(held["id"]))

    assert (refused.returncode, refused.stderr) == (
        3, "The upload does not wait for a decision: its status is done\n",
    )  # fmt: skip
    assert (discarded.returncode, discarded.stdout) == (0, f"Upload {held['id']} is discarded\n")
    assert dedup("uploads", "release", str(held["id"])).returncode == 3
    assert overlap(api)["unique_customers"] == 200


def test_preview_that_is_out_of_date_is_told(dedup: Dedup, api: str, tmp_path: Path) -> None:
    done = snapshot(dedup, write(tmp_path, range(100)), "--dry-run")
    send(api, rows([7]), source="hubspot")

    applied = dedup(*last_words(done))

    assert applied.returncode == 1
    assert "The preview is out of date" in applied.stderr
