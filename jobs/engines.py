"""The two engines behind one face: tables made by SQL that both understand, and Splink's door to each."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import pyarrow as pa
from dedup.lifeline import end_with_parent
from dedup.matching import normalise

from jobs import BadInput
from jobs.scratch import Scratch
from jobs.storage import SUBMITTED, find_pyspark, spark_here

T = TypeVar("T")
R = TypeVar("R")

BATCH = 25_000
"""Records that are normalised together."""

ALONE = 100_000
"""Records that one process normalises sooner than others are started."""

KEPT = {"id": pa.int64(), "source": pa.string(), "customer_id": pa.string()}
SCHEMA = pa.schema([*KEPT.items(), *((column, pa.string()) for column in normalise.COLUMNS)])
"""The columns of `records`: what identifies a record, and its comparable form."""


class Engine(Protocol):
    """What jobs.match asks of an engine. SQL is what DuckDB and Spark read alike; tables live until the engine ends."""

    name: str
    splink: Any
    jaro_winkler: str
    """What the engine calls that function."""

    def read(self, path: str) -> None:
        """Makes the table `raw` of a Parquet, CSV or JSON file or folder. Raises BadInput."""

    def normalise(self, conventions: normalise.Conventions) -> None:
        """Makes the table `records` (SCHEMA) of `raw`."""

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""

    def create(self, table: str, query: str) -> None:
        """Makes a table of a query's answer, computed once."""

    def fill(self, table: str, rows: pa.Table) -> None:
        """Makes a table of rows that are here."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A query's answer."""

    def arrow(self, query: str) -> pa.Table:
        """A query's answer as columns."""

    def save(self, query: str, path: Path | str) -> None:
        """Writes a query's answer as Parquet."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def in_processes(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`work` of each item, in their order, done by so many processes. Over a pipe to each: a pool needs locks between
    processes, which Lambda has no /dev/shm for. Raises EOFError where a process dies."""
    started = [_worker(work) for _ in range(workers)]
    try:
        busy: deque[Connection] = deque()
        for item, (pipe, _) in zip(items, cycle(started)):
            # One item each: a pipe that is full in both directions would wait for itself.
            if len(busy) == workers:
                yield busy.popleft().recv()
            pipe.send(item)
            busy.append(pipe)
        while busy:
            yield busy.popleft().recv()
    finally:
        for pipe, process in started:
            pipe.close()
            process.terminate()
            process.join()


def _worker(work: Callable[[T], R]) -> tuple[Connection, Process]:
    here, there = Pipe()
    process = Process(target=_serve, args=(work, there), daemon=True)
    process.start()
    there.close()
    return here, process


def _serve(work: Callable[[T], R], pipe: Connection) -> None:
    # The pipe alone would not tell: the processes beside it hold its other end as well.
    end_with_parent()
    while True:
        pipe.send(work(pipe.recv()))


