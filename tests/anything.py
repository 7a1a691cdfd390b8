"""The properties that hold for all bytes that are read as a file."""

import io
from typing import Any

from dedup.files.cells import rejected_csv
from dedup.files.reading import read
from dedup.files.tables import MAX_EXCERPT, Rejected, Unreadable
from dedup.records import NamedFields, Record
from dedup.validation import is_address


def read_anything(data: bytes, source: str | None) -> int:
    """Reads the bytes as a file from that source. Asserts that the file is refused with a reason, or that each row is
    accepted as a valid record or rejected with a reason. Returns the number of rows."""
    rows: list[dict[str, Any]] = []
    rejected: list[Rejected] = []
    reason = "none"
    try:
        for batch in read(io.BytesIO(data), source):
            rows += [dict(zip((*NamedFields.model_fields, *batch.known), row, strict=True)) for row in batch.rows]
            rejected += batch.rejected
    except Unreadable as refusal:
        reason = str(refusal)
    assert 0 < len(reason.encode()) < 5000
    for row in rows:
        if row["email"] and not is_address(row["email"]):
            # Stored as it was written: it only has to be text on one line.
            row |= {
                "email": None,
                "company": Record.model_validate(row | {"email": None, "name": row["email"][:255]}).name,
            }
        Record.model_validate(row)
    for bad in rejected:
        assert bad.reason
        assert bad.line >= 1
        assert len(bad.row) <= MAX_EXCERPT
    assert b"\0" not in b"".join(rejected_csv(rejected))
    return len(rows) + len(rejected)
