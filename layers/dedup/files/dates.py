"""Reads the dates of birth of a file in the order of their column.

The whole column decides between day-month-year and month-day-year, as far as a stream can: the first batch of rows; if
all of its dates fit both orders, also the second one (the last line of a short file is a batch of its own); then the
first later batch with a day above 12. Dates before a later batch that decides, and dates after the decision that do not
fit the order, are stored as written and reported. If the batch that decides has dates of both orders, none is
certain."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dedup.findings import Kind
from dedup.moments import only_order

AMBIGUOUS_DATES = Kind(
    "date_of_birth",
    "The order of day and month is not certain, as in 03/04/1950: the date is stored as written, but not used for "
    "matching. State date_order in the column mapping",
    False,
    "ambiguous_dates",
)

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_YEAR_FIRST = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})(?:[T ].*)?")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4})(?:[T ].*)?")


class _Date(NamedTuple):
    """A date with its year at the end."""

    first: int
    second: int
    year: str
    dotted: bool
    """Dates with full stops are written day first everywhere, unless the column says otherwise."""


class Dates:
    """The dates of a column, batch by batch."""

    def __init__(self, order: str | None = None) -> None:
        """`order` is the order that the column mapping states."""
        self.order = order
        self._stated = order is not None
        self._mixed = False

    def decided_by(self, values: Sequence[Any]) -> bool:
        """Looks at a batch before it is read. Returns False if its dates fit several orders."""
        dates = [date for value in values if isinstance(value, str) and (date := _year_last(value.strip()))]
        self._decide(dates)
        return self._mixed or self.order is not None or not dates

    def read(self, values: Sequence[Any]) -> tuple[list[Any], list[int]]:
        """Returns the values of a batch, those of a certain order as YYYY-MM-DD, and the positions of dates whose order
        is not certain. Texts that are no numeric dates are unchanged."""
        iso = _ISO.fullmatch
        if all(iso(value) for value in values if value):
            return list(values), []
        written = {at: date for at, value in enumerate(values) if value and (date := _year_last(value))}
        self._decide(written.values())
        dates = [value if value is None or at in written else _year_first(value) for at, value in enumerate(values)]
        uncertain = []
        for at, date in written.items():
            order = self.order or ("DMY" if date.dotted and not self._mixed else None)
            day, month = (date.first, date.second) if order == "DMY" else (date.second, date.first)
            if order in ("DMY", "MDY") and month <= 12 and day <= 31:
                dates[at] = f"{date.year}-{month:02}-{day:02}"
            else:
                uncertain.append(at)
        return dates, uncertain

    def _decide(self, dates: Iterable[_Date]) -> None:
        if self._stated or self._mixed or self.order:
            return
        found = {order for date in dates if (order := only_order(date.first, date.second))}
        self._mixed = len(found) == 2
        self.order = found.pop() if len(found) == 1 else None


def _year_last(value: str) -> _Date | None:
    found = _YEAR_LAST.fullmatch(value)
    if not found:
        return None
    date = _Date(int(found[1]), int(found[3]), found[4], found[2] == ".")
    return date if date.first and date.second else None


def _year_first(value: str) -> str:
    """YYYY-MM-DD for a date whose year comes first; other texts unchanged."""
    found = _YEAR_FIRST.fullmatch(value)
    if not found or (not found[2] and len(found[3] + found[4]) != 4):
        return value
    month, day = int(found[3]), int(found[4])
    return f"{found[1]}-{month:02}-{day:02}" if 0 < month <= 12 and 0 < day <= 31 else value


def looks_like_date(value: str) -> bool:
    """Whether the text is a numeric date."""
    found = _YEAR_FIRST.fullmatch(value)
    return bool(found[2]) if found else _YEAR_LAST.fullmatch(value) is not None