def normalise_batch(conventions: normalise.Conventions, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The comparable form of some rows of `raw`."""
    fields = [name for name in normalise.FIELDS if name in batch.schema.names]
    values = [batch.column(name).to_pylist() for name in fields]
    rows = zip(*values, strict=True) if values else iter([()] * len(batch))
    made = [normalise.record(dict(zip(fields, row, strict=True)), conventions) for row in rows]
    columns = [batch.column(name).cast(kind) for name, kind in KEPT.items()]
    columns += [pa.array([row[name] for row in made], pa.string()) for name in normalise.COLUMNS]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _raw_columns(found: Sequence[str], id_of_row: str) -> str:
    """The select list that makes `raw` of whatever came: all text but the id, which is made up where there is none."""
    names = {name.lower(): name for name in found}
    if "customer_id" not in names and "id" not in names:
        raise BadInput(f"expected a column id or customer_id; came: {', '.join(found)}")
    identifier = f"CAST(`{names['id']}` AS bigint)" if "id" in names else id_of_row
    columns = [f"{identifier} AS id"]
    for name in ("source", "customer_id", *normalise.FIELDS):
        value = f"CAST(`{names[name]}` AS string)" if name in names else "CAST(NULL AS string)"
        columns.append(f"{value} AS {name}")
    return ", ".join(columns)


def _suffix_of(path: str) -> str:
    """What a file's name says of its format, compressed or not."""
    return Path(path.removesuffix(".gz")).suffix


class DuckDB:
    """DuckDB in this process, spilling to a file where memory is short."""

    name = "duckdb"
    jaro_winkler = "jaro_winkler_similarity"

    def __init__(self, *, memory: str = "4GB") -> None:
        import duckdb
        from splink import DuckDBAPI

        self._scratch = Scratch("match-")
        self.connection = duckdb.connect(str(Path(self._scratch.name) / "match.duckdb"))
        self.connection.execute(f"SET memory_limit = '{memory}'")
        self.connection.execute(f"SET temp_directory = '{self._scratch.name}/spilled'")
        # The order of rows means nothing here, and keeping it costs memory.
        self.connection.execute("SET preserve_insertion_order = false")
        self.splink = DuckDBAPI(self.connection)

    def read(self, path: str) -> None:
        suffix = _suffix_of(path)
        if Path(path).is_dir():
            suffix, path = ".parquet", f"{path}/**/*.parquet"
        readers = {
            ".csv": "read_csv(?, all_varchar = true)",
            ".json": "read_json(?, maximum_object_size = 67108864)",
            ".ndjson": "read_json(?)",
            ".jsonl": "read_json(?)",
            ".parquet": "read_parquet(?)",
        }
        if suffix not in readers:
            raise BadInput(f"{path}: expected {', '.join(readers)} or a folder of Parquet files")
        self.connection.execute(f"CREATE OR REPLACE TABLE came AS SELECT * FROM {readers[suffix]}", [path])
        if self.columns("came") == ["customers"]:
            self.connection.execute(
                "CREATE OR REPLACE TABLE came AS SELECT unnest(c) FROM (SELECT unnest(customers) AS c FROM came)"
            )
        self.take("came")

    def take(self, table: str) -> None:
        """Makes `raw` of a table or view that this connection has."""
        select = _raw_columns(self.columns(table), "row_number() OVER ()").replace("`", '"')
        self.connection.execute(f"CREATE OR REPLACE TABLE raw AS SELECT {select} FROM {table}")

    def normalise(self, conventions: normalise.Conventions) -> None:
        reader = self.connection.sql("SELECT * FROM raw").to_arrow_reader(BATCH)
        work = partial(normalise_batch, conventions)
        [(records,)] = self.connection.cursor().execute("SELECT count(*) FROM raw").fetchall()
        workers = os.cpu_count() or 1
        if workers == 1 or records < ALONE:
            batches = list(map(work, reader))
        else:
            batches = list(in_processes(work, reader, workers))
        self.fill("records", pa.Table.from_batches(batches, SCHEMA))

    def columns(self, table: str) -> list[str]:
        return [column for column, *_ in self.connection.execute(f"DESCRIBE {table}").fetchall()]

    def create(self, table: str, query: str) -> None:
        self.connection.execute(f"CREATE OR REPLACE TABLE {table} AS {query}")

    def fill(self, table: str, rows: pa.Table) -> None:
        self.connection.register("filling", rows)
        self.create(table, "SELECT * FROM filling")
        self.connection.unregister("filling")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()

    def arrow(self, query: str) -> pa.Table:
        return self.connection.sql(query).to_arrow_table()

    def save(self, query: str, path: Path | str) -> None:
        self.connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        self._scratch.cleanup()


class Spark:
    """Spark: as it was submitted, in this process's session, or `local[*]` where there is none."""

    name = "spark"
    jaro_winkler = "jaro_winkler"

    def __init__(self, *, memory: str = "4g", scratch: str | None = None) -> None:
        find_pyspark()
        from pyspark.sql import SparkSession
        from splink import SparkAPI
        from splink.backends.spark import similarity_jar_location

        self._own = SparkSession.getActiveSession() is None
        self._temporary = None if scratch else Scratch("match-")
        self._scratch = scratch or str(self._temporary and self._temporary.name)
        told: dict[str, Any] = {"spark.sql.adaptive.enabled": "true", "spark.sql.parquet.compression.codec": "zstd"}
        if self._own and not SUBMITTED:
            parts = 2 * (os.cpu_count() or 1)
            told |= spark_here(self._scratch, memory.removesuffix("B"), parts) | {  # 4GB is 4G to a JVM
                "spark.jars": similarity_jar_location(),
                "spark.default.parallelism": str(parts),
                "spark.driver.extraJavaOptions": f"-Dderby.system.home={self._scratch}",
            }
        self.session = SparkSession.builder.appName("match").config(map=told).getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")
        self.session.sparkContext.setCheckpointDir(f"{self._scratch}/checkpoints")
        self.splink: Any = SparkAPI(  # type: ignore[no-untyped-call]
            spark_session=self.session, break_lineage_method="parquet", num_partitions_on_repartition=8
        )
        self._tables = 0

    def read(self, path: str) -> None:
        suffix = _suffix_of(path)
        reader = self.session.read
        if suffix == ".csv":
            came = reader.csv(path, header=True)
        elif suffix in (".ndjson", ".jsonl", ".json"):
            came = reader.json(path, multiLine=suffix == ".json")
        else:
            came = reader.parquet(path)
        if came.columns == ["customers"]:
            came = came.selectExpr("inline(customers)")
        came.createOrReplaceTempView("came")
        select = _raw_columns(came.columns, "row_number() OVER (ORDER BY monotonically_increasing_id())")
        self.create("raw", f"SELECT {select} FROM came")

    def normalise(self, conventions: normalise.Conventions) -> None:
        def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return map(partial(normalise_batch, conventions), batches)

        columns = ", ".join(f"{field.name} {'bigint' if field.name == 'id' else 'string'}" for field in SCHEMA)
        partitions = self.session.sparkContext.defaultParallelism
        self._keep("records", self.session.table("raw").repartition(partitions).mapInArrow(work, columns))

    def columns(self, table: str) -> list[str]:
        return self.session.table(table).columns

    def create(self, table: str, query: str) -> None:
        self._keep(table, self.session.sql(query))

    def _keep(self, table: str, frame: Any) -> None:
        # Written and read again: a plan that grows with every step is computed again at every step.
        self._tables += 1
        path = f"{self._scratch}/{table}-{self._tables}"
        frame.write.mode("overwrite").parquet(path)
        self.session.read.parquet(path).createOrReplaceTempView(table)

    def fill(self, table: str, rows: pa.Table) -> None:
        # Row by row: Spark 3 takes no Arrow table. What is filled in is small.
        from pyspark.sql.pandas.types import from_arrow_schema

        lines = [tuple(row.values()) for row in rows.to_pylist()]
        self._keep(table, self.session.createDataFrame(lines, from_arrow_schema(rows.schema)))

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
        if self._own:
            self.session.stop()
        if self._temporary:
            self._temporary.cleanup()


ENGINES: dict[str, type[DuckDB] | type[Spark]] = {"duckdb": DuckDB, "spark": Spark}
