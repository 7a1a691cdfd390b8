"""Spark: the session of spark-submit or of this process, otherwise a new one on this machine's cores."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from dedup.matching.normalise import Conventions

from jobs.matching.engine import RECORDS_SCHEMA, format_suffix, normalise_batch, raw_columns
from jobs.scratch import Scratch
from jobs.spark_session import SUBMITTED, local_configuration, require_pyspark


class Spark:
    """An Engine. `memory`: of the JVM, for a new session. `scratch`: folder or s3:// prefix for tables, a temporary
    folder if None."""

    name = "spark"
    jaro_winkler = "jaro_winkler"

    def __init__(self, *, memory: str = "4g", scratch: str | None = None) -> None:
        require_pyspark()
        from pyspark.sql import SparkSession
        from splink import SparkAPI
        from splink.backends.spark import similarity_jar_location

        self._owns_session = SparkSession.getActiveSession() is None
        self._temporary = None if scratch else Scratch("match-")
        self._scratch = scratch or str(self._temporary and self._temporary.name)
        configuration: dict[str, Any] = {
            "spark.sql.adaptive.enabled": "true",
            "spark.sql.parquet.compression.codec": "zstd",
        }
        if self._owns_session and not SUBMITTED:
            partitions = 2 * (os.cpu_count() or 1)
            # 4GB is 4G for a JVM.
            configuration |= local_configuration(self._scratch, memory.removesuffix("B"), partitions) | {
                "spark.jars": similarity_jar_location(),
                "spark.default.parallelism": str(partitions),
                "spark.driver.extraJavaOptions": f"-Dderby.system.home={self._scratch}",
            }
        self.session = SparkSession.builder.appName("match").config(map=configuration).getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")
        self.session.sparkContext.setCheckpointDir(f"{self._scratch}/checkpoints")
        self.splink: Any = SparkAPI(  # type: ignore[no-untyped-call]
            spark_session=self.session, break_lineage_method="parquet", num_partitions_on_repartition=8
        )
        self._tables = 0

    def read(self, path: str) -> None:
        suffix = format_suffix(path)
        reader = self.session.read
        if suffix == ".csv":
            rows = reader.csv(path, header=True)
        elif suffix in (".ndjson", ".jsonl", ".json"):
            rows = reader.json(path, multiLine=suffix == ".json")
        else:
            rows = reader.parquet(path)
        if rows.columns == ["customers"]:
            rows = rows.selectExpr("inline(customers)")
        rows.createOrReplaceTempView("incoming")
        select = raw_columns(rows.columns, "row_number() OVER (ORDER BY monotonically_increasing_id())")
        self.create("raw", f"SELECT {select} FROM incoming")

    def normalise(self, conventions: Conventions) -> None:
        def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return map(partial(normalise_batch, conventions), batches)

        columns = ", ".join(f"{field.name} {'bigint' if field.name == 'id' else 'string'}" for field in RECORDS_SCHEMA)
        partitions = self.session.sparkContext.defaultParallelism
        self._materialise("records", self.session.table("raw").repartition(partitions).mapInArrow(work, columns))

    def columns(self, table: str) -> list[str]:
        return self.session.table(table).columns

    def create(self, table: str, query: str) -> None:
        self._materialise(table, self.session.sql(query))

    def _materialise(self, table: str, frame: Any) -> None:
        # Written and read back: otherwise every later query would compute the frame again. The schema is given, because
        # Spark would start a job to find it in the files.
        self._tables += 1
        path = f"{self._scratch}/{table}-{self._tables}"
        frame.write.mode("overwrite").parquet(path)
        self.session.read.schema(frame.schema).parquet(path).createOrReplaceTempView(table)

    def fill(self, table: str, rows: pa.Table) -> None:
        # As tuples, because Spark 3 does not accept Arrow tables. These tables are small.
        from pyspark.sql.pandas.types import from_arrow_schema

        lines = [tuple(row.values()) for row in rows.to_pylist()]
        self._materialise(table, self.session.createDataFrame(lines, from_arrow_schema(rows.schema)))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.session.sql(query).collect()]

    def arrow(self, query: str) -> pa.Table:
        return self.session.sql(query).toArrow()

    def save(self, query: str, path: Path | str) -> None:
        self.session.sql(query).write.mode("overwrite").parquet(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owns_session:
            self.session.stop()
        if self._temporary:
            self._temporary.cleanup()
