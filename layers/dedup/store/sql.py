"""SQL written safely: literals, arrays, times, and rows for COPY."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pg8000.native import literal

PAGE_BYTES = 2_000_000
"""UTF-8 bytes of one page of records or of text ids. Lambda's limit of 6 MB counts the body as a JSON string, in which
a quote is two bytes and an escaped character up to three times its UTF-8."""

BY_REGION = "sources, sources >> 32"
"""What to group by to get one row per region. PostgreSQL hashes a bigint as the XOR of its halves: sets with the same
bits in both halves share one hash, and with 50,000 of them the grouping runs out of memory and takes 40 s. The upper
half as a second column tells them apart."""


def text(value: str | None) -> str:
    """The string as a SQL literal; NULL for None."""
    return "NULL" if value is None else str(literal(value))


def jsonb(value: Any) -> str:
    """The value as a jsonb literal."""
    return f"{text(json.dumps(value))}::jsonb"


def bigints(values: Iterable[object]) -> str:
    """The numbers as a bigint array literal."""
    return f"'{{{','.join(map(str, values))}}}'::bigint[]"


def texts(values: Iterable[str]) -> str:
    """The texts as an array literal."""
    return f"ARRAY[{', '.join(map(text, values))}]::text[]"


def iso(column: str) -> str:
    """An expression for the time in a column, in UTC, as ISO 8601 and RFC 3339 write it."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


TIMES = ", ".join(f"{iso(name)} AS {name}" for name in ("created_at", "started_at", "finished_at"))
"""The columns that say when a task was created, started and finished."""


_NULL = "\0"
"""An unknown value, until a whole COPY is escaped. No text that PostgreSQL stores can contain this character."""


def copy_columns(columns: Iterable[Sequence[str | None]]) -> bytes:
    """Rows in COPY's text format, one per line, of which each column is given. Fields are text without tabs and line
    breaks (validation refuses control characters), or None if unknown.

    The whole text is escaped at once: to escape each field takes twice as long."""
    texts = ([_NULL if field is None else field for field in c] if None in c else c for c in columns)
    return (
        "\n".join([*map("\t".join, zip(*texts, strict=True)), ""]).replace("\\", "\\\\").replace(_NULL, "\\N").encode()
    )
