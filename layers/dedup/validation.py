"""What all requests have in common: misspelt names are refused, and validating ends before it is costly."""

import re
from collections.abc import Collection, Iterator
from functools import cache, lru_cache
from itertools import islice
from typing import Any, Self

from pydantic import BaseModel, BeforeValidator, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

MAX_BODY_BYTES = 6 * 1024 * 1024
"""What Lambda takes, and answers: of the answer, as a string in JSON."""

MAX_ERRORS = 100
"""Validation errors that an answer lists. A list of records is validated until there are as many."""

UNKNOWN_NAME = "extra_forbidden"
"""The type of the error that a name is which nothing here has; pydantic's own."""

_PIECE = 500
"""Records that are validated before their errors are counted."""

_MAX_NAME = 100
"""Characters of a caller's name that an answer repeats."""

_WORDS_OF_THEIR_OWN = frozenset({"county"})
"""Names of fields that clients have, although they are one letter away from a field of ours."""


def plain(name: str) -> str:
    """The name without what does not count in it."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def cut(text: str, most: int = _MAX_NAME) -> str:
    """The beginning of what a caller wrote, a name unless told otherwise, as an answer repeats it."""
    return text if len(text) <= most else f"{text[:most]}…"


def unknown_name(what: str, name: str, known: Collection[str]) -> str:
    """The message for a name that is not among those that are known, with the nearest of these."""
    from jellyfish import damerau_levenshtein_distance  # few requests need it

    said = f"Unknown {what} {cut(name)!r}"
    if not known:
        return f"{said}: none is expected here"
    wanted = plain(cut(name))
    near = {one: damerau_levenshtein_distance(wanted, plain(one)) for one in known}
    nearest = min(near, key=near.__getitem__)
    if 3 * near[nearest] <= max(len(wanted), len(nearest)):
        return f"{said}. Did you mean {nearest!r}?"
    return f"{said}. Expected one of {', '.join(map(repr, known))}"


@lru_cache(maxsize=4096)
def misspellings(name: str, known: frozenset[str]) -> tuple[str, ...]:
    """The known names that a caller may have meant by this one: they differ from it in case and separators, or by one
    letter that is missing, added, another, or in its neighbour's place. A digit makes it another field: address2."""
    if len(name) > _MAX_NAME or name in _WORDS_OF_THEIR_OWN or any(map(str.isdigit, name)):
        return ()
    from jellyfish import damerau_levenshtein_distance

    written = plain(name)
    return tuple(
        one
        for one in known
        if abs(len(plain(one)) - len(written)) <= 1 and damerau_levenshtein_distance(written, plain(one)) <= 1
    )


class Request(BaseModel):
    """A body, or a part of one. A field that the model has not is refused where the model forbids others
    (`extra="forbid"`); where it does not, other fields are ignored, unless one seems to be the misspelt name of a field
    that is not there."""

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_misspelt_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names = _names(cls)
        if not isinstance(value, dict) or names.issuperset(value):
            return handler(value)
        forbids = cls.model_config.get("extra") == "forbid"
        unknown = _unknown(value, names) if forbids else _misspelt(value, names)
        errors = list(islice(unknown, MAX_ERRORS))
        if not errors:
            return handler(value)
        try:
            # Pydantic would refuse the other fields once more, without saying what is meant.
            handler({name: told for name, told in value.items() if name in names})
        except ValidationError as error:
            errors = [*_details(error), *errors]
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
        if name not in names and (missing := [one for one in misspellings(name, names) if one not in value]):
            yield _error(name, unknown_name("field", name, missing))


def _error(name: str, message: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(UNKNOWN_NAME, message), loc=(name,), input=None)


def _details(error: ValidationError) -> list[InitErrorDetails]:
    """The errors, to be raised anew with others: each with its place, message and type."""
    return [
        InitErrorDetails(type=PydanticCustomError(found["type"], found["msg"]), loc=found["loc"], input=None)
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def at_most(count: int) -> BeforeValidator:
    """Refuses a longer list before any of its items is validated: pydantic counts those alone that are valid."""

    def check(value: Any) -> Any:
        if isinstance(value, list) and len(value) > count:
            limits = {"field_type": "List", "max_length": count, "actual_length": len(value)}
            raise PydanticKnownError("too_long", limits)
        return value

    return BeforeValidator(check)


def until_enough_errors(value: Any, validate: Any) -> Any:
    """For pydantic.WrapValidator, around a list: as the list is validated, but no further than to the item whose errors
    make them MAX_ERRORS. All errors of half a million items would take gigabytes."""
    if not isinstance(value, list):
        return validate(value)
    valid: list[Any] = []
    errors: list[tuple[int, InitErrorDetails]] = []
    for start in range(0, len(value), _PIECE):
        try:
            valid += validate(value[start : start + _PIECE])
        except ValidationError as error:
            for found in _details(error):
                place, *within = found["loc"]
                item = start + int(place)
                errors.append((item, InitErrorDetails(type=found["type"], loc=(item, *within), input=None)))
            if len(errors) >= MAX_ERRORS:
                break
    if not errors:
        return valid
    last, _ = errors[min(MAX_ERRORS, len(errors)) - 1]
    raise ValidationError.from_exception_data("list", [error for item, error in errors if item <= last])
