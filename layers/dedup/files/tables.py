"""Intermediate results of reading a file: tables of rows, and rejected rows."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dedup.customer_ids import CustomerId

MAX_ROW = 1 << 20
"""Most characters of a row. The limit of a CSV field is 131,072 (csv.field_size_limit), which is also the longest text
that Salesforce stores."""
TOO_LONG = f"The row is longer than {MAX_ROW:,} characters"

MAX_EXCERPT = 10_000
"""Most characters of a rejected row that are kept."""


class Unreadable(Exception):
    """The file, or one object of it, cannot be read. The message is the reason, for the user. `kind` is the reason
    without parts of the file; empty if it is the message."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Rejected(NamedTuple):
    """A rejected row.

    `line` is the line, from 1, on which the row starts; in a JSON array its index, from 1. It is unique in the file.
    `field` has the names of the invalid fields, separated by commas; empty if the row as a whole is not valid. `row` is
    the original text, truncated to MAX_EXCERPT characters. `customer_id` and `addresses` are its traces (dedup.traces)
    of a customer. `kind` is the reason without parts of the row, of a row that is not valid as a whole; empty if it is
    `reason`."""

    line: int
    field: str
    reason: str
    row: str
    customer_id: CustomerId | None = None
    addresses: Collection[str] = ()
    kind: str = ""

    @property
    def cells(self) -> tuple[int, str, str, str]:
        """The values of CELLS, which are shown to the sender."""
        return self.line, self.field, self.reason, self.row


CELLS = ("line", "field", "reason", "row")
"""Column names of a file with rejected rows."""


class Rules(NamedTuple):
    """What a column mapping says about values. `generates_ids`: ids are made from the content of rows. `folds_ids`: the
    ids are email addresses, whose case does not matter. `date_order`: of dates of birth; None: the values tell."""

    generates_ids: bool = False
    folds_ids: bool = False
    date_order: str | None = None


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of a file. `lines` (line numbers), `rows` (original texts) and each column have one element for each
    row. `more_emails` has the values of each row's unmapped address columns; empty if there are no such columns.
    `header` has the names of the columns in the file; in JSON, the keys of the objects so far. `attributes` has the
    values of each row that become attributes, by name; empty if there are none."""

    lines: Sequence[int]
    rows: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    rejected: Sequence[Rejected] = ()
    more_emails: Sequence[Sequence[Any]] = ()
    header: Sequence[str] = ()
    attributes: Sequence[Mapping[str, Any]] = ()
    rules: Rules = NO_RULES


UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL or UTF-8 cannot store: NUL, and the lone surrogates that stand for invalid bytes."""


def reject(
    line: int,
    field: str,
    reason: str,
    row: str,
    customer_id: CustomerId | None = None,
    addresses: Collection[str] = (),
    kind: str = "",
) -> Rejected:
    """Returns a rejected row with its texts truncated, and without characters that cannot be stored."""
    excerpt = writable(row.rstrip("\r\n"), MAX_EXCERPT)
    return Rejected(line, field, writable(reason, 1_000), excerpt, customer_id, addresses, kind)


def writable(text: str, limit: int) -> str:
    """Truncates the text to `limit` characters, and replaces characters that cannot be stored."""
    return UNWRITABLE.sub("\ufffd", text if len(text) <= limit else text[: limit - 1] + "…")


def quoted(text: str) -> str:
    """Truncates and quotes a text of the file for an error message."""
    return repr(writable(text, 60))
