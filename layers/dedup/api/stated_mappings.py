"""Column mappings in requests: shared by the operations that state, preview and save them."""

from collections.abc import Iterator
from contextlib import contextmanager

from dedup.api.errors import Invalid
from dedup.files.mapping import InvalidMapping


@contextmanager
def naming_the_field() -> Iterator[None]:
    """Answers 422, with the path of the field, if a mapping does not fit the file."""
    try:
        yield
    except InvalidMapping as error:
        raise Invalid(("body", *error.loc), str(error)) from error
