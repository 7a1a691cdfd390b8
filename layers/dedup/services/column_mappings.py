"""Answers the question which column of an upload's file feeds which field."""

from dataclasses import dataclass

from dedup.errors import Conflict
from dedup.files.mapping import ColumnMapping, InvalidMapping, check
from dedup.services import tasks
from dedup.settings import settings
from dedup.store import Store
from dedup.store.mappings import Saved, UploadMapping
from dedup.store.task_outbox import Task
from dedup.store.uploads import Upload


@dataclass(frozen=True)
class Answer:
    """A mapping that a sender stated for an upload. `source` is the source of its rows, if the upload has none; `save`:
    the mapping is used for later files of the source with the same columns."""

    mapping: ColumnMapping
    source: str | None = None
    save: bool = False


def question(upload: Upload, store: Store) -> UploadMapping:
    """Returns the question about an upload. Raises Conflict if it does not wait for a mapping."""
    found = store.mappings.of_upload(upload.id)
    if upload.status != "needs_mapping" or found is None:
        raise Conflict("The upload does not wait for a column mapping")
    return found


def state(upload: Upload, answer: Answer, store: Store, principal: str) -> None:
    """States the mapping of an upload and continues to load it. Raises Conflict if it does not wait for a mapping
    or its source has too many saved ones, and InvalidMapping if the mapping does not fit its file."""
    asked = question(upload, store)
    source = source_for(upload, asked, answer)
    header = [column["name"] for column in asked.columns]
    if answer.save and source is None:
        raise InvalidMapping(("save",), "A mapping is saved for a source: state the source of all rows")
    store.mappings.answer(
        upload.id, answer.mapping.as_json(), source, principal, header=header if answer.save else None
    )
    tasks.enqueue(Task("upload", upload.id), store)


def source_for(upload: Upload, asked: UploadMapping, answer: Answer) -> str | None:
    """Returns the source of the rows; None if each names its own. Raises InvalidMapping if the answer does not fit."""
    if upload.source and answer.source not in (None, upload.source):
        raise InvalidMapping(("source",), f"The source of the upload is {upload.source!r}")
    source = upload.source or answer.source
    check(answer.mapping, [column["name"] for column in asked.columns], has_source=source is not None)
    return source


def save(source: str, mapping: ColumnMapping, store: Store, principal: str) -> Saved:
    """Saves a mapping for files of a source that have the columns it names. Raises InvalidMapping, and Conflict if the
    source has too many mappings."""
    header = list(dict.fromkeys([*mapping.columns, *mapping.keep, *filter(None, [mapping.id_column])]))
    check(mapping, header, has_source=True)
    return store.mappings.save(source, header, mapping.as_json(), principal)


def expire(store: Store) -> list[int]:
    """Ends uploads whose files expired while they waited for a mapping; returns their ids."""
    return store.mappings.expire(settings().file_retention_days)
