"""What a file is on its way to records: tables of its rows, and the rows that are rejected."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_ROW = 1 << 20
"""Characters of one row; a longer one is rejected. A field of CSV ends at 131,072 (csv.field_size_limit), the longest
text that Salesforce keeps."""
TOO_LONG = f"the row is longer than {MAX_ROW:,} characters"

MAX_EXCERPT = 10_000
"""Characters of a rejected row that are kept."""


class Unreadable(Exception):
    """The file as a whole fails. Its text is the reason, for the user."""


class Rejected(NamedTuple):
    """A row that was refused. `line`: the physical line, from 1, on which it begins; in a JSON array its place, from 1;
    no other row of the file has it. `field`: what was refused, empty for the row as a whole. `row`: as it came,
    MAX_EXCERPT characters at most. `customer_id` and `addresses`: whom it is about, as dedup.traces has it."""

    line: int
    field: str
    reason: str
    row: str
    customer_id: int | None = None
    addresses: Collection[str] = ()

    @property
    def cells(self) -> tuple[int, str, str, str]:
        """What its sender is shown."""
        return self.line, self.field, self.reason, self.row


CELLS = ("line", "field", "reason", "row")
"""What the cells of a rejected row are called."""


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of the file. `lines`, `rows` (as they came) and each column have one element for each. So have
    `more_emails`, or none: the values of a row's columns for addresses beside the one that is mapped."""

    lines: Sequence[int]
    rows: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    rejected: Sequence[Rejected] = ()
    more_emails: Sequence[Sequence[Any]] = ()


UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL and UTF-8 can't hold: NUL, and the lone surrogates that stand for bytes of no encoding."""


def reject(
    line: int, field: str, reason: str, row: str, customer_id: int | None = None, addresses: Collection[str] = ()
) -> Rejected:
    """A rejected row, cut and cleaned so that it can be written anywhere."""
    excerpt = writable(row.rstrip("\r\n"), MAX_EXCERPT)
    return Rejected(line, field, writable(reason, 1_000), excerpt, customer_id, addresses)


def writable(text: str, limit: int) -> str:
    """At most `limit` characters of the text, and none that UTF-8 or PostgreSQL can't hold."""
    return UNWRITABLE.sub("\ufffd", text if len(text) <= limit else text[: limit - 1] + "…")


def quoted(text: str) -> str:
    """The beginning of a text of the file, as a reason may show it."""
    return repr(writable(text, 60))
