"""Column mappings in requests: shared by the operations that state, preview and save them."""

from collections.abc import Iterator
from contextlib import contextmanager

from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from dedup.api.errors import Invalid
from dedup.files.mapping import InvalidMapping
from dedup.store import Store
from dedup.store.uploads import Upload


@contextmanager
def naming_the_field() -> Iterator[None]:
    """Answers 422, with the path of the field, if a mapping does not fit the file."""
    try:
        yield
    except InvalidMapping as error:
        raise Invalid(("body", *error.loc), str(error)) from error


def upload_of(upload_id: int, store: Store) -> Upload:
    """The upload with that id. Raises NotFoundError."""
    upload = store.uploads.get(upload_id)
    if upload is None:
        raise NotFoundError("Upload not found")
    return upload
