"""The job on Spark and the API's own way into PostgreSQL say the same of the same files."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.files.cells import without_formula
from dedup.services import ingest
from dedup.store import Store
from dedup.store.uploads import Upload

from jobs import BadInput, regions, spark_session
from tests import exports
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BUCKET = "uploads"


def reason_without_spark() -> str:
    try:
        spark_session.require_java()
    except BadInput as error:
        return str(error)
    return ""


needs_spark = pytest.mark.skipif(bool(reason_without_spark()), reason=reason_without_spark())


def written(ids: Any, source: str, form: str = "plain", fmt: str = "csv", **how: Any) -> bytes:
    people = [exports.Person(number, "Zoë", "O'Brien", f"person.{number}@example.com", source) for number in ids]
    return exports.write(people, form, fmt, **how)


# By key, and so in the order in which they arrive: a later one can be a snapshot that takes the place of earlier ones.
FILES: dict[str, bytes] = {
    # Of no folder: each row says whose it is.
    "a-mixed.csv": (ROOT / "samples" / "customers.csv").read_bytes(),
    "hubspot/1-before.csv": written(range(1, 40), "hubspot"),
    "hubspot/2-unreadable.csv.gz": written(range(500, 4_500), "hubspot", compression="gzip")[:-500],
    "hubspot/3-none.csv": b"id,name,email\n1e9,A,a@example.com\n",
    "hubspot/snapshot/4.csv": written(range(20, 60), "hubspot", "hubspot", delimiter=";", encoding="utf-16-le"),
    "hubspot/z-after.ndjson.zst": written(range(55, 70), "hubspot", "hubspot", "ndjson", compression="zstd"),
    "internal/1.json": written([*range(10, 30), 2**63 - 1, -(2**63)], "internal", fmt="json"),
    "internal/2-rejects.csv": (
        b"customer_id;name;email;city\n1;One;one@example.com;Ulm\n1;One;one@example.com;Ulm\n"
        b'x;=cmd();nowhere;Bonn\n-;None;none@example.com\n1.23E+12;Three;three@example.com;\n"4;Open;four@example.com;\n'
        b"5;M\xfcller;five@example.com;K\xf6ln\n6;six@example.com\n;;seven@example.com;\n"
    ),
    "internal/snapshot/9-broken.json": b'[{"id": 1, "name": "A", "email": "a@example.com"}, {"id": 2',
    "nowhere/1.csv": written([1], "hubspot"),
    "salesforce/1.csv.gz": written(range(25, 45), "salesforce", "salesforce", encoding="cp1252", compression="gzip"),
    "salesforce/2-rejects.ndjson": (
        b'{"Id": 44, "Name": "Q", "Email": "q@example.com", "source": "HubSpot"}\n'
        b'{"Id": "0035g00000XyZ1aAAB"}\n{nothing\n{"Id": "x", "Name": "X"}\n'
        b'{"Id": 90, "FirstName": "R", "LastName": "S", "Email": "r@example.com"}\n[1]\n\xff\xfe{}\n'
    ),
    "salesforce/3.xlsx": b"PK\x03\x04 and so on",
    "salesforce/4-array.json": written(range(68, 72), "salesforce", fmt="array", encoding="utf-8-sig"),
}


@pytest.fixture(scope="module")
def session(aws_url: str) -> Iterator["SparkSession"]:
    # Its Python workers get theirs from the one in which the session starts.
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory() as scratch:
        for name, value in {
            "AWS_ENDPOINT_URL": aws_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            # What the job does not need, though a developer may have it: Spark's own ways to Arrow ask for it.
            "PYTHONPATH": _without("pandas", Path(scratch)),
        }.items():
            environment.setenv(name, value)
        with regions.spark(scratch) as session:
            yield session


def _without(package: str, folder: Path) -> str:
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / f"{package}.py").write_text("raise ImportError('hidden')")
    return str(hidden)


def tables(output: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: pq.read_table(output / name).to_pylist() for name in ("regions", "customers", "rejects", "files")}


def rejected_of(s3: Any, upload: Upload) -> list[tuple[str, int, str, str, str]]:
    if not upload.rejected_key:
        return []
    body = s3.get_object(Bucket=BUCKET, Key=upload.rejected_key)["Body"].read().decode("utf-8-sig")
    return [
        (str(upload.object_key), int(row["line"]), row["field"], row["reason"], row["row"])
        for row in csv.DictReader(io.StringIO(body, newline=""))
    ]


@needs_spark
def test_spark_job_counts_the_regions_that_the_api_counts(
    session: "SparkSession", s3: Any, store: Store, tmp_path: Path
) -> None:
    loaded_uploads = []
    for name, body in FILES.items():
        key = f"incoming/{name}"
        version = s3.put_object(Bucket=BUCKET, Key=key, Body=body)["VersionId"]
        loaded_uploads.append(ingest.ingest(ObjectVersion(BUCKET, key, version), store, lambda: 900.0))

    summary = regions.run(session, regions.listed(f"s3://{BUCKET}/incoming/"), str(tmp_path))

    made = tables(tmp_path)
    assert {frozenset(row["sources"]): row["customers"] for row in made["regions"]} == store.questions.counts()
    assert [(row["sources"], row["customers"], row["records"]) for row in made["regions"]] == summary.regions
    # Some ids are texts: then a column of Parquet has texts only.
    expected: dict[str, list[str]] = {}
    for one in json.loads(store.records.page(None, 10_000)[0]):
        expected.setdefault(str(one["customer_id"]), []).append(one["source"])
    assert expected["x"] == ["internal", "salesforce"]
    assert {row["customer_id"]: (row["sources"], row["records"]) for row in made["customers"]} == {
        customer_id: (sorted(set(sources)), len(sources)) for customer_id, sources in expected.items()
    }
    assert len(made["customers"]) == len(expected)
    assert [
        (row["file"], row["source"], row["mode"], row["status"], row["accepted"], row["rejected"], row["reason"])
        for row in made["files"]
    ] == [
        (
            upload.object_key,
            upload.source,
            upload.mode if "is not a source" not in str(upload.reason) else None,
            upload.status,
            upload.accepted if upload.status == "done" else 0,
            upload.rejected,
            upload.reason,
        )
        for upload in loaded_uploads
        if upload
    ]
    assert [
        (row["file"], row["line"], row["field"], row["reason"], without_formula(row["row"])) for row in made["rejects"]
    ] == sorted(row for upload in loaded_uploads if upload for row in rejected_of(s3, upload))
    # What the comparison is worth: every kind of outcome is among the files.
    assert len(summary.regions) == 7
    assert len(made["rejects"]) >= 9
    assert sum(one.status == "failed" for one in summary.files) == 5
    assert [row["customers"] for row in made["regions"]] == sorted(
        (row["customers"] for row in made["regions"]), reverse=True
    )


@needs_spark
def test_spark_job_reads_a_local_folder_like_the_bucket(
    session: "SparkSession", environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = tmp_path / "incoming"
    for age, (name, body) in enumerate(FILES.items()):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_700_000_000 + age, 1_700_000_000 + age))

    summary = regions.run(session, regions.listed(str(place)), str(tmp_path / "all"))

    assert [one.file for one in summary.files] == [f"incoming/{name}" for name in sorted(FILES)]
    assert len(summary.regions) == 7
    assert sum(customers for _, customers, _ in summary.regions) == len(tables(tmp_path / "all")["customers"])
    assert [*regions.report(summary, "out")][-6].startswith(
        "failed: incoming/hubspot/2-unreadable.csv.gz: The compression"
    )


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("incoming/hubspot/a.csv", "incoming/hubspot/a.csv"),
        ("incoming/hubspot", "incoming/hubspot/a.csv"),
        ("incoming", "incoming/hubspot/a.csv"),
        ("", "incoming/hubspot/a.csv"),
        ("elsewhere/hubspot", "incoming/b.csv"),
        ("elsewhere", "incoming/hubspot/b.csv"),
        ("elsewhere/hubspot/b.csv", "incoming/b.csv"),
    ],
)
def test_path_here_says_whose_a_file_is_as_a_key_does(tmp_path: Path, place: str, key: str) -> None:
    for name in ("incoming/hubspot/a.csv", "elsewhere/hubspot/b.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()

    assert key in {file.key for file in regions.listed(str(tmp_path / place), "internal")}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.regions", *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("said", "found"), [(None, "no Java"), ('openjdk version "11.0.2" 2019-01-15', "Java 11")])
def test_without_its_java_the_command_says_what_to_install(tmp_path: Path, said: str | None, found: str) -> None:
    if said:
        (tmp_path / "java").write_text(f"#!/bin/sh\necho '{said}' >&2\n")
        (tmp_path / "java").chmod(0o755)

    answer = command(
        "samples/customers.csv", str(tmp_path / "out"), PATH=f"{tmp_path}:/nowhere" if not said else f"{tmp_path}:/bin"
    )

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.count("\n") == 1
    assert f"Spark needs Java 17 or newer; found {found} in" in answer.stderr


@pytest.mark.parametrize(("module", "exit_code"), [("regions", 1), ("matching.command --engine spark", 2)])
def test_spark_job_without_pyspark_says_what_to_install(tmp_path: Path, module: str, exit_code: int) -> None:
    name, *options = module.split()
    without = f"import sys; sys.modules['pyspark'] = None; from jobs.{name} import main; sys.exit(main(sys.argv[1:]))"
    arguments = [str(ROOT / "samples" / "customers.csv"), str(tmp_path / "out"), *options]

    answer = subprocess.run(
        [sys.executable, "-c", without, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "layers")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (answer.returncode, answer.stdout) == (exit_code, "")
    assert answer.stderr.endswith(
        "PySpark is not installed: run `make dev` in the repository, then start the job again\n"
    )
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize(("place", "reason"), [("nowhere.csv", "does not exist"), ("", "There are no files in")])
def test_input_without_files_is_one_sentence(tmp_path: Path, place: str, reason: str) -> None:
    answer = command(str(tmp_path / place), str(tmp_path / "out"))

    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert reason in answer.stderr
