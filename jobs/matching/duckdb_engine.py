"""DuckDB in this process. Tables are in a temporary file, so that they may be larger than memory."""

import os
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from dedup.matching.normalise import Conventions

from jobs import BadInput
from jobs.matching.engine import RECORDS_SCHEMA, format_suffix, normalise_batch, raw_columns
from jobs.matching.processes import in_processes
from jobs.scratch import Scratch

BATCH_RECORDS = 25_000
"""Records that are normalised together."""

PARALLEL_FROM = 100_000
"""Number of records from which several processes normalise faster than one, including their start."""


class DuckDB:
    """An Engine. `memory`: DuckDB's memory limit."""

    name = "duckdb"
    jaro_winkler = "jaro_winkler_similarity"

    def __init__(self, *, memory: str = "4GB") -> None:
        import duckdb
        from splink import DuckDBAPI

        self._scratch = Scratch("match-")
        self.connection = duckdb.connect(str(Path(self._scratch.name) / "match.duckdb"))
        self.connection.execute(f"SET memory_limit = '{memory}'")
        self.connection.execute(f"SET temp_directory = '{self._scratch.name}/spilled'")
        # No query depends on the order of rows, and preserving it takes memory.
        self.connection.execute("SET preserve_insertion_order = false")
        self.splink = DuckDBAPI(self.connection)

    def forget(self) -> None:
        """Makes Splink forget the tables that it made: tables of the same names have other content now."""
        from splink import DuckDBAPI

        self.splink = DuckDBAPI(self.connection)

    def read(self, path: str) -> None:
        suffix = format_suffix(path)
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
        self.connection.execute(f"CREATE OR REPLACE TABLE incoming AS SELECT * FROM {readers[suffix]}", [path])
        if self.columns("incoming") == ["customers"]:
            self.connection.execute(
                """CREATE OR REPLACE TABLE incoming AS
                   SELECT unnest(c) FROM (SELECT unnest(customers) AS c FROM incoming)"""
            )
        select = raw_columns(self.columns("incoming"), "row_number() OVER ()").replace("`", '"')
        self.create("raw", f"SELECT {select} FROM incoming")

    def normalise(self, conventions: Conventions) -> None:
        reader = self.connection.sql("SELECT * FROM raw").to_arrow_reader(BATCH_RECORDS)
        work = partial(normalise_batch, conventions)
        [(records,)] = self.connection.cursor().execute("SELECT count(*) FROM raw").fetchall()
        workers = os.cpu_count() or 1
        if workers == 1 or records < PARALLEL_FROM:
            batches = list(map(work, reader))
        else:
            batches = list(in_processes(work, reader, workers))
        self.fill("records", pa.Table.from_batches(batches, RECORDS_SCHEMA))

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
