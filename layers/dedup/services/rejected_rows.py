"""Removes rows from objects with rejected rows."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator
from io import TextIOWrapper

from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion
from dedup.aws.object_writer import ObjectWriter

MEDIA = "text/csv; charset=utf-8"
_ROWS = 10_000
"""Rows between two calls of `keep_lease`."""


def _no_lease() -> None:
    """Does nothing: the caller holds no lease."""


def without(
    version: ObjectVersion, lines: Collection[int], keep_lease: Callable[[], None] = _no_lease
) -> ObjectVersion | None:
    """Writes a new version of the object without the rows of `lines`, and returns it. If no row is left, nothing is
    written, and None is returned. The previous version is kept. `keep_lease` is called regularly, and may raise.

    Raises botocore's ClientError, also if the object no longer exists."""
    cut, kept_any = {str(line) for line in lines}, False
    kept = ObjectWriter(version.bucket, version.key, MEDIA)
    try:
        opened = bucket.open_object(version)
        rows = _rows(TextIOWrapper(opened.body, encoding="utf-8", newline=""))
        _, header = next(rows)
        kept.write([header.encode()])
        for number, (row, raw) in enumerate(rows):
            if number % _ROWS == 0:
                keep_lease()
            if row[0] not in cut:
                kept.write([raw.encode()])
                kept_any = True
    except BaseException:
        kept.abort()
        raise
    if kept_any:
        return kept.close()
    kept.abort()
    return None


def _rows(lines: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Yields each row of a CSV file as its cells and as its original text, so that rows are copied unchanged."""
    taken: list[str] = []

    def recorded() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    for row in csv.reader(recorded()):
        yield row, "".join(taken)
        taken.clear()
