"""Writes the records of the customers of a set question to an object in the bucket, in bounded memory.

The file has one line for each record: customer_id, sources (all sources of the customer), source, record_id, name,
email, the optional fields, created_at; ordered by customer, then by record. By entity, the first column is entity_id,
sources are all sources of the entity, and the order is by entity, then by record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Protocol, cast

from pydantic_core import from_json

from dedup.aws import bucket
from dedup.aws.object_writer import ObjectWriter
from dedup.errors import NoRun, Superseded
from dedup.files.cells import csv_header, csv_line
from dedup.records import OPTIONAL
from dedup.sets import SetQuery
from dedup.settings import settings
from dedup.store import Store
from dedup.store.exports import ExportAttempt

LEASE = 60.0
"""Seconds without a renewal after which another attempt may start over."""

RENEW_SECONDS = 5.0
STOP_SECONDS = 30.0
"""Remaining seconds of the function that are reserved for the last part and the final status."""

BLOCK_LINES = 5_000
ROW_GROUP_LINES = 100_000
"""Lines in a row group of a Parquet file, about 20 MB in memory."""

BLOCK_BYTES = 32_000_000
"""Bytes of lines after which a block is written before it has its number of lines: attributes make long lines."""

MAX_LINE = 8_000_000
"""More bytes than a line may have."""

COLUMNS = ("customer_id", "sources", "source", "record_id", "name", "email", *OPTIONAL, "created_at")
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}


class TooLarge(Exception):
    """The export is too large for the time limit of the function. The message is shown to the user."""


class _Format(Protocol):
    block: int

    def __init__(self, file: "_Object", columns: Sequence[str], as_texts: bool) -> None: ...

    def write(self, lines: Sequence[bytes]) -> None: ...

    def close(self) -> None: ...


def write(export_id: int, store: Store, remaining_seconds: Callable[[], float]) -> str | None:
    """Writes one export. Returns its status, or None if another attempt has already ended it.

    Raises errors.Busy while another attempt holds the lease, and any error that interrupts the export: then the message
    must be delivered again."""
    writing = store.exports.claim(export_id, LEASE)
    if writing is None:
        return None
    # A second connection reads the rows, so that the first can renew the lease in the meantime.
    rows = store.with_own_connection()
    output = _Output(writing, store, remaining_seconds)
    try:
        form = writing.format
        rows.exports.copy_rows(
            _query(writing.question), output.begin, output.by, one_type=form == "parquet", nested=form == "ndjson"
        )
        size, made = output.close()
        store.exports.finish(writing, output.lines, size, made.key, made.version_id)
    except Superseded:
        output.abort()
        return None
    except (TooLarge, NoRun) as refusal:
        output.abort()
        store.exports.fail(writing, str(refusal))
        return "failed"
    except BaseException as error:
        output.abort()
        store.exports.interrupt(writing, f"Interrupted ({type(error).__name__})")
        raise
    finally:
        rows.close()
    return "done"


def _query(question: Mapping[str, Any]) -> SetQuery:
    named = (frozenset(question.get(name) or ()) for name in ("in", "not_in", "region"))
    return SetQuery(*named)


def _nothing() -> None:
    """Does nothing: no object has been started."""


class _Output:
    """Writes the lines of one attempt to an object."""

    def __init__(self, writing: ExportAttempt, store: Store, remaining_seconds: Callable[[], float]) -> None:
        self.by = str(writing.question.get("by", "customer"))
        self._writing = writing
        self._store = store
        self._remaining_seconds = remaining_seconds
        self._abort: Callable[[], None] = _nothing
        self._object: _Object
        self._format: _Format

    def begin(self, as_texts: bool) -> "_Output":
        """Starts a new object, and discards one that was started before. `as_texts`: whether the column customer_id is
        of text in a format whose columns have a type."""
        self.abort()
        self.lines = 0
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._renewed = time.monotonic()
        self._object = _Object(f"exports/export-{self._writing.id}.{self._writing.format}", self._writing.format)
        self._abort = self._object.abort
        columns = ("entity_id", *COLUMNS) if self.by == "entity" else COLUMNS
        self._format = FORMATS[self._writing.format](self._object, columns, as_texts)
        return self

    def write(self, line: bytes) -> None:
        # COPY's text format doubles backslashes. JSON has no other characters that COPY escapes.
        self._block.append(line.replace(b"\\\\", b"\\"))
        self._block_bytes += len(line)
        if len(self._block) == self._format.block or self._block_bytes > BLOCK_BYTES:
            self._flush()

    def close(self) -> tuple[int, bucket.ObjectVersion]:
        """Completes the object. Returns its size in bytes, and its key and version."""
        self._flush()
        self._format.close()
        return self._object.size, self._object.finish()

    def abort(self) -> None:
        """Discards the object."""
        self._abort()

    def _flush(self) -> None:
        self._format.write(self._block)
        self.lines += len(self._block)
        self._block, self._block_bytes = [], 0
        if self._remaining_seconds() < STOP_SECONDS:
            raise TooLarge(
                f"The export is too large: the time limit was reached after {self.lines} rows. Select fewer customers"
            )
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._store.exports.renew(self._writing, self.lines)
            self._renewed = time.monotonic()


class _Object:
    """The object as a writable file, as PyArrow expects it."""

    closed = False

    def __init__(self, key: str, file_format: str) -> None:
        self._writer = ObjectWriter(settings().bucket, key, MEDIA[file_format])
        self.size = 0

    def write(self, data: bytes) -> int:
        self._writer.write([data])
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Does nothing: parts are sent when they are large enough."""

    def close(self) -> None:
        """Does nothing: PyArrow closes the file, but the object is completed by finish()."""

    def finish(self) -> bucket.ObjectVersion:
        return cast(bucket.ObjectVersion, self._writer.close(even_empty=True))

    def abort(self) -> None:
        self._writer.abort()


