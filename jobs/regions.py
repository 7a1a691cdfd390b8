"""python -m jobs.regions INPUT OUTPUT: who is in which sources, from the files themselves, on Spark.

INPUT is a folder, a file or s3://BUCKET/PREFIX; OUTPUT a folder or s3://BUCKET/PREFIX, which is written anew. What a
record is, whose it is, and what is refused, the layer says, as it does when a file is loaded: one task reads one file
as a stream. So there are as many readers as there are files, cores permitting, and a single large file has one.
Everything after that is spread by customer. Writes, as Parquet and as summary.json:

    regions     sources (in alphabetical order), customers, records: the largest region first
    customers   customer_id, sources, records: by region, then id
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

from dedup import files
from dedup.aws import bucket
from dedup.aws.bucket import Misplaced, ObjectVersion, OpenObject
from dedup.settings import settings

from jobs import BadInput, storage
from jobs.scratch import Scratch
from jobs.storage import S3, SUBMITTED, bucket_and_key, spark_here

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MAX_TASKS = 10_000
"""Above so many files a task reads several."""

_STAGED = """file int,
    customer struct<customer_id: bigint, source: int, records: bigint>,
    reject struct<line: bigint, field: string, reason: string, row: string>,
    ending struct<source: string, mode: string, modified: bigint, accepted: bigint, rejected: bigint, reason: string>"""
"""What reading gives: a line has one of the three. Of a customer there is one for each batch and source."""


@dataclass(frozen=True)
class File:
    """One file to read. `key`: where it would be in the bucket, which says whose it is. `source`: of a local file, as
    S3's metadata would say it."""

    key: str
    at: ObjectVersion | Path
    source: str | None = None

    def open(self) -> OpenObject:
        """The file as a stream, and what is known of it."""
        if isinstance(self.at, ObjectVersion):
            return bucket.open_object(self.at)
        known = self.at.stat()
        metadata = {"source": self.source} if self.source else {}
        return OpenObject(self.at.open("rb"), "", known.st_size, datetime.fromtimestamp(known.st_mtime, UTC), metadata)


@dataclass(frozen=True)
class Outcome:
    """What became of one file, as the accounts of uploads say it."""

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
    """What a run found: each region as (its sources, customers, records), the largest first; the files."""

    regions: list[tuple[list[str], int, int]]
    files: list[Outcome]

    def figures(self) -> dict[str, Any]:
        """What summary.json holds."""
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


def listed(place: str, source: str | None = None) -> list[File]:
    """The files at a path or below a prefix, of objects the versions that are current now. Raises BadInput."""
    found = list(_objects(*bucket_and_key(place)) if place.startswith(S3) else _paths(Path(place), source))
    if not found:
        raise BadInput(f"There are no files in {place}")
    return sorted(found, key=lambda file: file.key)


def _objects(name: str, prefix: str) -> Iterator[File]:
    for page in bucket.client().get_paginator("list_object_versions").paginate(Bucket=name, Prefix=prefix):
        for one in page.get("Versions", ()):
            if one["IsLatest"] and not one["Key"].endswith("/"):
                version = one["VersionId"] if one["VersionId"] != "null" else None
                yield File(one["Key"], ObjectVersion(name, one["Key"], version))


def _paths(place: Path, source: str | None) -> Iterator[File]:
    place = place.absolute()
    if not place.exists():
        raise BadInput(f"{place} is not there")
    paths = [place] if place.is_file() else (path for path in place.rglob("*") if path.is_file())
    for path in paths:
        folders = path.parent.parts
        if bucket.INCOMING.rstrip("/") in folders:
            from_end = folders[::-1].index(bucket.INCOMING.rstrip("/"))
            below = path.parts[len(path.parts) - 1 - from_end :]
        else:
            below = path.relative_to(place if place.is_dir() else place.parent).parts
        yield File(bucket.INCOMING + "/".join(below), path, source)


def read(number: int, file: File) -> Iterator[tuple[Any, ...]]:
    """One file as lines of _STAGED. A batch's records of one customer are one line."""
    names = {name: place for place, name in enumerate(sorted(settings().sources))}
    accepted = rejected = 0
    source = mode = reason = None
    opened = file.open()
    with opened.body:
        try:
            place = bucket.place_of(file.key, opened.metadata)
            source, mode = place.source, place.mode
            for batch in files.read_whole(opened.body, source, opened.size):
                accepted, rejected = accepted + len(batch.rows), rejected + len(batch.rejected)
                for (customer_id, name), records in Counter((row[0], row[3]) for row in batch.rows).items():
                    yield number, (customer_id, names[name], records), None, None
                for one in batch.rejected:
                    yield number, None, one.cells, None
        except (Misplaced, files.Unreadable) as refusal:
            reason = str(refusal)
    modified = round(opened.modified.timestamp() * 1_000_000)
    yield number, None, None, (source, mode, modified, accepted, rejected, reason)


