"""Guesses which field each column of a file feeds: by its name if that is known, else by what its name resembles and
what its values look like."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from dedup.files.columns import SEVERAL, meaning, recognised
from dedup.files.dates import looks_like_date
from dedup.files.deletions import FALSE, TRUE
from dedup.moments import Ambiguous, Column
from dedup.settings import settings
from dedup.validation import is_address

_LEAST = 0.5
"""Guesses below this confidence are not proposed."""

_TIERS = (1.0, 0.95, 0.9)
"""Confidence of a known name: the field's own, one of several systems, one of a single system."""


class ColumnGuess(NamedTuple):
    """What is proposed for a column: a field, None to ignore it; how sure that is, from 0 to 1; and why."""

    name: str
    field: str | None
    confidence: float
    reason: str


class _Guess(NamedTuple):
    confidence: float
    position: int
    field: str
    reason: str


def propose(header: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[ColumnGuess]:
    """Returns a guess for each column, in order. `header` has the column names as written, `names` unique ones. Without
    rows, only known names count.

    customer_id and source are guessed once; other fields once, unless their names are known, except those in SEVERAL.
    """
    found, conflicts = recognised(header)
    doubtful = {conflict.field: conflict for conflict in conflicts}
    fields: dict[int, _Guess] = {}
    for field, positions in found.items():
        # Of two columns with the same name, only the first is proposed.
        for position in positions if field in SEVERAL or field not in doubtful else positions[:1]:
            known = meaning(header[position])
            system = f" from {known.system}" if known and known.system else ""
            sure = _TIERS[known.tier] if known else 0.0
            guess = _Guess(sure, position, field, f"The name is known{system}")
            if _contradict(field, [_cell(row, position) for row in rows]):
                guess = guess._replace(confidence=0.5, reason=f"{guess.reason}, but the values look different")
            if field in doubtful:
                guess = guess._replace(confidence=0.5, reason=f"Several columns may be the {field}")
            fields[position] = guess
    rejected: dict[int, str] = {}
    for position in found.get("source", ()):
        if not _has_sources([_cell(row, position) for row in rows]):
            del fields[position]
            rejected[position] = "The name is known, but the values are no sources"
    for position in range(len(header)):
        if position not in fields and (known := meaning(header[position])):
            rejected.setdefault(position, f"Another column feeds {known.field}")
    guesses = [guess for guess in _guesses(header, rows) if guess.position not in {*fields, *rejected}] if rows else []
    for one in sorted(guesses, key=lambda guess: (-guess.confidence, guess.position)):
        fed = {guess.field for guess in fields.values()}
        if one.position in fields or one.confidence < _LEAST:
            continue
        if (one.field in fed and one.field not in SEVERAL) or (one.field == "name" and fed >= _PARTS_OF_NAME):
            rejected.setdefault(one.position, f"Another column feeds {one.field}")
        else:
            fields[one.position] = one
    return [
        ColumnGuess(name, fields[position].field, round(fields[position].confidence, 2), fields[position].reason)
        if position in fields
        else ColumnGuess(name, None, *_ignored(position, rows, rejected))
        for position, name in enumerate(names)
    ]


_PARTS_OF_NAME = {"first_name", "last_name"}
"""Fields that make a column of whole names superfluous."""


def _ignored(position: int, rows: Sequence[Sequence[str]], rejected: Mapping[int, str]) -> tuple[float, str]:
    if position in rejected:
        return 0.5, rejected[position]
    if rows and not any(_cell(row, position) for row in rows):
        return 1.0, "The first rows have no value"
    return (0.5, "Neither the name nor the values tell a field") if rows else (1.0, "The name is not known")


def _cell(row: Sequence[str], position: int) -> str:
    return row[position].strip() if position < len(row) else ""


# Values

_PHONE = re.compile(r"\+?[\d(][\d ()./-]{5,}\d(?:\s*(?:x|ext\.?)\s*\d+)?", re.IGNORECASE)
_POSTCODE = re.compile(
    r"\d{4,5}|\d{5}-\d{4}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{3} \d{2}", re.I
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,49}")
_WORD = re.compile(r"[^\W\d_][^\W\d_'’.-]*", re.UNICODE)
_FLAGS = (TRUE | FALSE) - {""}


def _is_phone(value: str) -> bool:
    digits = sum(map(str.isdigit, value))
    return bool(_PHONE.fullmatch(value)) and 7 <= digits <= 15 and not looks_like_date(value)


def _is_name(value: str) -> bool:
    words = value.replace(",", " ").split()
    return 2 <= len(words) <= 5 and all(word[0].isalpha() and word[0] == word[0].upper() for word in words)


def _is_words(value: str) -> bool:
    return bool(value) and any(map(str.isalpha, value)) and not is_address(value) and not looks_like_date(value)


def _is_moment(value: str) -> bool:
    try:
        Column().read(value)
    except Ambiguous:
        return True
    except ValueError:
        return False
    return True


_LOOKS: Mapping[str, Callable[[str], bool]] = {
    "email": is_address,
    "phone": _is_phone,
    "date_of_birth": looks_like_date,
    "postcode": lambda value: bool(_POSTCODE.fullmatch(value)),
    "name": _is_words,
    "first_name": _is_words,
    "last_name": _is_words,
    "company": _is_words,
    "address": _is_words,
    "city": _is_words,
    "country": _is_words,
    "modified_at": _is_moment,
    "attributes": lambda value: value.startswith("{"),
}
"""Whether a value may be one of the field."""

_BY_VALUE = {"email": 0.85, "phone": 0.65, "customer_id": 0.6, "name": 0.55}
"""Confidence of a guess from values alone, for fields whose values are telling."""

_WITH_HINT = {"email": 0.95}
_HINTED = 0.85
_SHARE = 0.8
"""Share of the values that must look like the field's."""


def _guesses(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[_Guess]:
    guesses = []
    for position, name in enumerate(header):
        written = [_cell(row, position) for row in rows]
        values = [value for value in written if value]
        hinted = _hinted(name)
        if not values:
            continue
        for field in {*hinted, *_BY_VALUE}:
            share = _share(field, written, values)
            if share < _SHARE or (field not in hinted and not _is_telling(field, values)):
                continue
            by_hint = field in hinted
            sure = share * (_WITH_HINT.get(field, _HINTED) if by_hint else _BY_VALUE[field])
            # The more of the name a hint explains, the surer: `firm` before `name` for `firm name`.
            sure += 0.01 * hinted.get(field, 0)
            guesses.append(_Guess(min(sure, 0.97), position, field, _why(field, by_hint=by_hint)))
    return guesses


def _share(field: str, written: Sequence[str], values: Sequence[str]) -> float:
    """The share of values that may be the field's. Ids must be in each row, and differ in nearly all."""
    if field == "deleted":
        return sum(value.casefold() in _FLAGS for value in values) / len(values)
    if {value.casefold() for value in values} <= _FLAGS:
        return 0.0
    if field == "customer_id":
        complete = len(values) / len(written)
        different = len({*values}) / len(values)
        like = sum(bool(_ID.fullmatch(value)) and any(map(str.isdigit, value)) for value in values) / len(values)
        other = any(sum(map(_LOOKS[one], values)) > len(values) / 2 for one in ("email", "date_of_birth"))
        return 0.0 if other or complete < 0.95 or different < 0.9 else like
    return sum(map(_LOOKS[field], values)) / len(values)


def _contradict(field: str, written: Sequence[str]) -> bool:
    """Whether hardly any value looks like one of a field whose values are telling."""
    values = [value for value in written if value]
    return (
        field in ("email", "phone", "date_of_birth", "deleted")
        and bool(values)
        and _share(field, written, values) < 0.2
    )


def _has_sources(written: Sequence[str]) -> bool:
    """Whether the values may be sources of records: many systems have a column for the source of a lead."""
    values = {value.lower() for value in written if value}
    return not values or not values.isdisjoint(settings().sources)


def _is_telling(field: str, values: Sequence[str]) -> bool:
    """Whether the values tell the field without a hint. Names have several words, phone numbers more than digits."""
    if field == "name":
        return sum(map(_is_name, values)) >= _SHARE * len(values) and len({*values}) > len(values) / 2
    return field != "phone" or sum(not value.isdigit() or value[0] == "0" for value in values) >= len(values) / 2


_LABELS = {
    "email": "email addresses",
    "phone": "phone numbers",
    "customer_id": "unique ids",
    "name": "names",
    "date_of_birth": "dates",
    "postcode": "postcodes",
    "deleted": "yes and no",
}


def _why(field: str, *, by_hint: bool) -> str:
    look = f"The values look like {_LABELS[field]}" if field in _LABELS else ""
    if not by_hint:
        return look
    named = f"The name resembles {field}"
    return f"{named}, and the values look like {_LABELS[field]}" if look else named


# Names

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_OTHERS = frozenset({
    "owner", "created", "modified", "updated", "type", "status", "domain", "opt", "fax", "url", "web", "website",
    "score", "count", "consent", "permission", "label", "title", "tag", "group", "valid", "verified", "last4",
})  # fmt: skip
"""Words that say that a column is about something else: `phone type`, `email opt out`."""


@cache
def _hints() -> Mapping[str, Sequence[tuple[str, ...]]]:
    from importlib.resources import files as resources  # imported here, because most functions read no file

    content = json.loads((resources("dedup.files") / "hints.json").read_text("utf-8"))
    return {field: [tuple(phrase.split()) for phrase in phrases] for field, phrases in content.items()}


def _hinted(name: str) -> dict[str, int]:
    """Returns the fields that a column name resembles, each with the number of words that it explains."""
    words = {part.casefold() for part in _PARTS.findall(name)}
    if words & _OTHERS:
        return {}
    found = {
        field: max((len(phrase) for phrase in phrases if words.issuperset(phrase)), default=0)
        for field, phrases in _hints().items()
    }
    return {field: count for field, count in found.items() if count}


def looks_like_data(header: Sequence[str]) -> bool:
    """Whether the cells are values and not the names of columns: the file has no header."""
    return any(is_address(cell.strip()) or looks_like_date(cell.strip()) or _is_phone(cell.strip()) for cell in header)
