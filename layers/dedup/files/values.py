"""Converts values as spreadsheets and CRMs write them to values that Record can validate."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from dedup.customer_ids import LARGEST, SMALLEST, BadCustomerId, CustomerId, customer_id
from dedup.files.tables import quoted
from dedup.records import trimmed
from dedup.settings import settings


class Problem(NamedTuple):
    """An invalid field of a row, and why. `kind` is the reason without parts of the row; empty if it is `reason`.
    `missing` is true if the field has no value."""

    field: str
    reason: str
    kind: str = ""
    missing: bool = False


Problems = defaultdict[int, list[Problem]]
"""The problems of a row, by the row's index in its table."""


class _Refused(Exception):
    """The value cannot be converted. The message is the reason; `kind` and `missing` are those of Problem."""

    def __init__(self, reason: str, kind: str = "", *, missing: bool = False) -> None:
        super().__init__(reason)
        self.kind = kind
        self.missing = missing


_CONTROLS = re.compile(r"\s*[\x01-\x1f\x7f-\x9f][\s\x01-\x1f\x7f-\x9f]*")
_MOST_DIGITS = len(str(LARGEST))
_WRAPPED = re.compile(r"""="(.*)"|"(.*)"|'([0-9+=@-].*?)'?""")
_ID_GROUPED = re.compile(
    r"-?[1-9][0-9]{0,2}(?:([ \u00a0\u2009\u202f'’])[0-9]{3}(?:\1[0-9]{3})*|([.,])[0-9]{3}(?:\2[0-9]{3})+)"
)
_ID_DECIMAL = re.compile(r"(-?[0-9]+)[.,]0{1,2}")
_ID_AMBIGUOUS = re.compile(r"-?[0-9]{1,3}[.,][0-9]{3}|-?[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_ID_SCIENTIFIC = re.compile(r"-?[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+")
_NO_NUMBER = re.compile("[A-DF-Za-df-z]")
_NO_ID = frozenset({"-", "--", "#n/a", "n/a", "nan", "nil", "none", "null", "undefined"})
"""What programs write for a missing value, in lower case. As an id, it would join all rows without one."""

Number = TypeVar("Number", int, float)

INEXACT = 2**53
"""From this number on, a 64-bit floating-point number (IEEE 754) stands for several whole numbers: 9007199254740993.0
in a JSON document is read as 9007199254740992.0."""


def _customer_id(value: Any) -> Any:
    """Converts a customer_id as spreadsheets write it. None if there is none.

    Raises _Refused if the value is no id, or a number that may be another one."""
    if isinstance(value, float) and value.is_integer():
        value = _exact(int(value))
    if type(value) is int:
        return value if SMALLEST <= value <= LARGEST else _text_id(str(value))
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Refused("Expected a whole number or a text")
    value = _unwrapped(value)
    if not value or value.lower() in _NO_ID:
        return None
    # With any other letter than E, the text is not written as a number.
    if len(value) <= 64 and not _NO_NUMBER.search(value):
        if _ID_AMBIGUOUS.fullmatch(value):
            raise _Refused(
                "The separator may be a thousands separator or a decimal separator. Write the number without it"
            )
        if _ID_GROUPED.fullmatch(value):
            value = re.sub(r"[^0-9-]", "", value)
        elif decimal := _ID_DECIMAL.fullmatch(value):
            value = str(_exact(int(decimal[1])))
        elif _ID_SCIENTIFIC.fullmatch(value):
            raise _Refused(
                "Scientific notation has lost digits. Export the column as text or as a number without decimals"
            )
    return _text_id(value)


def _text_id(value: str) -> CustomerId:
    try:
        return customer_id(value if value.isprintable() else _CONTROLS.sub(" ", value))
    except BadCustomerId as error:
        raise _Refused(str(error)) from None


def _unwrapped(value: str) -> str:
    wrapped = _WRAPPED.fullmatch(value) if value.startswith(("=", '"', "'")) else None
    return "".join(filter(None, wrapped.groups())).strip() if wrapped else value


def meant_id(value: Any) -> CustomerId | None:
    """Returns the customer id in a value of a rejected row, or None. In contrast to _customer_id, `1,234` is read as
    1234: the row was rejected because this may be a decimal number, but then it is the id of no customer."""
    trimmed_value = value.strip() if isinstance(value, str) else value
    try:
        found: CustomerId | None = _customer_id(trimmed_value)
    except _Refused:
        text = _unwrapped(trimmed_value) if isinstance(trimmed_value, str) else ""
        return int(re.sub("[.,]", "", text)) if _ID_AMBIGUOUS.fullmatch(text) else None
    return found


def _exact(number: Number) -> Number:
    if abs(number) >= INEXACT:
        raise _Refused("A decimal number of this size has lost digits. Export the column as text")
    return number


_ESCAPED = re.compile(r"'[+\-=@0-9]|'[A-Z]{1,2}[0-9]")
"""An apostrophe that tells a spreadsheet to read the cell as text, before a number or a British postcode. Shopify
writes it; a name such as `'t Hooft` begins with one too."""


def as_texts(name: str, values: Sequence[Any], problems: Problems) -> list[Any]:
    """Returns the values of a text field, without an apostrophe of _ESCAPED. Numbers of JSON become text; those that
    may have lost digits are refused."""
    if {*map(type, values)} <= {str, type(None)}:
        return [value[1:] if value and value[0] == "'" and _ESCAPED.match(value) else value for value in values]

    def convert(value: Any) -> Any:
        if isinstance(value, float):
            value = _exact(value)
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    return _converted(name, convert, values, None, problems)


def customer_ids(values: Sequence[Any], problems: Problems) -> list[Any]:
    """Converts the customer ids of a column, as dedup.customer_ids defines them."""
    if {*map(type, values)} == {int} and min(values) >= SMALLEST and max(values) <= LARGEST:
        return list(values)
    numbers = _numbers(values)
    if numbers is not None:
        return numbers

    def convert(value: Any) -> Any:
        found = _customer_id(value)
        if found is None:
            raise _Refused("The customer_id is missing", missing=True)
        return found

    return _converted("customer_id", convert, values, 0, problems)


def _numbers(values: Sequence[Any]) -> list[int] | None:
    """Returns the ids of a column if each is written as a 64-bit integer without a sign, and does not begin with a
    zero. Otherwise None. The whole column is checked at once, in a tenth of the time of its values one by one."""
    try:
        text = "\n".join(values)
    except TypeError:
        return None
    digits = text.replace("\n", "")
    if not digits.isascii() or not digits.isdigit() or len(text) - len(digits) != len(values) - 1:
        return None
    if text.startswith("0") or "\n0" in text or not all(values) or max(map(len, values)) > _MOST_DIGITS:
        return None
    numbers = list(map(int, values))
    return numbers if max(numbers) <= LARGEST else None


def folded(values: Sequence[Any]) -> list[Any]:
    """Returns addresses that are used as ids in a form that does not depend on their case."""
    return [value.casefold() if isinstance(value, str) else value for value in values]


def generated_ids(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Makes an id from the content of each row: `row-` and 128 bits of the SHA-256 of its values, by the names of their
    fields. The same values give the same id in every upload of the source. Unknown values do not count."""
    names = sorted(columns)
    rows = zip(*(columns[name] for name in names), strict=True)
    contents = ([[name, value] for name, value in zip(names, row, strict=True) if value] for row in rows)
    return [f"row-{sha256(json.dumps(content).encode()).hexdigest()[:32]}" for content in contents]


def sources_of(values: Sequence[Any], given: str | None, problems: Problems) -> list[Any]:
    """Returns the source of each row, `given` for rows without one. A source other than `given` is refused, and so is a
    missing source if `given` is None."""

    def convert(value: Any) -> Any:
        name = value.lower() if isinstance(value, str) else value
        if name in (None, ""):
            if given is None:
                raise _Refused("The source is missing, and no source was given for the upload", missing=True)
            return given
        if given is not None and name != given:
            differs = f"differs from the upload's source {given!r}"
            raise _Refused(f"The source {quoted(str(value))} {differs}", f"The source {differs}")
        return name

    return _converted("source", convert, values, settings().sources[0], problems)


def _converted(
    name: str, convert: Callable[[Any], Any], values: Sequence[Any], stand_in: Any, problems: Problems
) -> list[Any]:
    """Converts each value. Values that `convert` refuses become `stand_in`, which Record accepts."""
    converted = []
    for position, value in enumerate(values):
        try:
            converted.append(convert(value))
        except _Refused as refused:
            problems[position].append(Problem(name, str(refused), refused.kind, refused.missing))
            converted.append(stand_in)
    return converted


def on_one_line(values: Sequence[Any]) -> list[Any]:
    """Returns the values with line breaks, tabs and other control characters except NUL replaced by single spaces, and
    None for blank texts. The values are stripped of white space."""
    try:
        if "".join(filter(None, values)).isprintable():
            return [value or None for value in values]
    except TypeError:
        pass
    return [(_CONTROLS.sub(" ", value).strip() or None) if isinstance(value, str) else value for value in values]


def full_names(columns: Mapping[str, Sequence[Any]], count: int) -> Sequence[Any]:
    """Returns the name of each row. Rows without a name get first and last name joined."""
    nothing = [None] * count
    first, last = columns.get("first_name", nothing), columns.get("last_name", nothing)
    names = columns.get("name", nothing)
    if not any(first) and not any(last):
        return names
    return [name or _joined(*parts) or name for name, *parts in zip(names, first, last, strict=True)]


def _joined(*parts: Any) -> Any:
    filled = [part for part in parts if part]
    try:
        return " ".join(filled)
    except TypeError:
        return filled


def all_trimmed(values: Sequence[Any]) -> list[Any]:
    """Returns the values stripped of white space."""
    try:
        return list(map(str.strip, values))  # the same as records.trimmed, but faster
    except TypeError:
        return list(map(trimmed, values))
