"""Writing an object of the bucket in parts."""

from collections.abc import Iterable, Mapping
from typing import Any

from dedup.aws.bucket import ObjectVersion, client

_PART_BYTES = 8 * 1024 * 1024
"""Size of the parts of a multipart upload; S3 requires at least 5 MB."""


class ObjectWriter:
    """Writes an object of any size, in parts. The object exists after `close`, and does not after `abort`."""

    def __init__(self, bucket: str, key: str, content_type: str) -> None:
        self._named: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._content_type = content_type
        self._upload_id: str | None = None
        self._parts: list[Any] = []
        self._buffer = bytearray()

    def write(self, chunks: Iterable[bytes]) -> None:
        """Appends the chunks."""
        for chunk in chunks:
            self._buffer += chunk
            if len(self._buffer) >= _PART_BYTES:
                self._send_part()

    def close(self, *, even_empty: bool = False) -> ObjectVersion | None:
        """Completes the object and returns its version. If nothing was written and not `even_empty`, makes no object
        and returns None."""
        if not self._parts and not self._buffer and not even_empty:
            return None
        made: Mapping[str, Any]
        if not self._parts:
            made = client().put_object(**self._named, Body=bytes(self._buffer), ContentType=self._content_type)
        else:
            self._send_part()
            made = client().complete_multipart_upload(
                **self._named, UploadId=str(self._upload_id), MultipartUpload={"Parts": self._parts}
            )
        return ObjectVersion(self._named["Bucket"], self._named["Key"], made.get("VersionId"))

    def abort(self) -> None:
        """Discards what was written."""
        if self._upload_id:
            client().abort_multipart_upload(**self._named, UploadId=self._upload_id)

    def _send_part(self) -> None:
        if not self._buffer:
            return
        if self._upload_id is None:
            started = client().create_multipart_upload(**self._named, ContentType=self._content_type)
            self._upload_id = started["UploadId"]
        number = len(self._parts) + 1
        sent = client().upload_part(
            **self._named, UploadId=self._upload_id, PartNumber=number, Body=bytes(self._buffer)
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        self._buffer.clear()
