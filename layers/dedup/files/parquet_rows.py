"""Reads Parquet files with DuckDB, row group by row group."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dedup.files.cell_rows import Cell, number, tables_of_cells
from dedup.files.mapping import Mapper
from dedup.files.sheets import MAX_COLUMNS
from dedup.files.tables import Table, Unreadable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEMORY = "256MB"
"""Limit of what DuckDB allocates. Measured: the process takes 100 MB more."""

_WRAPPER = "_airbyte_data"
"""The struct in which Airbyte writes a record's fields, beside columns of its own."""

_ROWS = 1_000
"""Rows taken from DuckDB at a time."""

_TIMES = {
    "timestamp": "",
    "timestamp_s": "",
    "timestamp_ms": "",
    "timestamp_ns": "",
    "timestamp with time zone": "Z",
}
"""Types of points in time, and what is added to their ISO form."""


def read_parquet(path: str, size: int, mapper: Mapper) -> Iterator[Table]:
    """Yields the rows, numbered from 1. A field of a struct is a column with the name `struct.field`. Raises Unreadable
    if the file is damaged, or if a part of it does not fit into memory."""
    # Imported here, because only the ingest function and jobs have the package, and few files are Parquet.
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "threads": "1",
        "temp_directory": "",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
    }
    with duckdb.connect(":memory:", config=config) as connection:
        try:
            yield from _tables(connection, path, size, mapper)
        except duckdb.OutOfMemoryException:
            reason = "A part of the Parquet file does not fit into memory. Write it with smaller row groups"
            raise Unreadable(reason) from None
        # The message is not quoted, because it may contain values. The last two are raised for text that is not UTF-8.
        except (duckdb.Error, RuntimeError, UnicodeDecodeError) as error:
            kind = "encrypted, which is not supported" if "encrypt" in str(error).lower() else "damaged or cut off"
            raise Unreadable(f"The Parquet file is {kind}") from None


def _tables(connection: "DuckDBPyConnection", path: str, size: int, mapper: Mapper) -> Iterator[Table]:
    connection.execute("SET TimeZone = 'UTC'")
    # Older writers do not mark their text as text.
    source = "read_parquet($path, binary_as_string=true, hive_partitioning=false)"
    described = connection.execute(f"SELECT * FROM {source} LIMIT 0", {"path": path}).description or []
    columns = [found for name, kind, *_ in described for found in _columns((name,), _quoted(name), kind)]
    if len(columns) > MAX_COLUMNS:
        raise Unreadable(f"The Parquet file has more than {MAX_COLUMNS:,} columns")
    listing = ", ".join(expression for _, expression, _ in columns)
    result = connection.execute(f"SELECT {listing} FROM {source}", {"path": path})
    inexact = [at for at, (_, _, is_inexact) in enumerate(columns) if is_inexact]

    def rows() -> Iterator[tuple[int, list[Cell]]]:
        before = 0
        while found := result.fetchmany(_ROWS):
            for line, values in enumerate(found, before + 1):
                cells: list[Any] = ["" if value is None else value for value in values]
                for at in inexact:
                    cells[at] = number(cells[at])
                yield line, cells
            before += len(found)

    yield from tables_of_cells([name for name, _, _ in columns], rows(), size, mapper)


def _columns(names: tuple[str, ...], expression: str, kind: Any) -> Iterator[tuple[str, str, bool]]:
    """Yields the columns of a field: name, SQL expression of its text, and whether it is a floating-point number."""
    if kind.id == "struct":
        for name, child in kind.children:
            yield from _columns((*names, name), f"struct_extract({expression}, {_literal(name)})", child)
    else:
        name = ".".join(names[1:] if len(names) > 1 and names[0] == _WRAPPER else names)
        yield name, _text(expression, kind), kind.id in ("double", "float")


def _text(value: str, kind: Any) -> str:
    """The SQL expression of a value's text; NULL if it has none."""
    if kind.id in _TIMES:
        # Of points in time at midnight only the date, because many systems have no other type for dates.
        time = f"({value} AT TIME ZONE 'UTC')" if _TIMES[kind.id] else value
        moment = f"replace(CAST({time} AS VARCHAR), ' ', 'T') || '{_TIMES[kind.id]}'"
        return (
            f"CASE WHEN {time} = date_trunc('day', {time}) THEN CAST(CAST({time} AS DATE) AS VARCHAR) ELSE {moment} END"
        )
    if kind.id in ("double", "float"):
        return f"CASE WHEN isfinite({value}) THEN CAST({value} AS VARCHAR) END"
    if kind.id == "decimal":
        text = f"CAST({value} AS VARCHAR)"
        return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"
    if kind.id in ("list", "array"):
        item = dict(kind.children)["child"]
        if item.id not in ("struct", "list", "array", "map", "union"):
            return f"array_to_string(list_transform(CAST({value} AS {item}[]), lambda x: {_text('x', item)}), '; ')"
    if kind.id in ("list", "array", "map", "union", "variant"):
        return f"CAST(to_json({value}) AS VARCHAR)"
    return f"CAST({value} AS VARCHAR)"


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
