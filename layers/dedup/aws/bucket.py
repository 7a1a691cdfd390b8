"""Client of the bucket: presigned URLs, and objects as streams."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from dedup.settings import settings

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3.client import S3Client

URL_SECONDS = 15 * 60

EXPORT_DAYS = 7
"""Days after which the bucket's lifecycle deletes an export, because it contains personal data."""

JOB_DAYS = 7
"""Days after which the bucket's lifecycle deletes the output of a job: rejected rows contain names and addresses."""

WRITTEN = (".parquet", ".json")
"""Suffixes of the files that jobs write. Spark adds files of its own."""


@dataclass(frozen=True)
class ObjectVersion:
    """One version of an object, as an event names it."""

    bucket: str
    key: str
    version_id: str | None = None
    sender: str | None = field(default=None, compare=False)
    """The principal that wrote it, from the event."""


@dataclass(frozen=True)
class OpenObject:
    """An object's content as a stream, and its properties."""

    body: IO[bytes]
    etag: str
    size: int
    modified: datetime
    metadata: Mapping[str, str]


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
