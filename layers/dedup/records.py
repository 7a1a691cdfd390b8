"""What a record is, and what is refused."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WrapValidator
from pydantic.json_schema import WithJsonSchema
from pydantic.networks import validate_email
from pydantic_core import PydanticCustomError

from dedup.settings import settings
from dedup.validation import MAX_BODY_BYTES, Request, at_most, cut, until_enough_errors

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def without_controls(value: str) -> str:
    """The text unchanged. Raises PydanticCustomError when it has a control character."""
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return value


def trimmed(value: Any) -> Any:
    """Text without white space around it; what is no text, unchanged."""
    return value.strip() if isinstance(value, str) else value


@cache
def _plain_address() -> re.Pattern[str]:
    """Addresses that email-validator accepts and returns unchanged, by its own tables (RFC 5321 and 5322).

    Not all of those, but the common ones, which so cost under a microsecond instead of eighteen: plain ASCII, domain in
    lower case, no reserved domain, no label of IDNA's form (xn--), no mailbox name that would be put in lower case."""
    from email_validator import SPECIAL_USE_DOMAIN_NAMES
    from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

    not_reserved = "".join(rf"(?<![.@]{re.escape(domain)})" for domain in SPECIAL_USE_DOMAIN_NAMES)
    mailbox = "|".join(map(re.escape, CASE_INSENSITIVE_MAILBOX_NAMES))
    return re.compile(
        rf"(?=.{{1,254}}\Z)(?=[^@]{{1,64}}@)(?!(?=(?i:{mailbox})@)[^@]*[A-Z])"
        r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
        rf"@(?:(?![a-z0-9]{{2}}--)[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+[a-z]{{2,63}}{not_reserved}",
    )


def email_address(value: str) -> str:
    """The address as pydantic's EmailStr returns it. Raises PydanticCustomError where EmailStr does."""
    return value if _plain_address().fullmatch(value) else validate_email(value)[1]


def one_of(names: tuple[str, ...]) -> str:
    """`'a', 'b' or 'c'`, as pydantic words the choices of an enumeration."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last


def known_source(value: str) -> str:
    """The name of a configured source, unchanged. Raises PydanticCustomError that names the known ones."""
    if value not in settings().sources:
        raise PydanticCustomError("enum", "Input should be {expected}", {"expected": one_of(settings().sources)})
    return value


CustomerId = Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
PLAIN = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
"""What without_controls accepts, as JSON Schema says it."""

_VISIBLE = r"[^\s\u0000-\u001f\u007f-\u009f]"
_WITHIN = r"[^\u0000-\u001f\u007f-\u009f]"

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        json_schema_extra={"pattern": rf"^\s*{_VISIBLE}(?:{_WITHIN}*{_VISIBLE})?\s*$"},
    ),
    BeforeValidator(trimmed),
    AfterValidator(without_controls),
]
"""A name without white space around it; a blank one is none."""
Email = Annotated[str, AfterValidator(email_address), WithJsonSchema({"type": "string", "format": "email"})]
Source = Annotated[str, AfterValidator(known_source)]


def _known_sources(value: str) -> str:
    for name in value.split(",") if value else ():
        known_source(name)
    return value


SourceList = Annotated[str, AfterValidator(_known_sources)]
"""Names of configured sources, separated by commas; none where it is empty."""


def _nothing_as_none(value: str | None) -> str | None:
    return value or None


Known = Annotated[
    Annotated[
        str,
        Field(max_length=255, json_schema_extra={"pattern": rf"^\s*(?:{_WITHIN}*{_VISIBLE})?\s*$"}),
        BeforeValidator(trimmed),
        AfterValidator(without_controls),
    ]
    | None,
    AfterValidator(_nothing_as_none),
]
"""Something more that may be known of a customer, as it was written but for white space around it. Blank is not
known."""


class KnownFields(BaseModel):
    """What may be known of a customer beside name and email."""

    phone: Known = Field(default=None, repr=False)
    company: Known = Field(default=None, repr=False)
    address: Known = Field(default=None, repr=False, description="Street and number")
    city: Known = Field(default=None, repr=False)
    postcode: Known = Field(default=None, repr=False)
    country: Known = Field(default=None, repr=False, description="Its name, or ISO 3166's two letters")
    date_of_birth: Known = Field(default=None, repr=False, description="YYYY-MM-DD; others are kept as they are")


KNOWN = tuple(KnownFields.model_fields)
"""The fields that a record may have beside those that it must have."""


class NamedFields(BaseModel):
    """What every record has."""

    customer_id: CustomerId
    name: Name = Field(repr=False)
    email: Email = Field(repr=False)
    source: Source


class Record(KnownFields, NamedFields, Request):
    """One customer as one source system sent it. Other fields are ignored, unless their name is a misspelt one of a
    field that is missing."""


_SMALLEST = len('{"customer_id":0,"name":"a","email":"a@b.co","source":"a"},')

MAX_RECORDS = MAX_BODY_BYTES // _SMALLEST
"""More do not fit into a body."""


class Batch(Request):
    """Records that are stored together, all or none."""

    # Powertools makes the text of a handler's arguments for each call: that of ten thousand records costs 60 ms.
    customers: Annotated[list[Record], WrapValidator(until_enough_errors), at_most(MAX_RECORDS)] = Field(
        repr=False, description=f"At most {MAX_RECORDS:,} records"
    )


def known_fields(records: Sequence[Record]) -> tuple[str, ...]:
    """Those of KNOWN that any of the records has, in that order."""
    named: set[str] = set().union(*(record.model_fields_set for record in records))
    return tuple(f for f in KNOWN if f in named and any(getattr(record, f) is not None for record in records))


def describe(error: Any) -> dict[str, Any]:
    """One of pydantic's errors as `{loc, msg, type}`: what FastAPI's clients know, and of the input no more than the
    names of its fields and what a message repeats, cut."""
    loc = [cut(part) if isinstance(part, str) else part for part in error["loc"]]
    return {"loc": loc, "msg": cut(error["msg"], 1_000), "type": error["type"]}