# Sets


def run(session: "SparkSession", found: Sequence[File], output: str) -> Summary:
    """Reads the files, writes the four tables below `output`, and says what is in them."""
    from pyspark import StorageLevel
    from pyspark.sql import functions as f

    context = session.sparkContext
    numbered = context.parallelize(list(enumerate(found)), min(len(found), MAX_TASKS))
    lines = numbered.flatMap(lambda pair: read(*pair))
    # Whether a file counts is known at its end: what it gave waits on the disks meanwhile.
    staged = session.createDataFrame(lines, _STAGED, verifySchema=False).persist(StorageLevel.DISK_ONLY)
    outcomes = _outcomes(found, staged)
    names = sorted(settings().sources)
    about = session.createDataFrame(
        [
            (number, one.file, kept)
            for number, (one, kept) in enumerate(zip(outcomes, _kept(outcomes, names), strict=True))
        ],
        "file int, key string, kept bigint",
    )
    _write(
        staged.where("reject IS NOT NULL")
        .join(f.broadcast(about), "file")
        .orderBy("file", "reject.line")
        .select(f.col("key").alias("file"), "reject.*"),
        f"{output}/rejects",
    )
    listing = ", ".join(f"'{name}'" for name in names)
    _write(
        staged.where("customer IS NOT NULL")
        .join(f.broadcast(about), "file")
        .where("(shiftright(kept, customer.source) & 1) = 1")
        .groupBy("customer.customer_id")
        .agg(f.expr("bit_or(shiftleft(1L, customer.source)) AS region"), f.expr("sum(customer.records) AS records"))
        .selectExpr(
            "customer_id",
            f"filter(array({listing}), (name, place) -> (shiftright(region, place) & 1) = 1) AS sources",
            "records",
        )
        .sortWithinPartitions("sources", "customer_id"),
        f"{output}/customers",
    )
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
    columns = "file string, source string, mode string, status string, accepted bigint, rejected bigint, reason string"
    small = {
        "regions": (summary.regions, "sources array<string>, customers bigint, records bigint"),
        "files": ([tuple(asdict(one).values())[:-1] for one in outcomes], columns),
    }
    for name, (rows, schema) in small.items():
        _write(session.createDataFrame(rows, schema).coalesce(1), f"{output}/{name}")
    return summary


def _outcomes(found: Sequence[File], staged: "DataFrame") -> list[Outcome]:
    """What became of each file, in the order in which they were found."""
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


def _kept(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[int]:
    """Whose records count in each file, as bits by the source's place in `names`: none of a file that failed, and none
    of a source in what came before its last snapshot. Files of the same second count in the order of their keys."""
    by_age = sorted(range(len(outcomes)), key=lambda number: (outcomes[number].modified, outcomes[number].file))
    kept = [0] * len(outcomes)
    wanted = (1 << len(names)) - 1
    for number in reversed(by_age):
        one = outcomes[number]
        if one.status == "done":
            kept[number] = wanted
            if one.mode == "replace" and one.source:
                wanted &= ~(1 << names.index(one.source))
    return kept


def _write(frame: "DataFrame", path: str) -> None:
    frame.write.mode("overwrite").parquet(path, compression="zstd")


# Spark


@contextmanager
def spark(scratch: str) -> Iterator["SparkSession"]:
    """Spark as it was submitted, and else all cores of this machine, with what it spills in `scratch`."""
    told: dict[str, Any] = {"spark.sql.session.timeZone": "UTC"}
    if not SUBMITTED:
        told |= spark_here(scratch, "1g", os.cpu_count() or 1) | {
            "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
        }
    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("regions").config(map=told).getOrCreate()
    try:
        yield session
    finally:
        session.stop()


# The command


def work(place: str, output: str, source: str | None = None) -> Summary:
    """Does all of it: finds the files, writes the tables and summary.json. Raises BadInput."""
    found = listed(place, source)
    with Scratch("regions-") as scratch, spark(scratch) as session:
        # A Spark that was not submitted has no file system for S3: its tables are sent there afterwards.
        sent = output.startswith(S3) and not SUBMITTED
        tables = f"{scratch}/tables" if sent else output
        summary = run(session, found, tables)
        if sent:
            storage.send(Path(tables), output)
    storage.write(f"{output}/summary.json", json.dumps(summary.figures(), indent=1))
    return summary


def report(summary: Summary, output: str) -> Iterator[str]:
    """The summary as lines for a person."""
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
    """Runs the job; the exit code. What its caller can mend is one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--source", choices=settings().sources, help="of the rows of local files that name none")
    given = parser.parse_args(arguments)
    output = given.output.rstrip("/")
    if not output.startswith(S3):
        output = str(Path(output).absolute())
    try:
        summary = work(given.input, output, given.source)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 1
    print(*report(summary, output), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
