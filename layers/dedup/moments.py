"""Points in time as systems write them. All results are in UTC and in one form, which sorts as text:
`2024-01-16T10:22:33.000000Z`."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

Order = Literal["DMY", "MDY"]
"""Whether the day or the month comes first: `16/01/2024` or `01/16/2024`."""

DateOrder = Literal[Order, "YMD"]
"""The order of day, month and year in a column of dates."""

_EPOCH = re.compile(r"([0-9]{9,10})(?:\.([0-9]{1,9}))?|([0-9]{12,13})|([0-9]{15,16})")
"""Seconds since 1970, with a fraction or without, milliseconds and microseconds: from 1973 to 2286."""

_ZONE = r"(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})"
_TIME = (
    r"(?:,?\s+(?:at\s+)?(?P<hour>[0-9]{1,2})[:.](?P<minute>[0-9]{2})(?:[:.](?P<second>[0-9]{2})(?:[.,][0-9]+)?)?"
    rf"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?(?:\s*{_ZONE})?)?"
)
_NUMBERS = re.compile(
    rf"(?P<one>[0-9]{{1,2}})(?P<sep>[/.-])(?P<two>[0-9]{{1,2}})(?P=sep)(?P<year>[0-9]{{4}}|[0-9]{{2}}){_TIME}"
)
_WORDS = re.compile(
    r"(?:(?P<day>[0-9]{1,2})[\s-]+(?P<month>[A-Za-z]{3,9})\.?|(?P<month_first>[A-Za-z]{3,9})\.?\s+(?P<day_after>[0-9]{1,2}))"
    rf"[\s,-]+(?P<year>[0-9]{{4}}){_TIME}"
)
_ISO_VARIANT = re.compile(r"([0-9]{4})[-/]([0-9]{2})[-/]([0-9]{2}.*?)(?:\s*(Z|UTC|GMT)|\s+([+-][0-9]{2}:?[0-9]{2}))?")
_LONGEST = 64
"""Most characters of a point in time, so that no text takes long to refuse."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAMES = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


class Ambiguous(ValueError):
    """The day and the month cannot be told apart."""


def iso_moment(text: str) -> str:
    """Returns a point in time of ISO 8601. One without a zone is in UTC; a date is its midnight. Raises ValueError if
    the text is none."""
    return _in_utc(datetime.fromisoformat(f"{text[:-1]}Z" if text.endswith("z") else text))


class Column:
    """Reads the points in time of one column. The values of the column decide in which order day and month are, so
    that `03/04/2024` is read like `16/04/2024` beside it."""

    def __init__(self, stated: str | None = None) -> None:
        """`stated` is the order that the sender of the file states: DMY, MDY, or another one that says nothing."""
        self._stated: Order | None = "DMY" if stated == "DMY" else "MDY" if stated == "MDY" else None
        self._seen: set[Order] = set()
        self._has_halves = False

    def learn(self, values: Iterable[str]) -> None:
        """Looks at more values of the column before they are read."""
        for value in values:
            if found := _NUMBERS.fullmatch(value):
                self._has_halves |= found["half"] is not None
                if order := only_order(int(found["one"]), int(found["two"])):
                    self._seen.add(order)

    @property
    def order(self) -> Order | None:
        """The order of day and month; None if no value or several contradicting values decide. Times with AM or PM
        mean the order of the United States, unless a value has its day first. An order that is stated decides."""
        if self._stated:
            return self._stated
        if len(self._seen) == 1:
            return next(iter(self._seen))
        return "MDY" if self._has_halves and not self._seen else None

    def read(self, value: str) -> str:
        """Returns the point in time in UTC. Raises Ambiguous, and ValueError if the text is no point in time."""
        if len(value) > _LONGEST:
            raise ValueError("too long")
        if epoch := _EPOCH.fullmatch(value):
            seconds, fraction, milliseconds, microseconds = epoch.groups()
            whole = int(seconds or 0) * 1_000_000 + int((fraction or "").ljust(6, "0")[:6] or 0)
            total = whole + int(milliseconds or 0) * 1_000 + int(microseconds or 0)
            return _in_utc(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=total))
        try:
            return iso_moment(value)
        except ValueError:
            pass
        if found := _NUMBERS.fullmatch(value):
            # Dates with full stops are German. In 03/03, the order does not matter.
            is_certain = found["sep"] == "." or int(found["one"]) == int(found["two"])
            order = only_order(int(found["one"]), int(found["two"])) or ("DMY" if is_certain else self.order)
            if order is None:
                raise Ambiguous
            day, month = (found["one"], found["two"]) if order == "DMY" else (found["two"], found["one"])
            return _built(found, int(day), int(month))
        if found := _WORDS.fullmatch(value):
            return _built(
                found, int(found["day"] or found["day_after"]), _month(found["month"] or found["month_first"])
            )
        if found := _ISO_VARIANT.fullmatch(value):
            year, month, rest, utc, offset = found.groups()
            return iso_moment(f"{year}-{month}-{rest}{'Z' if utc else offset or ''}")
        raise ValueError("not a point in time")


def only_order(one: int, two: int) -> Order | None:
    """Returns the only order in which two numbers may be the day and the month of a date; None if both orders are
    possible, or none."""
    return "DMY" if two <= 12 < one else "MDY" if one <= 12 < two else None


def _month(name: str) -> int:
    lower = name.lower()
    if lower in _MONTHS or lower in _MONTH_NAMES or lower == "sept":
        return _MONTHS.index(lower[:3]) + 1
    raise ValueError("not a month")


def _built(found: re.Match[str], day: int, month: int) -> str:
    hour = int(found["hour"] or 0)
    if found["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("not an hour")
        hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
    year = int(found["year"]) + (2000 if len(found["year"]) == 2 else 0)
    zone = found["zone"] or "Z"
    zone = "+00:00" if zone in ("Z", "UTC", "GMT") else zone
    return iso_moment(
        f"{year:04}-{month:02}-{day:02}T{hour:02}:{found['minute'] or '00'}:{found['second'] or '00'}{zone}"
    )


def _in_utc(value: datetime) -> str:
    try:
        moment = (
            value.replace(tzinfo=None) if value.tzinfo in (None, UTC) else value.astimezone(UTC).replace(tzinfo=None)
        )
    except OverflowError:
        raise ValueError("out of range") from None
    return f"{moment.isoformat(timespec='microseconds')}Z"
