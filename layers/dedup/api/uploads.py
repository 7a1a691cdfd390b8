"""Uploads in requests: shared by the operations that create an upload, or that name one in their path."""

from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from dedup.api.errors import Invalid
from dedup.api.models.uploads import ExpectedUpload, SameContent, SnapshotRequest, UploadRequest, UpsertRequest
from dedup.aws import bucket, object_keys
from dedup.file_options import FileOptions
from dedup.settings import settings
from dedup.store import Store
from dedup.store.uploads import Upload


def expect(request: UploadRequest | SnapshotRequest | UpsertRequest, principal: str, store: Store) -> ExpectedUpload:
    """Creates the upload of a file that `principal` will send, and returns it with the presigned URL to PUT the file
    to. Raises Invalid if the file is too large."""
    if request.size and request.size > settings().max_file_bytes:
        raise Invalid(("body", "size"), f"A file can have at most {settings().max_file_bytes} bytes. Split the file")
    key = object_keys.key_for(request.filename, object_keys.Folder(request.source, request.mode))
    options = FileOptions(request.sheet, request.strict)
    upload_id = store.uploads.create(
        key,
        request.source,
        request.mode,
        principal,
        options,
        review=request.review_mapping,
        dry_run=request.dry_run,
    )
    url = bucket.upload_url(key.format(upload_id), request.size)
    known = store.uploads.same_content(request.sha256.lower(), request.source) if request.sha256 else []
    return ExpectedUpload(
        id=upload_id,
        status="waiting",
        url=url,
        method="PUT",
        expires_in=bucket.URL_SECONDS,
        warnings=[SameContent(code=one.code, upload_id=one.upload_id) for one in known],
    )


def upload_of(upload_id: int, store: Store) -> Upload:
    """Returns the upload with that id. Raises NotFoundError."""
    upload = store.uploads.get(upload_id)
    if upload is None:
        raise NotFoundError("Upload not found")
    return upload
