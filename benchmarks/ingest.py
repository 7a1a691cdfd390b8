"""A file of records through the ingest function, beside psql's `\\copy` of the same rows into the same table with the
same indexes."""

import csv
import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks import ROOT, stacks
from benchmarks.data import SOURCES, Data
from benchmarks.handlers import measure_handler
from benchmarks.load import open_store
from benchmarks.measure import Figure, Key
from local.postgres import WHEEL, Postgres, Settings
from local.s3 import BUCKET, S3

OPERATION = "ingest of a CSV file, beside \\copy"
OBJECT = "incoming/benchmark.csv"


def ingest(data: Data, postgres: Postgres, folder: Path, repeats: int) -> Iterator[tuple[Key, Figure]]:
    """Loads the records as a CSV file `repeats` times each way, in turn, each time into a new database."""
    named, numbered = folder / "named.csv", folder / "numbered.csv"
    _write(data, named, {source: source for source in SOURCES}, {})
    # \\copy gets sources as the table has them: the same rows, and no look-up that it would pay for.
    _write(data, numbered, {source: str(number) for number, source in enumerate(SOURCES)}, {"upload_id": "1"})
    ours, theirs, peaks = [], [], []
    with S3(0, folder / "s3.log") as s3:
        s3.create()
        put(s3, named, OBJECT)
        for number in range(repeats):
            database = new_database(postgres, f"copy_{data.size}_{number}")
            theirs.append(_copy(database, numbered))
            database = new_database(postgres, f"ingest_{data.size}_{number}")
            environment = {**stacks.our_environment(database), **s3.environment(), "DB_STATEMENT_TIMEOUT": "870"}
            found = measure_handler("ingest", environment, [event(OBJECT)], at_least=1, warm_up=False)
            store = open_store(database)
            assert sum(store.questions.counts().values()) == data.customers, "not all was ingested"
            store.close()
            ours.append(found.times_ms[0])
            peaks.append(found.peak_mb)
    yield Key(OPERATION, data.style, "handler", "reference"), Figure.of(theirs, None, data.size)
    yield Key(OPERATION, data.style, "handler", "ours"), Figure.of(ours, max(peaks), data.size)


def _write(data: Data, path: Path, sources: Mapping[str, str], more: Mapping[str, str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id", "name", "email", "source", *more])
        values = more.values()
        writer.writerows((row.customer_id, row.name, row.email, sources[row.source], *values) for row in data)


def put(s3: S3, path: Path, key: str) -> None:
    """Puts a file into the bucket."""
    at = s3.environment()
    client = boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name=at["AWS_REGION"],
        aws_access_key_id=at["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=at["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )
    client.upload_file(str(path), BUCKET, key)


def event(key: str) -> dict[str, Any]:
    """The event of an object that was put into the bucket."""
    created: dict[str, Any] = json.loads((ROOT / "events" / "s3_put.json").read_text())
    created["Records"][0]["s3"]["bucket"]["name"] = BUCKET
    created["Records"][0]["s3"]["object"] = {"key": key, "sequencer": "0"}
    return created


def new_database(postgres: Postgres, name: str) -> Settings:
    """A database with our schema and without records."""
    database = postgres.create_database(name)
    store = open_store(database)
    store.schema.migrate()
    store.close()
    with closing(database.connect()) as connection:
        connection.run("CHECKPOINT")
    return database


def _copy(database: Settings, path: Path) -> float:
    """Milliseconds that psql takes, its start included."""
    spec = importlib.util.find_spec(WHEEL)
    assert spec
    assert spec.submodule_search_locations
    psql = Path(spec.submodule_search_locations[0], "pginstall18", "bin", "psql")
    command = f"\\copy record (customer_id, name, email, source, upload_id) FROM '{path}' WITH (FORMAT csv, HEADER)"
    start = time.perf_counter()
    subprocess.run([psql, "--quiet", "--no-psqlrc", database.url, "--command", command], check=True)
    return (time.perf_counter() - start) * 1000
