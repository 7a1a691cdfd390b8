"""Previews an answer to the question about the columns of an upload's file."""

from dedup.files.preview import Preview
from dedup.files.preview import preview as preview_rows
from dedup.services.column_mappings import Answer, question, source_for
from dedup.store import Store
from dedup.store.uploads import Upload


def preview(upload: Upload, answer: Answer, store: Store) -> Preview:
    """Returns the first records as they would be stored, and the first rows that would be rejected. Raises as
    column_mappings.state() does."""
    asked = question(upload, store)
    source = source_for(upload, asked, answer)
    names = [column["name"] for column in asked.columns]
    return preview_rows(names, asked.sample, answer.mapping, source, strict=upload.strict)
