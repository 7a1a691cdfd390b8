"""Validates columns of values, and separates accepted from rejected rows. The rules are those of records.py, whose
types validate whole columns."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from string import ascii_letters, digits
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from dedup.files import deletions
from dedup.files.dates import AMBIGUOUS_DATES, Dates
from dedup.files.further import Noticed, attributes, lists, modified
from dedup.files.tables import MAX_EXCERPT, UNWRITABLE, Rejected, Table, Unreadable, reject
from dedup.files.values import (
    Problem,
    Problems,
    all_trimmed,
    as_texts,
    customer_ids,
    folded,
    full_names,
    generated_ids,
    meant_id,
    on_one_line,
    sources_of,
)
from dedup.findings import Findings, Kind
from dedup.moments import Column
from dedup.records import (
    IDENTIFYING,
    KNOWN,
    MAX_TEXT,
    NOTHING_IDENTIFYING,
    OPTIONAL,
    Known,
    Name,
    Source,
    one_of,
    without_controls,
)
from dedup.settings import settings
from dedup.traces import addresses
from dedup.validation import MAX_PLAIN_DOMAIN, MAX_PLAIN_LOCAL, PLAIN_LOCAL, email_address, is_address

Row = tuple[Any, ...]
"""Values of a record: customer_id, name, email, source, and the optional fields of its batch. Name and email are None
if they are unknown."""

MAX_INVALID_EMAIL = 2_000
"""Most characters of an email that is not a valid address. Some systems write lists of addresses into one cell."""

INVALID_EMAIL = Kind(
    "email",
    "The email is not a valid address: it is stored as written, but not used for matching",
    False,
    "invalid_email",
)

NOT_AN_ADDRESS = Problem("email", "The email is not a valid address")
"""Why a strict upload rejects a row that would otherwise have the warning INVALID_EMAIL."""

_TYPES: Mapping[str, TypeAdapter[list[Any]]] = {
    "name": TypeAdapter(list[Name | None]),
    "email": TypeAdapter(list[Annotated[str, Field(max_length=MAX_INVALID_EMAIL), AfterValidator(without_controls)]]),
    "source": TypeAdapter(list[Source]),
    **dict.fromkeys(KNOWN, TypeAdapter(list[Known])),
}
_WHITE_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def _known(name: str, values: Sequence[Any], problems: Problems) -> list[Any]:
    """Validates the values of an optional field. Line breaks in them are replaced by spaces."""
    texts = as_texts(name, values, problems)
    return _checked_text(name, texts, problems, lambda text: _WHITE_SPACE.sub(" ", text).strip())


class Times(NamedTuple):
    """What reads the columns of a file with dates of birth, and with the times of the last changes. Both know the
    values of earlier tables."""

    births: Dates
    modified: Column

    @classmethod
    def of(cls, date_order: str | None) -> "Times":
        """What reads the columns of a new file. `date_order` is the order that its column mapping states."""
        return cls(Dates(date_order), Column(date_order))


def validated(
    table: Table, given: str | None, times: Times, *, strict: bool
) -> tuple[list[Row], list[Rejected], tuple[str, ...], Findings]:
    """Returns the accepted rows of a table, the rejected ones in the order of their lines, the optional fields of the
    rows, and the findings of Batch. `given` is the source of rows without a source; `times` are those of the whole
    file; `strict` is that of FileOptions. Raises Unreadable if the table has no source column and `given` is None.

    If a row is marked as deleted, the rows end with `deleted`: "true", or None. Such a row needs no more than an id."""
    count = len(table.lines)
    columns: dict[str, Sequence[Any]] = {
        name: all_trimmed(values) for name, values in table.columns.items() if name not in OPTIONAL or any(values)
    }
    if given is None and "source" not in columns:
        raise Unreadable("The file has no source column, and no source was given for the upload")
    problems: Problems = defaultdict(list)
    noticed: Noticed = []
    _find_damage(table.rows, problems)
    ids = customer_ids(_written_ids(table, columns, given), problems)
    marked = deletions.marks(columns.pop(deletions.FIELD, ()), noticed)
    written = columns
    if any(marked):
        table, columns = deletions.emptied(table, columns, marked)
    names = _checked_text("name", on_one_line(full_names(columns, count)), problems)
    emails, several_emails, invalid = lists("email", columns.get("email", [None] * count), _emails, problems, noticed)
    if strict:
        for position in invalid:
            problems[position].append(NOT_AN_ADDRESS)
    noticed += [(position, INVALID_EMAIL) for position in invalid]
    sources = _sources(columns["source"], given, problems) if "source" in columns else [given] * count
    more: dict[str, Sequence[Any]] = {"emails": several_emails} if several_emails else {}
    more |= _optional(table, columns, times, problems, noticed)
    identifying = [names, emails, *(more[name] for name in IDENTIFYING if name in more)]
    if any(marked):
        more[deletions.FIELD] = ["true" if one else None for one in marked]
        identifying.append(more[deletions.FIELD])
    _find_unidentified(identifying, problems)
    rejected, findings = _rejected(table, written, problems, noticed)
    rows: Iterator[Row] = zip(ids, names, emails, sources, *more.values(), strict=True)
    accepted = list(compress(rows, [position not in problems for position in range(count)]) if problems else rows)
    return accepted, rejected, tuple(more), findings


def _optional(
    table: Table, columns: Mapping[str, Sequence[Any]], times: Times, problems: Problems, noticed: Noticed
) -> dict[str, list[Any]]:
    """Returns the values of the optional fields that the table has, except `emails`."""
    found: dict[str, list[Any]] = {}
    for name in KNOWN:
        if name == "phone" and name in columns:
            found["phone"], several, _ = lists("phone", columns["phone"], _phones, problems, noticed)
            if several:
                found["phones"] = several
        elif name in columns:
            found[name] = _known(name, columns[name], problems)
    if "date_of_birth" in found:
        found["date_of_birth"], uncertain = times.births.read(found["date_of_birth"])
        noticed += [(position, AMBIGUOUS_DATES) for position in uncertain]
    if "modified_at" in columns:
        found["modified_at"] = modified(columns["modified_at"], times.modified, noticed)
    if "attributes" in columns or table.attributes:
        found["attributes"] = attributes(columns.get("attributes", ()), table.attributes, noticed)
    return found


def _rejected(
    table: Table, columns: Mapping[str, Sequence[Any]], problems: Problems, noticed: Noticed
) -> tuple[list[Rejected], Findings]:
    """Returns the rejected rows in the order of their lines, and the findings of the table."""
    rejected = list(table.rejected)
    findings = Findings()
    for row in rejected:
        findings.add(Kind("", row.kind or row.reason), row.line)
    for position, kind in noticed:
        if position not in problems:
            findings.add(kind, table.lines[position])
    for position, found in problems.items():
        line = table.lines[position]
        for problem in found:
            findings.add(Kind(problem.field, problem.kind or problem.reason, problem.missing), line)
        fields = ", ".join(dict.fromkeys(problem.field for problem in found if problem.field))
        reason = "; ".join(problem.reason for problem in found)
        customer_id = meant_id(columns["customer_id"][position]) if "customer_id" in columns else None
        written = [columns["email"][position]] if "email" in columns else []
        mails = _addresses([*written, *(table.more_emails[position] if table.more_emails else ())])
        rejected.append(reject(line, fields, reason, table.rows[position], customer_id, mails))
    rejected.sort(key=lambda row: row.line)
    return rejected, findings


def _phones(values: Sequence[Any], problems: Problems) -> tuple[list[Any], Sequence[int]]:
    return _known("phone", values, problems), ()


def _written_ids(table: Table, columns: Mapping[str, Sequence[Any]], given: str | None) -> Sequence[Any]:
    """Returns the ids of the rows, before they are converted."""
    if table.rules.generates_ids:
        content = {name: values for name, values in columns.items() if name != deletions.FIELD}
        return generated_ids({"source": [given] * len(table.lines), **content})
    return folded(columns["customer_id"]) if table.rules.folds_ids else columns["customer_id"]


def _find_unidentified(columns: Sequence[Sequence[Any]], problems: Problems) -> None:
    """Finds rows without a value in any of the columns, which are those of IDENTIFYING."""
    if any(None not in values for values in columns[:2]):
        return
    for position, values in enumerate(zip(*columns, strict=True)):
        if position not in problems and not any(values):
            problems[position].append(Problem("", NOTHING_IDENTIFYING))


def _addresses(values: Sequence[Any]) -> set[str]:
    """Returns the addresses in the values of a row. In JSON, a value may be a list."""
    texts = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values if value)
    return set().union(*(addresses(text[:MAX_EXCERPT]) for text in texts))


_NO_ADDRESS = ("", "", "")


def _emails(written: Sequence[Any], problems: Problems) -> tuple[list[Any], list[int]]:
    """Returns the addresses as Record converts them, and the positions of texts that are not valid addresses, which are
    unchanged.

    Each domain is validated once, because most addresses share a domain with others: this takes a third of the time."""
    values = on_one_line(written)
    if _all_plain(values):
        return values, []
    try:
        parts = [value.rpartition("@") if value else _NO_ADDRESS for value in values]
    except AttributeError:
        parts = [value.rpartition("@") if isinstance(value, str) else _NO_ADDRESS for value in values]
    plain = {domain for domain in {domain for local, _, domain in parts if local} if _is_plain_domain(domain)}
    is_plain = PLAIN_LOCAL.match
    others = [
        at
        for at, (local, _, domain) in enumerate(parts)
        if (domain not in plain or not is_plain(local)) and values[at] is not None
    ]
    emails, invalid = list(values), []
    found: Problems = defaultdict(list)
    for at, email in zip(others, _checked("email", [values[at] for at in others], found), strict=True):
        try:
            emails[at] = email and email_address(email)
        except ValueError:  # PydanticCustomError and UnicodeError are subclasses
            invalid.append(at)
    for position, reasons in found.items():
        problems[others[position]] += reasons
    return emails, invalid


_LOCAL_CHARACTERS = f"{ascii_letters}{digits}_+.-".encode()
_CAPITALISED_WORD = re.compile("^[a-z]*[A-Z][A-Za-z]*@", re.MULTILINE)


def _all_plain(values: Sequence[Any]) -> bool:
    """Whether all values are None, or addresses that match PLAIN_LOCAL and have a domain that may follow it. The whole
    column is checked at once, in a quarter of the time; False is no answer for the longest of such addresses."""
    try:
        text = "\n".join(filter(None, values))
        domains = {value.partition("@")[2] for value in values if value}
    except (AttributeError, TypeError):
        return False
    return (
        text.isascii()
        and not text.encode().translate(None, _LOCAL_CHARACTERS + b"@\n")
        and not any(wrong in f"\n{text}" for wrong in ("\n@", "\n.", ".@", ".."))
        and max(map(len, filter(None, values)), default=0) <= MAX_PLAIN_LOCAL
        and all(map(_is_plain_domain, domains))
        and (not domains or text.islower() or not _CAPITALISED_WORD.search(text))
    )


def _is_plain_domain(domain: str) -> bool:
    address = f"a@{domain}"
    return len(domain) <= MAX_PLAIN_DOMAIN and is_address(address) and email_address(address) == address


def _checked_text(
    name: str, values: Sequence[Any], problems: Problems, corrected: Callable[[str], str] = str
) -> list[Any]:
    """Validates the values of a name or of an optional field, which are stripped of white space. Texts are `corrected`
    if any has a character that is not printable.

    If there is nothing to correct or to refuse, the whole column is checked at once, in a third of the time."""
    try:
        if "".join(filter(None, values)).isprintable():
            if max(map(len, filter(None, values)), default=0) <= MAX_TEXT:
                return [value or None for value in values]
            return _checked(name, values, problems)
    except TypeError:
        pass
    return _checked(name, [corrected(value) if isinstance(value, str) else value for value in values], problems)


def _sources(values: Sequence[Any], given: str | None, problems: Problems) -> list[Any]:
    """Validates the sources of rows. There are few different ones: if all of them are valid, they are converted once
    each."""
    refused: Problems = defaultdict(list)
    try:
        different = [*dict.fromkeys(values)]
    except TypeError:  # a list or an object of JSON
        different = [*values]
    converted = _checked("source", sources_of(different, given, refused), refused)
    if not refused and len(different) < len(values):
        return list(map(dict(zip(different, converted, strict=True)).__getitem__, values))
    return _checked("source", sources_of(values, given, problems), problems)


def _checked(name: str, values: Sequence[Any], problems: Problems) -> list[Any]:
    """Returns the values as Record converts them, with None for those that it refuses."""
    validate = _TYPES[name].validate_python
    try:
        return validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    refused = {int(problem["loc"][0]): problem for problem in errors}
    for position, problem in refused.items():
        kind = "missing" if values[position] is None else problem["type"]
        reason = reason_for(name, kind, problem["msg"])
        problems[position].append(Problem(name, reason, missing=kind == "missing"))
    good = iter(validate([value for position, value in enumerate(values) if position not in refused]))
    return [None if position in refused else next(good) for position in range(len(values))]


def reason_for(name: str, kind: str, message: str) -> str:
    """Returns the reason why a value was rejected, for the sender of the file. `kind` and `message` are those of
    pydantic's error, whose messages are written for developers."""
    match kind:
        case "missing" | "string_too_short":
            return f"The {name} is missing"
        case "string_too_long":
            return f"The {name} has more than {MAX_INVALID_EMAIL if name == 'email' else 255:,} characters"
        case "string_type":
            return f"The {name} must be a text"
        case "enum":
            return f"Unknown source. Expected {one_of(settings().sources)}"
        case _:
            return message[:1].upper() + message[1:]


def _find_damage(rows: Sequence[str], problems: Problems) -> None:
    """Finds rows with a NUL character, or with bytes that are not valid in the file's encoding."""
    text = "".join(rows)
    try:
        text.encode()  # faster than searching for surrogates
        if "\0" not in text:
            return
    except UnicodeEncodeError:
        pass
    for position, row in enumerate(rows):
        if found := UNWRITABLE.search(row):
            reason = "NUL characters are not allowed" if found[0] == "\0" else "Invalid bytes for the file's encoding"
            problems[position].append(Problem("", reason))
