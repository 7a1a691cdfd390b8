"""python -m jobs.regions INPUT OUTPUT: counts the customers of each region from the files themselves, on Spark.

INPUT is a folder, a file or s3://BUCKET/PREFIX; OUTPUT a folder or s3://BUCKET/PREFIX, which is replaced. Files are
read by the layer, as when they are loaded into the store: one task reads one file as a stream, so that a single large
file has a single reader. All other work is distributed by customer. Writes Parquet and summary.json:

    regions     sources (in alphabetical order), customers, records; the largest region first
    customers   customer_id, sources, records; by region, then id. Ids are bigint if all of them are integers, otherwise
                strings
    rejects     file, line, field, reason, row
    files       file, source, mode, status (done, failed), accepted, rejected, reason
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dedup.aws import bucket, object_keys
from dedup.aws.bucket import ObjectVersion, OpenObject
from dedup.aws.object_keys import WrongFolder
from dedup.files.reading import read_whole
from dedup.files.tables import Unreadable
from dedup.settings import settings

from jobs import BadInput, storage
from jobs.scratch import Scratch
from jobs.spark_session import SUBMITTED, local_configuration
from jobs.storage import S3, bucket_and_key

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MAX_TASKS = 10_000
"""With more files than this, a task reads several."""

_STAGED = """file int,
    customer struct<customer_id: bigint, text_id: string, source: int, records: bigint>,
    reject struct<line: bigint, field: string, reason: string, row: string>,
    ending struct<source: string, mode: string, modified: bigint, accepted: bigint, rejected: bigint, reason: string>"""
"""The rows that reading yields; each has one of the three structs. A customer has one row for each batch and source."""


@dataclass(frozen=True)
class File:
    """One file to read. `key`: its key in the bucket, or the one that a local file would have; it determines the
    source. `source`: of a local file, in place of an object's metadata."""

    key: str
    at: ObjectVersion | Path
    source: str | None = None

    def open(self) -> OpenObject:
        """The file as a stream, with its size, time and metadata."""
        if isinstance(self.at, ObjectVersion):
            return bucket.open_object(self.at)
        known = self.at.stat()
        metadata = {"source": self.source} if self.source else {}
        return OpenObject(self.at.open("rb"), "", known.st_size, datetime.fromtimestamp(known.st_mtime, UTC), metadata)


@dataclass(frozen=True)
class Outcome:
    """The result of reading one file, with the fields of an upload. `modified`: in microseconds since 1970."""

    file: str
    source: str | None
    mode: str | None
    status: str
    accepted: int
    rejected: int
    reason: str | None
    modified: int = field(repr=False)


@dataclass(frozen=True)
class Summary:
    """The regions as (sources, customers, records), the largest first, and the files."""

    regions: list[tuple[list[str], int, int]]
    files: list[Outcome]

    def figures(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "regions": [
                {"sources": s, "count": customers, "records": records} for s, customers, records in self.regions
            ],
            "customers": sum(customers for _, customers, _ in self.regions),
            "records": sum(records for _, _, records in self.regions),
            "files": len(self.files),
            "failed": sum(one.status == "failed" for one in self.files),
            "rejected": sum(one.rejected for one in self.files),
        }


# Files


def listed(location: str, source: str | None = None) -> list[File]:
    """The files below a path or an s3:// prefix, by key; the current version of each object. Raises BadInput."""
    found = list(_objects(*bucket_and_key(location)) if location.startswith(S3) else _paths(Path(location), source))
    if not found:
        raise BadInput(f"There are no files in {location}")
    return sorted(found, key=lambda file: file.key)


def _objects(name: str, prefix: str) -> Iterator[File]:
    for page in bucket.client().get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix):
        for one in page.get("Versions", ()):
            if one["IsLatest"] and not one["Key"].endswith("/"):
                version = one["VersionId"] if one["VersionId"] != "null" else None
                yield File(one["Key"], ObjectVersion(name, one["Key"], version))


def _paths(location: Path, source: str | None) -> Iterator[File]:
    location = location.absolute()
    if not location.exists():
        raise BadInput(f"{location} does not exist")
    paths = [location] if location.is_file() else (path for path in location.rglob("*") if path.is_file())
    for path in paths:
        folders = path.parent.parts
        if object_keys.INCOMING.rstrip("/") in folders:
            from_end = folders[::-1].index(object_keys.INCOMING.rstrip("/"))
            below = path.parts[len(path.parts) - 1 - from_end :]
        else:
            below = path.relative_to(location if location.is_dir() else location.parent).parts
        yield File(object_keys.INCOMING + "/".join(below), path, source)


