"""Client of S3: keys and their meaning, presigned URLs, objects as streams."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from dedup.settings import settings

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3.client import S3Client

INCOMING = "incoming/"
REJECTED = "rejected/"
SNAPSHOT = "snapshot"
_LIKE_SNAPSHOT = (SNAPSHOT, f"{SNAPSHOT}s")
URL_SECONDS = 15 * 60

WRITTEN = (".parquet", ".json")
"""Suffixes of the files that jobs write. Spark adds files of its own."""

_PART_BYTES = 8 * 1024 * 1024
"""Size of the parts of a multipart upload; S3 requires at least 5 MB."""


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object, as an event names it."""

    bucket: str
    key: str
    version_id: str | None = None
    sender: str | None = field(default=None, compare=False)
    """The principal that wrote it, from the event."""


@dataclass(frozen=True)
class Folder:
    """What a key and the object's metadata state: the source of the records, None if each row names its own, and the
    mode, add or replace."""

    source: str | None
    mode: str


class WrongFolder(ValueError):
    """A key or metadata that states no valid source or mode. The text says what was expected."""


@dataclass(frozen=True)
class OpenObject:
    """An object's content as a stream, and its properties."""

    body: IO[bytes]
    etag: str
    size: int
    modified: datetime
    metadata: Mapping[str, str]


def folder_of(key: str, metadata: Mapping[str, str]) -> Folder:
    """The source and mode of a key `incoming/<source>/[snapshot/]…` with the metadata `source` and `mode`. Raises
    WrongFolder.

    Only the folder makes a file a snapshot: policies restrict who may write to folders, but not the metadata. Policies
    are case-sensitive, so that a folder like `Snapshot` is refused. Read as additions, its records would be stored
    twice."""
    *folders, name = key.removeprefix(INCOMING).split("/")
    source = metadata.get("source") or (folders[0] if folders else None)
    mode = "replace" if folders[1:2] == [SNAPSHOT] else "add"
    if source is not None and source not in settings().sources:
        known = ", ".join(settings().sources)
        # The text is stored and sent in events. A folder may be named after a person, so that only valid names of a
        # source are quoted.
        named = repr(source) if re.fullmatch("[a-z][a-z0-9_]{0,62}", source) else "The name of the folder"
        raise WrongFolder(f"{named} is not a source: expected {INCOMING}<source>/… with one of {known}")
    if metadata.get("mode", mode) not in ("add", "replace"):
        raise WrongFolder(f"{metadata['mode']!r} is not a mode: expected add or replace")
    place = f"{INCOMING}{source or '<source>'}/{SNAPSHOT}/"
    if mode == "replace" and folders[0] != source:
        raise WrongFolder(f"A snapshot of {source} belongs in {place}: move the file there")
    if metadata.get("mode", mode) != mode:
        raise WrongFolder(
            f"The metadata says {metadata['mode']}, and the folder says {mode}. A snapshot belongs in {place}, and a "
            f"file that adds records in another folder"
        )
    # The first folder is not checked if it is the source: a source may be called snapshot.
    parts = [*(folders[1:] if folders[:1] == [source] else folders), name] if mode == "add" else []
    for part in parts:
        if part.strip().casefold() in _LIKE_SNAPSHOT:
            raise WrongFolder(
                f"{part!r} is not the folder of snapshots. To replace the source's records, move the file to "
                f"{place}; to add records, to a folder with another name"
            )
    return Folder(source, mode)


def sheet_of(metadata: Mapping[str, str]) -> str | None:
    """The sheet of a workbook that an object's metadata names. S3 encodes names beyond ASCII by RFC 2047."""
    name = metadata.get("sheet")
    try:
        return str(make_header(decode_header(name))) if name else None
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return name


def key_for(filename: str, folder: Folder) -> str:
    """The key of an expected upload, with `{}` in place of its id."""
    folders = [folder.source, SNAPSHOT if folder.mode == "replace" else None]
    name = filename.replace("{", "(").replace("}", ")")
    return INCOMING + "".join(f"{folder}/" for folder in folders if folder) + "{}-" + name


def rejected_key_of(upload_id: int) -> str:
    """The key of the rejected rows of an upload. It does not contain the file's name, which may be a person's."""
    return f"{REJECTED}upload-{upload_id}-rejected.csv"


def s3_url(key: str) -> str:
    """The s3:// URL of an object, or a prefix, in the bucket. Jobs name their input and output like this."""
    return f"s3://{settings().bucket}/{key}"


@cache
def client() -> "S3Client":
    """The S3 client of this Lambda environment."""
    import boto3
    from botocore.config import Config

    # Presigned URLs need signature version 4 in newer regions, and the region's own host: browsers do not follow
    # redirects of preflight requests.
    s3: Any = {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}
    return boto3.client("s3", config=Config(signature_version="s3v4", s3=s3))


def origin() -> str:
    """The origin of presigned URLs, as browsers define it; empty if there is no bucket."""
    local, name = os.environ.get("AWS_ENDPOINT_URL"), settings().bucket
    return name and (local or f"https://{name}.s3.{os.environ['AWS_REGION']}.amazonaws.com")


def upload_url(key: str, size: int | None) -> str:
    """A URL to PUT the object, valid for URL_SECONDS. `size`: the exact number of bytes, None for any."""
    params: dict[str, Any] = {"Bucket": settings().bucket, "Key": key}
    if size is not None:
        params["ContentLength"] = size
    return client().generate_presigned_url("put_object", Params=params, ExpiresIn=URL_SECONDS)


def download_url(key: str, version_id: str | None) -> str:
    """A URL to GET the object as an attachment, valid for URL_SECONDS. `version_id`: None for the current version."""
    params = {"Bucket": settings().bucket, "Key": key, "ResponseContentDisposition": "attachment"}
    if version_id:
        params["VersionId"] = version_id
    return client().generate_presigned_url("get_object", Params=params, ExpiresIn=URL_SECONDS)


def open_object(version: ObjectVersion) -> OpenObject:
    """Opens a version of an object. Raises botocore's ClientError, also when the stream is read: with 404 if the object
    does not exist, with 412 if it was overwritten since."""
    from aws_lambda_powertools.utilities.streaming import S3Object

    named: dict[str, Any] = {"Bucket": version.bucket, "Key": version.key}
    if version.version_id:
        named["VersionId"] = version.version_id
    head = client().head_object(**named)
    body = S3Object(version.bucket, version.key, version.version_id, boto3_client=client(), IfMatch=head["ETag"])
    return OpenObject(
        body,
        head["ETag"].strip('"'),
        head["ContentLength"],
        head["LastModified"],
        head["Metadata"],
    )


def keys_below(name: str, prefix: str) -> Iterator[str]:
    """The keys with a prefix in the bucket `name`."""
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
        yield from (one["Key"] for one in page.get("Contents", ()))


def is_gone(error: "ClientError") -> bool:
    """Whether S3 reports that the object, or its version, does not exist."""
    return error.response.get("Error", {}).get("Code") in {"404", "NoSuchKey", "NoSuchVersion", "405"}


def is_current(version: ObjectVersion, etag: str) -> bool:
    """Whether the object still has the content with this ETag. Always true for a version id: versions do not change."""
    if version.version_id:
        return True
    head = client().head_object(Bucket=version.bucket, Key=version.key)
    return head["ETag"].strip('"') == etag


def delete_version(version: ObjectVersion) -> None:
    """Deletes one version permanently. Other versions of the object stay."""
    client().delete_object(Bucket=version.bucket, Key=version.key, VersionId=version.version_id or "null")


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