class _Ndjson:
    block = BLOCK_LINES

    def __init__(self, file: _Object, _: Sequence[str], __: bool) -> None:
        self._file = file

    def write(self, lines: Sequence[bytes]) -> None:
        self._file.write(b"".join(lines))

    def close(self) -> None:
        pass


class _Csv:
    block = BLOCK_LINES

    def __init__(self, file: _Object, columns: Sequence[str], _: bool) -> None:
        self._file = file
        file.write(csv_header(columns))

    def write(self, lines: Sequence[bytes]) -> None:
        # Parsing all lines at once takes a third of the time of parsing them one by one.
        rows = from_json(b"[%b]" % b",".join(lines))
        self._file.write(b"".join([csv_line(_cells(row)) for row in rows]))

    def close(self) -> None:
        pass


def _cells(row: dict[str, Any]) -> list[object]:
    row["sources"] = ",".join(row["sources"])
    for name in ("emails", "phones"):
        if row[name]:
            row[name] = "; ".join(row[name])
    return ["" if cell is None else cell for cell in row.values()]


class _Parquet:
    block = ROW_GROUP_LINES

    def __init__(self, file: _Object, columns: Sequence[str], as_texts: bool) -> None:
        # Imported here, because only the container image has PyArrow: it does not fit into the layer.
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        kinds = {
            "entity_id": pa.int64(),
            "customer_id": pa.string() if as_texts else pa.int64(),
            "sources": pa.list_(pa.string()),
            "record_id": pa.int64(),
            "emails": pa.list_(pa.string()),
            "phones": pa.list_(pa.string()),
            "modified_at": pa.timestamp("us", tz="UTC"),
            "created_at": pa.timestamp("us", tz="UTC"),
        }
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        self._writer = ParquetWriter(cast(IO[bytes], file), self._schema, compression="zstd")

    def write(self, lines: Sequence[bytes]) -> None:
        import pyarrow as pa
        from pyarrow import json as arrow_json

        if lines:
            parsing = arrow_json.ParseOptions(explicit_schema=self._schema)
            reading = arrow_json.ReadOptions(block_size=MAX_LINE)
            block = arrow_json.read_json(pa.BufferReader(b"".join(lines)), reading, parsing)
            self._writer.write_table(block.select(self._schema.names))

    def close(self) -> None:
        self._writer.close()


FORMATS: Mapping[str, Callable[[_Object, Sequence[str], bool], _Format]] = {
    "csv": _Csv,
    "ndjson": _Ndjson,
    "parquet": _Parquet,
}
