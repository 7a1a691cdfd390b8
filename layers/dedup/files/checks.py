"""Columns of values made into records and rejected rows: what a record is, and why one is refused, is said by
records.py alone, whose types check whole columns."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticKnownError

from dedup.files.tables import MAX_EXCERPT, UNWRITABLE, Rejected, Table, Unreadable, reject
from dedup.files.values import Problems, all_trimmed, as_texts, customer_ids, full_names, meant_id, sources_of
from dedup.records import KNOWN, CustomerId, Email, Known, Name, Source, email_address
from dedup.traces import addresses

Row = tuple[Any, ...]
"""What Record says of a row: customer_id, name, email, source, and the fields that its batch names."""

_TYPES: Mapping[str, TypeAdapter[list[Any]]] = {
    "customer_id": TypeAdapter(list[CustomerId]),
    "name": TypeAdapter(list[Name]),
    "email": TypeAdapter(list[Email]),
    "source": TypeAdapter(list[Source]),
    **dict.fromkeys(KNOWN, TypeAdapter(list[Known])),
}
_MISSING = PydanticKnownError("missing").message()
_ONE_LINE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def _known(name: str, values: Sequence[Any], problems: Problems) -> list[Any]:
    """The values of a field of KNOWN, each on one line."""
    told = as_texts(name, values, problems)
    try:
        if "".join(filter(None, told)).isprintable():
            return _checked(name, told, problems)
    except TypeError:
        pass
    return _checked(name, [_ONE_LINE.sub(" ", v).strip() if isinstance(v, str) else v for v in told], problems)


def validated(
    table: Table, given: str | None
) -> tuple[list[Row], list[Rejected], tuple[str, ...], Counter[tuple[str, bool]]]:
    """The accepted rows of a table, the rejected ones in the order of their lines, the fields of records.KNOWN that the
    rows have, and the faults as Batch has them. `given`: the source of rows that name none. Raises Unreadable where no
    row says its source and nothing is given."""
    count = len(table.lines)
    columns = {name: all_trimmed(values) for name, values in table.columns.items() if name not in KNOWN or any(values)}
    if given is None and "source" not in columns:
        raise Unreadable("no column for source, and the upload names none")
    problems: Problems = defaultdict(list)
    _find_damage(table.rows, problems)
    ids = _checked("customer_id", customer_ids(columns["customer_id"], problems), problems)
    named = full_names(columns, count)
    names = _checked("name", named, problems)
    emails = _emails(columns["email"], problems)
    if "source" in columns:
        sources = _checked("source", sources_of(columns["source"], given, problems), problems)
    else:
        sources = [given] * count
    known = tuple(name for name in KNOWN if name in columns)
    more = [_known(name, columns[name], problems) for name in known]

    rejected = list(table.rejected)
    faults = Counter({("", False): len(rejected)} if rejected else {})
    came = {**columns, "name": named}
    for place, found in problems.items():
        faults.update({(name, name in came and came[name][place] in (None, "")) for name, _ in found})
        fields = ", ".join(dict.fromkeys(name for name, _ in found if name))
        reason = "; ".join(reason for _, reason in found)
        customer_id = meant_id(columns["customer_id"][place])
        mails = _addresses([columns["email"][place], *(table.more_emails[place] if table.more_emails else ())])
        rejected.append(reject(table.lines[place], fields, reason, table.rows[place], customer_id, mails))
    rejected.sort(key=lambda row: row.line)
    rows: Iterator[Row] = zip(ids, names, emails, sources, *more, strict=True)
    kept = list(compress(rows, [place not in problems for place in range(count)]) if problems else rows)
    return kept, rejected, known, faults


def _addresses(values: Sequence[Any]) -> set[str]:
    """The addresses in the values of a row; in JSON one may be a list."""
    texts = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values if value)
    return set().union(*(addresses(text[:MAX_EXCERPT]) for text in texts))


# At a domain that is accepted unchanged every address of this form is, which the tests prove. Role names (Info@) have
# only letters, and are put in lower case.
_PLAIN_LOCAL = re.compile(r"(?=.{1,64}\Z)(?:[a-z]+|(?=.*[0-9_+.-])[A-Za-z0-9_+-]++(?:\.[A-Za-z0-9_+-]++)*)\Z")
_PLAIN_DOMAIN_LENGTH = 254 - 65


def _emails(values: Sequence[Any], problems: Problems) -> list[Any]:
    """As _checked, and three times as fast: most addresses share a domain with others, which is validated once."""
    try:
        parts = [value.rpartition("@") for value in values]
    except AttributeError:
        return _checked("email", values, problems)
    plain = {domain for domain in {domain for local, _, domain in parts if local} if _is_plain_domain(domain)}
    is_plain = _PLAIN_LOCAL.match
    others = [at for at, (local, _, domain) in enumerate(parts) if domain not in plain or not is_plain(local)]
    if not others:
        return list(values)
    emails = list(values)
    found: Problems = defaultdict(list)
    for at, email in zip(others, _checked("email", [values[at] for at in others], found), strict=True):
        emails[at] = email
    for place, reasons in found.items():
        problems[others[place]] += reasons
    return emails


def _is_plain_domain(domain: str) -> bool:
    address = f"a@{domain}"
    try:
        return len(domain) <= _PLAIN_DOMAIN_LENGTH and email_address(address) == address
    except ValueError:  # PydanticCustomError is one, and so is an encoding's
        return False


def _checked(name: str, values: Sequence[Any], problems: Problems) -> list[Any]:
    """The values as Record has them, and None for those that it refuses."""
    validate = _TYPES[name].validate_python
    try:
        return validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    refused = {int(e["loc"][0]): e["msg"] for e in errors}
    for place, reason in refused.items():
        problems[place].append((name, _MISSING if values[place] is None else reason))
    good = iter(validate([value for place, value in enumerate(values) if place not in refused]))
    return [None if place in refused else next(good) for place in range(len(values))]


def _find_damage(rows: Sequence[str], problems: Problems) -> None:
    """Finds rows with a NUL, or with bytes that are not in the file's encoding."""
    text = "".join(rows)
    try:
        text.encode()  # faster than a search
        if "\0" not in text:
            return
    except UnicodeEncodeError:
        pass
    for place, row in enumerate(rows):
        if found := UNWRITABLE.search(row):
            reason = "a NUL character" if found[0] == "\0" else "bytes that are not in the encoding of the file"
            problems[place].append(("", reason))