def read(number: int, file: File) -> Iterator[tuple[Any, ...]]:
    """The content of a file as rows of _STAGED. The records that a customer has in one batch are one row."""
    bits = {name: bit for bit, name in enumerate(sorted(settings().sources))}
    accepted = rejected = 0
    source = mode = reason = None
    opened = file.open()
    with opened.body:
        try:
            folder = object_keys.folder_of(file.key, opened.metadata)
            source, mode = folder.source, folder.mode
            options = object_keys.options_of(opened.metadata)
            for batch in read_whole(opened.body, folder.source, opened.size, options):
                source = batch.guessed_source or source
                accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
                for (customer_id, name), records in Counter((row[0], row[3]) for row in batch.rows).items():
                    integer, text = (None, customer_id) if isinstance(customer_id, str) else (customer_id, None)
                    yield number, (integer, text, bits[name], records), None, None
                for one in batch.rejected:
                    yield number, None, one.cells, None
        except (WrongFolder, Unreadable) as refusal:
            reason = str(refusal)
    modified = round(opened.modified.timestamp() * 1_000_000)
    yield number, None, None, (source, mode, modified, accepted, rejected, reason)


# Regions


def run(session: "SparkSession", found: Sequence[File], output: str) -> Summary:
    """Reads the files and writes the four tables below `output`."""
    from pyspark import StorageLevel
    from pyspark.sql import functions as f

    numbered = session.sparkContext.parallelize(list(enumerate(found)), min(len(found), MAX_TASKS))
    rows = numbered.flatMap(lambda pair: read(*pair))
    # On disk until every file has been read: only its end shows whether a file counts.
    staged = session.createDataFrame(rows, _STAGED, verifySchema=False).persist(StorageLevel.DISK_ONLY)
    outcomes = _outcomes(found, staged)
    names = sorted(settings().sources)
    _write_rejects_and_customers(session, staged, outcomes, names, output)
    staged.unpersist()
    regions = (
        session.read.parquet(f"{output}/customers")
        .groupBy("sources")
        .agg(f.expr("count(*) AS customers"), f.expr("sum(records) AS records"))
        .collect()
    )
    summary = Summary(
        sorted(((r[0], r[1], r[2]) for r in regions), key=lambda region: (-region[1], region[0])), outcomes
    )
    _write_regions_and_files(session, summary, output)
    return summary


def _write_rejects_and_customers(
    session: "SparkSession", staged: "DataFrame", outcomes: Sequence[Outcome], names: Sequence[str], output: str
) -> None:
    from pyspark.sql import functions as f

    counted = _counted_sources(outcomes, names)
    file_table = session.createDataFrame(
        [(number, one.file, bits) for number, (one, bits) in enumerate(zip(outcomes, counted, strict=True))],
        "file int, key string, counted bigint",
    )
    _write(
        staged.where("reject IS NOT NULL")
        .join(f.broadcast(file_table), "file")
        .orderBy("file", "reject.line")
        .select(f.col("key").alias("file"), "reject.*"),
        f"{output}/rejects",
    )
    listing = ", ".join(f"'{name}'" for name in names)
    counted_rows = (
        staged.where("customer IS NOT NULL")
        .join(f.broadcast(file_table), "file")
        .where("(shiftright(counted, customer.source) & 1) = 1")
    )
    has_texts = bool(counted_rows.where("customer.text_id IS NOT NULL").take(1))
    _write(
        counted_rows.groupBy("customer.customer_id", "customer.text_id")
        .agg(f.expr("bit_or(shiftleft(1L, customer.source)) AS region"), f.expr("sum(customer.records) AS records"))
        .selectExpr(
            "customer_id",
            "text_id",
            f"filter(array({listing}), (name, bit) -> (shiftright(region, bit) & 1) = 1) AS sources",
            "records",
        )
        # Integers have no text, and nulls come first.
        .sortWithinPartitions("sources", "text_id", "customer_id")
        .selectExpr(
            "coalesce(text_id, string(customer_id)) AS customer_id" if has_texts else "customer_id",
            "sources",
            "records",
        ),
        f"{output}/customers",
    )


