"""The record: its fields and their validation."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Annotated, Any, NotRequired, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypedDict  # pydantic refuses that of typing before Python 3.12

from dedup import customer_ids
from dedup.customer_ids import LARGEST, MAX_LENGTH, SMALLEST, BadCustomerId, customer_id
from dedup.moments import iso_moment
from dedup.settings import settings
from dedup.validation import MAX_BODY_BYTES, Request, at_most, cut, email_address, until_enough_errors

_NO_PHONE = re.compile(r"[^0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def without_controls(value: str) -> str:
    """Returns the text unchanged. Raises PydanticCustomError if it has a control character."""
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return value


def trimmed(value: Any) -> Any:
    """Strips white space around a text. Returns other values unchanged."""
    return value.strip() if isinstance(value, str) else value


def one_of(names: tuple[str, ...]) -> str:
    """Returns `'a', 'b' or 'c'`, the wording of pydantic's enum errors."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last


def known_source(value: str) -> str:
    """Returns the name of a configured source unchanged. Raises PydanticCustomError, which lists the configured
    sources."""
    if value not in settings().sources:
        raise PydanticCustomError("enum", "Input should be {expected}", {"expected": one_of(settings().sources)})
    return value


PLAIN = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
"""JSON Schema of what without_controls accepts."""

_VISIBLE = r"[^\s\u0000-\u001f\u007f-\u009f]"
_WITHIN = r"[^\u0000-\u001f\u007f-\u009f]"
_TRIMMED = rf"^\s*{_VISIBLE}(?:{_WITHIN}*{_VISIBLE})?\s*$"
"""JSON Schema of a text that is not blank and has no control characters."""


def _customer_id(value: Any, integer: Any) -> customer_ids.CustomerId:
    if not isinstance(value, str):
        return integer(value)  # type: ignore[no-any-return]
    try:
        return customer_id(value)
    except BadCustomerId as error:
        raise PydanticCustomError("customer_id", str(error)) from None


CustomerId = Annotated[
    customer_ids.CustomerId,
    # One call for each record: a union of types reports every error once for each of them.
    GetPydanticSchema(
        lambda *_: core_schema.no_info_wrap_validator_function(
            _customer_id,
            core_schema.int_schema(strict=True, ge=SMALLEST, le=LARGEST),
            serialization=core_schema.simple_ser_schema("any"),
        )
    ),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": SMALLEST, "maximum": LARGEST},
                {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "pattern": _TRIMMED},
            ]
        }
    ),
]
"""A customer id; see dedup.customer_ids."""

MAX_TEXT = 255
"""Most characters of a name, and of most optional fields."""

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TEXT,
        json_schema_extra={"pattern": _TRIMMED},
    ),
    BeforeValidator(trimmed),
    AfterValidator(without_controls),
]
"""A name, stripped of white space. A blank name is refused."""
Email = Annotated[str, AfterValidator(email_address), WithJsonSchema({"type": "string", "format": "email"})]
Source = Annotated[str, AfterValidator(known_source)]


def _known_sources(value: str) -> str:
    for name in value.split(",") if value else ():
        known_source(name)
    return value


SourceList = Annotated[str, AfterValidator(_known_sources)]
"""Names of configured sources, separated by commas; may be empty."""


def _empty_as_none(value: str | None) -> str | None:
    return value or None


Known = Annotated[
    Annotated[
        str,
        Field(max_length=MAX_TEXT, json_schema_extra={"pattern": rf"^\s*(?:{_WITHIN}*{_VISIBLE})?\s*$"}),
        BeforeValidator(trimmed),
        AfterValidator(without_controls),
    ]
    | None,
    AfterValidator(_empty_as_none),
]
"""The value of an optional field, stripped of white space. Blank values become None."""


class KnownFields(BaseModel, defer_build=True):
    """The optional fields of a record. As all models of records, it is built on first use: most functions only need the
    names of the fields."""

    phone: Known = Field(default=None, repr=False)
    company: Known = Field(default=None, repr=False)
    address: Known = Field(default=None, repr=False, description="Street and number")
    city: Known = Field(default=None, repr=False)
    postcode: Known = Field(default=None, repr=False)
    country: Known = Field(default=None, repr=False, description="Country name, or two-letter code of ISO 3166")
    date_of_birth: Known = Field(default=None, repr=False, description="YYYY-MM-DD. Other formats are stored as sent")


