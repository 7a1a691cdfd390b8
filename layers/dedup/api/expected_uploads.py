"""Files that are expected: what the operations share that say where to PUT one."""

from dedup.api.errors import Invalid
from dedup.api.models.uploads import ExpectedUpload, SnapshotRequest, UploadRequest
from dedup.aws import bucket
from dedup.settings import settings
from dedup.store import Store


def expect(request: UploadRequest | SnapshotRequest, principal: str, store: Store) -> ExpectedUpload:
    """Notes that `principal` will send this file; its upload, and the URL to PUT it at. Raises api.Invalid."""
    if request.size and request.size > settings().max_file_bytes:
        raise Invalid(("body", "size"), f"At most {settings().max_file_bytes} bytes are taken: split the file")
    key = bucket.key_for(request.filename, bucket.Place(request.source, request.mode))
    upload_id = store.uploads.create(key, request.source, request.mode, principal)
    url = bucket.upload_url(key.format(upload_id), request.size)
    return ExpectedUpload(id=upload_id, status="waiting", url=url, method="PUT", expires_in=bucket.URL_SECONDS)