def _write_regions_and_files(session: "SparkSession", summary: Summary, output: str) -> None:
    columns = "file string, source string, mode string, status string, accepted bigint, rejected bigint, reason string"
    small = {
        "regions": (summary.regions, "sources array<string>, customers bigint, records bigint"),
        "files": ([tuple(asdict(one).values())[:-1] for one in summary.files], columns),
    }
    for name, (rows, schema) in small.items():
        _write(session.createDataFrame(rows, schema).coalesce(1), f"{output}/{name}")


def _outcomes(found: Sequence[File], staged: "DataFrame") -> list[Outcome]:
    """The outcome of each file, in the order of `found`."""
    rows = staged.where("ending IS NOT NULL").select("file", "ending.*").collect()
    return [
        Outcome(
            found[row.file].key,
            row.source,
            row.mode,
            "failed" if row.reason else "done",
            0 if row.reason else row.accepted,
            row.rejected,
            row.reason,
            row.modified,
        )
        for row in sorted(rows)
    ]


def _counted_sources(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[int]:
    """For each file, the sources whose records in it count, as bits by their position in `names`: none if the file
    failed, and not the sources that have a later snapshot. Files of the same second are in the order of their keys."""
    by_age = sorted(range(len(outcomes)), key=lambda number: (outcomes[number].modified, outcomes[number].file))
    counted = [0] * len(outcomes)
    without_snapshot = (1 << len(names)) - 1
    for number in reversed(by_age):
        one = outcomes[number]
        if one.status == "done":
            counted[number] = without_snapshot
            if one.mode == "replace" and one.source:
                without_snapshot &= ~(1 << names.index(one.source))
    return counted


def _write(frame: "DataFrame", path: str) -> None:
    frame.write.mode("overwrite").parquet(path, compression="zstd")


# Spark


@contextmanager
def spark(scratch: str) -> Iterator["SparkSession"]:
    """The session of spark-submit, otherwise a new one on this machine's cores. `scratch`: folder for spilled data."""
    configuration: dict[str, Any] = {"spark.sql.session.timeZone": "UTC"}
    if not SUBMITTED:
        logging = Path(__file__).with_name("log4j2.properties")
        configuration |= local_configuration(scratch, "1g", os.cpu_count() or 1) | {
            "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging}",
        }
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("regions").config(map=configuration).getOrCreate()
    try:
        yield session
    finally:
        session.stop()


# The command


def count_regions(location: str, output: str, source: str | None = None) -> Summary:
    """Finds the files below `location`, and writes the tables and summary.json to `output`. Raises BadInput."""
    found = listed(location, source)
    with Scratch("regions-") as scratch, spark(scratch) as session:
        # Only a submitted Spark writes s3:// itself.
        is_uploaded = output.startswith(S3) and not SUBMITTED
        tables = f"{scratch}/tables" if is_uploaded else output
        summary = run(session, found, tables)
        if is_uploaded:
            storage.upload(Path(tables), output)
    storage.write(f"{output}/summary.json", json.dumps(summary.figures(), indent=1))
    return summary


def report(summary: Summary, output: str) -> Iterator[str]:
    """The summary as lines of text."""
    figures = summary.figures()
    width = max((len(", ".join(sources)) for sources, _, _ in summary.regions), default=0)
    width = max(width, len("sources"))
    yield f"{'sources':<{width}}  {'customers':>13}  {'records':>13}"
    for sources, customers, records in summary.regions:
        yield f"{', '.join(sources):<{width}}  {customers:>13,}  {records:>13,}"
    yield ""
    yield f"{figures['customers']:,} customers in {figures['records']:,} records of {figures['files']:,} files"
    if figures["rejected"]:
        yield f"{figures['rejected']:,} rows were rejected: see {output}/rejects"
    yield from (f"failed: {one.file}: {one.reason}" for one in summary.files if one.status == "failed")
    yield f"written to {output}: regions, customers, rejects and files as Parquet, summary.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 with one sentence on standard error if the input cannot be processed."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--source", choices=settings().sources, help="source of the rows in local files that name none")
    given = parser.parse_args(arguments)
    output = given.output.rstrip("/")
    if not output.startswith(S3):
        output = str(Path(output).absolute())
    try:
        summary = count_regions(given.input, output, given.source)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 1
    print(*report(summary, output), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
