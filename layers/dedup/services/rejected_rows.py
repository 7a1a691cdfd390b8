"""Objects with rejected rows, written anew without some of them."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator
from io import TextIOWrapper

from dedup.aws import bucket
from dedup.aws.bucket import ObjectVersion, ObjectWriter

MEDIA = "text/csv; charset=utf-8"
_ROWS = 10_000
"""Rows between two signs of life."""


def _nothing() -> None:
    """Nobody waits for a sign of life."""


def without(
    version: ObjectVersion, lines: Collection[int], is_alive: Callable[[], None] = _nothing
) -> ObjectVersion | None:
    """Writes the object anew without the rows of these lines; its new version, or None where no row is left, and then
    nothing is written. The version before stays. `is_alive` is called now and then, and may raise.

    Raises botocore's ClientError, of an object that is gone too."""
    cut, kept_any = {str(line) for line in lines}, False
    kept = ObjectWriter(version.bucket, version.key, MEDIA)
    try:
        opened = bucket.open_object(version)
        rows = _rows(TextIOWrapper(opened.body, encoding="utf-8", newline=""))
        _, header = next(rows)
        kept.write([header.encode()])
        for number, (row, raw) in enumerate(rows):
            if number % _ROWS == 0:
                is_alive()
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
    """The rows of a CSV file, each as its cells and as it is written, so that what stays is not written otherwise."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    for row in csv.reader(noted()):
        yield row, "".join(taken)
        taken.clear()