KNOWN = tuple(KnownFields.model_fields)
"""The names of the optional fields of a record."""


def _moment(value: str) -> str:
    try:
        return iso_moment(value)
    except ValueError:
        raise PydanticCustomError(
            "moment", "Expected a date and time of ISO 8601, such as 2024-01-16T10:22:33Z"
        ) from None


Moment = Annotated[str, AfterValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A point in time of ISO 8601. It is returned in UTC, in the form of dedup.moments."""


MAX_ATTRIBUTES = 50
MAX_ATTRIBUTE = 2_000
MAX_ATTRIBUTE_NAME = 255
"""Most attributes of a record, most characters of one, and of its name."""

_Attribute = Annotated[
    Annotated[
        str,
        Field(max_length=MAX_ATTRIBUTE, json_schema_extra=PLAIN),
        BeforeValidator(trimmed),
        AfterValidator(without_controls),
    ]
    | None,
    AfterValidator(_empty_as_none),
]


def _without_unknown(value: dict[str, str | None]) -> dict[str, str] | None:
    return {name: text for name, text in value.items() if text is not None} or None


Attributes = Annotated[
    dict[Name, _Attribute],
    Field(json_schema_extra={"maxProperties": MAX_ATTRIBUTES, "additionalProperties": False}),
    at_most(MAX_ATTRIBUTES),
    AfterValidator(_without_unknown),
]
"""Texts by name, in the order in which they are given. Blank values are left out."""


MAX_VALUES = 20
"""Most emails, and most phones, of a record."""


def distinct(field: str, values: Iterable[str]) -> list[str]:
    """Returns the emails or phones without those that are written like an earlier one: in other case, or with other
    spaces and punctuation of a phone number."""
    found: dict[str, str] = {}
    for value in values:
        found.setdefault(value.casefold() if field == "email" else _NO_PHONE.sub("", value) or value, value)
    return list(found.values())


def _without_blank(values: Any) -> Any:
    """Leaves blank texts out of a list. Returns other values unchanged."""
    return [value for value in values if trimmed(value) not in ("", None)] if isinstance(values, list) else values


_LIMIT = Field(json_schema_extra={"maxItems": MAX_VALUES})


class FurtherFields(BaseModel, defer_build=True):
    """The optional fields of a record that are more than one text."""

    emails: Annotated[list[Email], _LIMIT, at_most(MAX_VALUES)] | None = Field(
        default=None, repr=False, description="All emails, if there is more than one. `email` is the first"
    )
    phones: Annotated[list[Name], _LIMIT, BeforeValidator(_without_blank), at_most(MAX_VALUES)] | None = Field(
        default=None, repr=False, description="All phones, if there is more than one. `phone` is the first"
    )
    modified_at: Moment | None = Field(
        default=None, description="When the source last changed the record. UTC if it has no time zone"
    )
    attributes: Attributes | None = Field(
        default=None,
        repr=False,
        description=f"What the source says of the customer beside the other fields: at most {MAX_ATTRIBUTES} texts of "
        f"{MAX_ATTRIBUTE:,} characters, by name",
    )


FURTHER = tuple(FurtherFields.model_fields)
"""The names of the optional fields that are more than one text."""

OPTIONAL = (*KNOWN, *FURTHER)
"""The names of all optional fields of a record, in the order in which they are shown."""


class NamedFields(BaseModel, defer_build=True):
    """The fields that every record states. Name and email are null if they are unknown."""

    customer_id: CustomerId
    name: Name | None = Field(repr=False)
    email: Email | None = Field(repr=False)
    source: Source


DETAILS = ("name", "email", *KNOWN)
"""The fields of a record that may be unknown."""

IDENTIFYING = ("name", "email", "phone", "company")
"""A record has a value in at least one of these fields."""

IDENTIFYING_NAMES = f"{', '.join(IDENTIFYING[:-1])} and {IDENTIFYING[-1]}"

NOTHING_IDENTIFYING = f"A record needs at least one of {IDENTIFYING_NAMES}"


Fields = dict[str, Any]
"""A valid record: the values of the fields by name, as Record has them. Optional fields may be missing."""


class Record(FurtherFields, KnownFields, NamedFields, Request):
    """One customer as one source sent it, with at least one of name, email, phone and company. Unknown fields are
    ignored, unless the name seems to be a misspelt field that is missing."""

    def completed(self) -> Self:
        """See _complete()."""
        _complete(self.__dict__)
        return self

    def fields(self) -> Fields:
        """Returns the fields that are known, and name and email."""
        stated = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in stated if value is not None or name in NamedFields.model_fields}


def _complete(fields: Fields) -> None:
    """Makes email and phone the first of emails and phones, and requires a field that identifies the customer. Raises
    PydanticCustomError."""
    for field, several in (("email", "emails"), ("phone", "phones")):
        if fields.get(several) is not None:
            fields[field], fields[several] = _joined(field, fields.get(field), fields[several])
    if all(fields.get(field) is None for field in IDENTIFYING):
        raise PydanticCustomError("nothing_identifying", NOTHING_IDENTIFYING)


def _joined(field: str, first: str | None, values: Sequence[str]) -> tuple[str | None, list[str] | None]:
    """Returns the first of all values, and all of them if there are several. Raises PydanticCustomError if there are
    more than MAX_VALUES."""
    found = distinct(field, [*([first] if first is not None else ()), *values])
    if len(found) > MAX_VALUES:
        raise PydanticCustomError("too_long", f"A record has at most {MAX_VALUES} {field}s, with {field}")
    return (found[0] if found else None), (found if len(found) > 1 else None)


@cache
def _plain_records() -> TypeAdapter[list[Fields]]:
    """Returns a validator of records without unknown fields: that of Record, but without a model for each, which takes
    twice as long. A field of Record that need not be stated may be missing."""
    hints = get_type_hints(Record, include_extras=True)
    members = {
        name: hints[name] if field.is_required() else NotRequired[hints[name]]
        for name, field in Record.model_fields.items()
    }
    return TypeAdapter(list[TypedDict("Fields", members)])  # type: ignore[misc,operator] # made at run time


def _fields_of(items: list[Any], validate: Callable[[list[Any]], list[Record]]) -> list[Fields]:
    """Validates items as records. Raises ValidationError."""
    if all(type(item) is dict and _FIELDS.issuperset(item) for item in items):
        # Errors are left to the models.
        with suppress(ValidationError, PydanticCustomError):
            found = _plain_records().validate_python(items)
            for fields in found:
                # The usual case first: to call _complete() for each takes a tenth of the time of a record.
                if fields["name"] is None or "emails" in fields or "phones" in fields:
                    _complete(fields)
            return found
    return [record.fields() for record in validate(items)]


_FIELDS = frozenset(Record.model_fields)

_SMALLEST = len('{"customer_id":0,"name":"a","email":"a@b.co","source":"a"},')

MAX_RECORDS = MAX_BODY_BYTES // _SMALLEST
"""Most records that fit into a request body."""


class Batch(Request):
    """Records that are stored together: all of them or none."""

    # repr=False: Powertools calls repr() on a handler's arguments, which takes 60 ms for ten thousand records.
    customers: Annotated[
        list[Fields],
        GetPydanticSchema(
            lambda _, handler: core_schema.no_info_wrap_validator_function(
                partial(until_enough_errors, convert=_fields_of),
                handler.generate_schema(list[Record]),
                serialization=core_schema.simple_ser_schema("any"),
            )
        ),
        at_most(MAX_RECORDS),
    ] = Field(repr=False, description=f"At most {MAX_RECORDS:,} records")


def known_fields(records: Sequence[Fields]) -> tuple[str, ...]:
    """Returns the optional fields that at least one of the records has, in the order of OPTIONAL."""
    named: set[str] = set().union(*records)
    return tuple(f for f in OPTIONAL if f in named and any(record.get(f) is not None for record in records))


def describe(error: Any) -> dict[str, Any]:
    """Converts an error of pydantic to `{loc, msg, type}`, the format of FastAPI. It contains no input except the names
    of fields and what the message quotes, both truncated."""
    loc = [cut(part) if isinstance(part, str) else part for part in error["loc"]]
    return {"loc": loc, "msg": cut(error["msg"], 1_000), "type": error["type"]}
