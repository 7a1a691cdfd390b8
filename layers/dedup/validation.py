"""Validation shared by all requests: misspelt names are refused, and the cost of invalid requests is limited."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any, Self

from pydantic import BaseModel, BeforeValidator, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.networks import validate_email
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

MAX_BODY_BYTES = 6 * 1024 * 1024
"""Lambda's limit for a request body and for a response body, the latter as a JSON string."""

MAX_ERRORS = 100
"""Most validation errors in one response. Validation of a list of records stops at this number."""

UNKNOWN_NAME = "extra_forbidden"
"""Type of the error for an unknown field or parameter, as in pydantic."""

_CHUNK = 500
"""Number of records that are validated before their errors are counted."""

_MAX_NAME = 100
"""Most characters of an unknown name that an error message quotes."""

_NOT_MISSPELT = frozenset({"county"})
"""Field names of clients that are one letter away from a field of ours, but not misspelt."""


@cache
def _plain_address() -> re.Pattern[str]:
    """Returns a pattern of common addresses that email-validator (RFC 5321 and 5322) returns unchanged.

    It takes under a microsecond instead of eighteen. It matches plain ASCII addresses with a lower-case domain; not
    reserved domains, IDNA labels (xn--), or mailbox names that email-validator converts to lower case."""
    from email_validator import SPECIAL_USE_DOMAIN_NAMES
    from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

    not_reserved = "".join(rf"(?<![.@]{re.escape(domain)})" for domain in SPECIAL_USE_DOMAIN_NAMES)
    mailbox = "|".join(map(re.escape, CASE_INSENSITIVE_MAILBOX_NAMES))
    return re.compile(
        rf"(?=.{{1,254}}\Z)(?=[^@]{{1,64}}@)(?!(?=(?i:{mailbox})@)[^@]*[A-Z])"
        r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*"
        rf"@(?:(?![a-z0-9]{{2}}--)[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+[a-z]{{2,63}}{not_reserved}",
    )


PLAIN_LOCAL = re.compile(r"(?=.{1,64}\Z)(?:[a-z]+|(?=.*[0-9_+.-])[A-Za-z0-9_+-]++(?:\.[A-Za-z0-9_+-]++)*)\Z")
"""The part before the @ of addresses that are accepted unchanged if their domain is. Parts that have only letters must
be lower case, because role names (Info@) are converted to lower case. A property test compares this with
email-validator."""

MAX_PLAIN_LOCAL = 64
MAX_PLAIN_DOMAIN = 254 - 1 - MAX_PLAIN_LOCAL
"""Most characters of a domain that any PLAIN_LOCAL may precede."""

_MAX_PLAIN_DOMAINS = 10_000
_plain_domains: set[str] = set()
"""Domains of plain addresses that were found valid. Most addresses share a domain with others, and a known domain takes
half of the time."""


def email_address(value: str) -> str:
    """Returns the address as pydantic's EmailStr does, and raises PydanticCustomError if EmailStr does."""
    local, _, domain = value.rpartition("@")
    if domain in _plain_domains and PLAIN_LOCAL.match(local):
        return value
    if _plain_address().fullmatch(value):
        if len(domain) <= MAX_PLAIN_DOMAIN and len(_plain_domains) < _MAX_PLAIN_DOMAINS:
            _plain_domains.add(domain)
        return value
    return validate_email(value)[1]


def is_address(value: str) -> bool:
    """Whether email_address() accepts the text."""
    try:
        email_address(value)
    except ValueError:  # PydanticCustomError and UnicodeError are subclasses
        return False
    return True


