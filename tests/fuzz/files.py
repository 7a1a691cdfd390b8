"""Fuzzes the readers of files with atheris: `make fuzz-files SECONDS=60`.

libFuzzer stops at an exception, if an input takes longer than ten seconds, or at a gigabyte of memory. It saves the
input in the current folder, as crash-…, timeout-… or oom-….
"""

import io
import itertools
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dedup.files"]):
    from dedup.files import compression, json_rows

    from tests.anything import read_anything

from tests.exports import COMPRESSIONS, DELIMITERS, ENCODINGS, FORMATS, FORMS, people, write

SOURCES = (None, "hubspot")
CHUNKS = (compression.CHUNK, 16, 1000)


def read_it(data: bytes) -> None:
    """Reads the bytes as a file. The first byte selects the source of the upload, and the size of the chunks."""
    choice, data = data[:1] or b"\0", data[1:]
    source, compression.CHUNK = SOURCES[choice[0] % 2], CHUNKS[choice[0] // 2 % 3]
    count = read_anything(data, source)
    if len(data) < compression.CHUNK:
        assert count == (rows_of_ndjson(data) or count)


def rows_of_ndjson(data: bytes) -> int | None:
    """The number of rows of an NDJSON file; None for other files, and if the number is not certain."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if json_rows.is_json(text) or not json_rows.is_ndjson(text):
        return None
    return sum(bool(line.strip()) for line in io.StringIO(text, newline=""))


def seeds(folder: Path) -> None:
    """Writes one small file of each kind."""
    kinds = itertools.product(FORMS, FORMATS, ENCODINGS, COMPRESSIONS)
    for number, (form, fmt, encoding, compression) in enumerate(kinds):
        delimiter = DELIMITERS[number % len(DELIMITERS)]
        body = write(people(3, "hubspot", number), form, fmt, delimiter, encoding, compression)
        (folder / str(number)).write_bytes(bytes([number % 6]) + body)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, "-timeout=10", "-rss_limit_mb=1024", "-max_len=20000", corpus], read_it)
        atheris.Fuzz()
