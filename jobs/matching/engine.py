"""The interface of the engines, and what they share: reading input, and normalising records."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa
from dedup.matching import normalise

from jobs import BadInput

IDENTIFIERS = {"id": pa.int64(), "source": pa.string(), "customer_id": pa.string()}
RECORDS_SCHEMA = pa.schema([*IDENTIFIERS.items(), *((column, pa.string()) for column in normalise.COLUMNS)])
"""The columns of the table `records`: identifiers and normalised values."""


class Engine(Protocol):
    """A database with a Splink backend. Queries are SQL that both DuckDB and Spark accept; tables live until the engine
    is closed."""

    name: str
    splink: Any
    jaro_winkler: str
    """The engine's name of the function for Jaro-Winkler similarity."""

    def read(self, path: str) -> None:
        """Makes the table `raw` from a Parquet, CSV or JSON file, or a folder of Parquet files. Raises BadInput."""

    def normalise(self, conventions: normalise.Conventions) -> None:
        """Makes the table `records` (RECORDS_SCHEMA) from `raw`."""

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""

    def create(self, table: str, query: str) -> None:
        """Makes or replaces a table with the result of a query, which is computed once."""

    def fill(self, table: str, rows: pa.Table) -> None:
        """Makes or replaces a table with the given rows."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The result of a query."""

    def arrow(self, query: str) -> pa.Table:
        """The result of a query as an Arrow table."""

    def save(self, query: str, path: Path | str) -> None:
        """Writes the result of a query as Parquet."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def arrow_table(rows: Sequence[Sequence[Any]], schema: dict[str, pa.DataType]) -> pa.Table:
    """Rows as an Arrow table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(c, kind) for c, kind in zip(columns, schema.values(), strict=True)], names=[*schema])


def normalise_batch(conventions: normalise.Conventions, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of `raw` as rows of `records`."""
    fields = [name for name in normalise.FIELDS if name in batch.schema.names]
    values = [batch.column(name).to_pylist() for name in fields]
    rows = zip(*values, strict=True) if values else iter([()] * len(batch))
    normalised = [normalise.record(dict(zip(fields, row, strict=True)), conventions) for row in rows]
    columns = [batch.column(name).cast(kind) for name, kind in IDENTIFIERS.items()]
    columns += [pa.array([row[name] for row in normalised], pa.string()) for name in normalise.COLUMNS]
    return pa.RecordBatch.from_arrays(columns, schema=RECORDS_SCHEMA)


def parquet_table(engine: Engine, path: str) -> str:
    """SQL for the rows of a Parquet file, or of a folder of them, as Spark writes it."""
    if engine.name == "duckdb":
        return f"read_parquet('{path}/**/*.parquet')" if Path(path).is_dir() else f"read_parquet('{path}')"
    return f"parquet.`{path}`"


def raw_columns(found: Sequence[str], row_number: str) -> str:
    """The select list that makes `raw` from input with the columns `found`. Values are cast to text, missing columns
    are null, and `id` is `row_number`, an SQL expression, if the input has none. Raises BadInput."""
    names = {name.lower(): name for name in found}
    if "customer_id" not in names and "id" not in names:
        raise BadInput(f"expected a column id or customer_id; found {', '.join(found)}")
    identifier = f"CAST(`{names['id']}` AS bigint)" if "id" in names else row_number
    columns = [f"{identifier} AS id"]
    for name in ("source", "customer_id", *normalise.FIELDS):
        value = f"CAST(`{names[name]}` AS string)" if name in names else "CAST(NULL AS string)"
        columns.append(f"{value} AS {name}")
    return ", ".join(columns)


def format_suffix(path: str) -> str:
    """The suffix of a file's name that states its format, without that of its compression."""
    return Path(path.removesuffix(".gz")).suffix