def plain(name: str) -> str:
    """Returns the name in lower case, without spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def cut(text: str, most: int = _MAX_NAME) -> str:
    """Truncates a text of the client so that an error message can quote it."""
    return text if len(text) <= most else f"{text[:most]}…"


def unknown_name(what: str, name: str, known: Collection[str]) -> str:
    """Returns the error message for an unknown name. It suggests the nearest known name, or lists all of them."""
    from jellyfish import damerau_levenshtein_distance  # imported here, because few requests need it

    message = f"Unknown {what} {cut(name)!r}"
    if not known:
        return f"{message}. None is expected here"
    wanted = plain(cut(name))
    near = {one: damerau_levenshtein_distance(wanted, plain(one)) for one in known}
    nearest = min(near, key=near.__getitem__)
    if 3 * near[nearest] <= max(len(wanted), len(nearest)):
        return f"{message}. Did you mean {nearest!r}?"
    return f"{message}. Expected one of {', '.join(map(repr, known))}"


@lru_cache(maxsize=4096)
def misspellings(name: str, known: frozenset[str]) -> tuple[str, ...]:
    """Returns the known names of which `name` may be a misspelling, the shortest first: they differ in case and
    separators, or by one inserted, deleted, replaced or transposed letter. A name with a digit, such as address2, is
    not a misspelling."""
    if len(name) > _MAX_NAME or name in _NOT_MISSPELT or any(map(str.isdigit, name)):
        return ()
    from jellyfish import damerau_levenshtein_distance

    written = plain(name)
    near = (
        one
        for one in known
        if abs(len(plain(one)) - len(written)) <= 1 and damerau_levenshtein_distance(written, plain(one)) <= 1
    )
    return tuple(sorted(near, key=lambda one: (len(one), one)))


class Request(BaseModel, defer_build=True):
    """Base of request bodies. Unknown fields are refused if the model has `extra="forbid"`. Otherwise they are ignored,
    unless the name seems to be a misspelt field that is missing."""

    def completed(self) -> Self:
        """Returns the request after checks of several fields together. Raises PydanticCustomError.

        Called by the validator below, because a second validator of the model takes 5 % of the time of a record."""
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_misspelt_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names = _names(cls)
        if not isinstance(value, dict) or names.issuperset(value):
            return handler(value).completed()
        forbids = cls.model_config.get("extra") == "forbid"
        unknown = _unknown(value, names) if forbids else _misspelt(value, names)
        errors = list(islice(unknown, MAX_ERRORS))
        if not errors:
            return handler(value).completed()
        try:
            # Without the unknown fields: pydantic would report them again, without a suggestion.
            handler({name: given for name, given in value.items() if name in names}).completed()
        except ValidationError as error:
            errors = [*_details(error), *errors]
        except PydanticCustomError as error:
            errors = [InitErrorDetails(type=error, loc=(), input=None), *errors]
        raise ValidationError.from_exception_data(cls.__name__, errors)


@cache
def _names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())


def _unknown(value: dict[str, Any], names: frozenset[str]) -> Iterator[InitErrorDetails]:
    for name in value:
        if name not in names:
            yield _error(name, unknown_name("field", name, sorted(names)))


def _misspelt(value: dict[str, Any], names: frozenset[str]) -> Iterator[InitErrorDetails]:
    for name in value:
        if name not in names and (meant := misspellings(name, names)) and not any(map(value.__contains__, meant)):
            yield _error(name, unknown_name("field", name, meant))


def _error(name: str, message: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(UNKNOWN_NAME, message), loc=(name,), input=None)


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """Converts the errors so that they can be raised again together with others."""
    return [
        InitErrorDetails(type=PydanticCustomError(found["type"], found["msg"]), loc=found["loc"], input=None)
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def at_most(count: int) -> BeforeValidator:
    """Returns a validator that refuses a longer list or object before its items are validated. Pydantic's max_length
    counts valid items only."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            kind = "List" if isinstance(value, list) else "Object"
            limits = {"field_type": kind, "max_length": count, "actual_length": len(value)}
            raise PydanticKnownError("too_long", limits)
        return value

    return BeforeValidator(check)


def until_enough_errors(value: Any, validate: Any, convert: Callable[[list[Any], Any], list[Any]]) -> Any:
    """Validates a list up to the item that reaches MAX_ERRORS errors, by `convert(items, validate)`. For
    pydantic.WrapValidator.

    Collecting all errors of half a million items takes gigabytes of memory."""
    if not isinstance(value, list):
        return validate(value)
    valid: list[Any] = []
    errors: list[tuple[int, InitErrorDetails]] = []
    for start in range(0, len(value), _CHUNK):
        try:
            valid += convert(value[start : start + _CHUNK], validate)
        except ValidationError as error:
            for found in _details(error):
                index, *within = found["loc"]
                item = start + int(index)
                errors.append((item, InitErrorDetails(type=found["type"], loc=(item, *within), input=None)))
            if len(errors) >= MAX_ERRORS:
                break
    if not errors:
        return valid
    last, _ = errors[min(MAX_ERRORS, len(errors)) - 1]
    raise ValidationError.from_exception_data("list", [error for item, error in errors if item <= last])
