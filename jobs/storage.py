"""Storage of jobs: paths of this machine and s3://BUCKET/KEY."""

from pathlib import Path

from dedup.aws import bucket

S3 = "s3://"


def bucket_and_key(url: str) -> tuple[str, str]:
    """The parts of s3://BUCKET/KEY."""
    name, _, key = url.removeprefix(S3).partition("/")
    return name, key


def local_copy(location: str, folder: Path) -> Path:
    """The path of a local file, or of a copy of an object, which is made in `folder`."""
    if not location.startswith(S3):
        return Path(location)
    name, key = bucket_and_key(location)
    path = folder / key.rpartition("/")[2]
    bucket.client().download_file(name, key, str(path))
    return path


def download(url: str, folder: Path) -> None:
    """Copies the objects below s3://BUCKET/PREFIX into a folder, which is created."""
    name, prefix = bucket_and_key(url)
    for key in bucket.keys_below(name, f"{prefix}/"):
        path = folder / key.removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.client().download_file(name, key, str(path))


def upload(folder: Path, url: str) -> None:
    """Copies the output of a job from a folder to below s3://BUCKET/PREFIX, without Spark's own notes."""
    name, prefix = bucket_and_key(url)
    for path in sorted(folder.rglob("*")):
        if path.suffix in bucket.WRITTEN and path.is_file():
            bucket.client().upload_file(str(path), name, f"{prefix}/{path.relative_to(folder)}")


def write(location: str, text: str) -> None:
    """Writes a JSON text to a file or an object."""
    if location.startswith(S3):
        name, key = bucket_and_key(location)
        bucket.client().put_object(Bucket=name, Key=key, Body=text.encode(), ContentType="application/json")
    else:
        Path(location).write_text(text)


def remove(url: str) -> None:
    """Deletes the objects below s3://BUCKET/PREFIX."""
    name, prefix = bucket_and_key(url)
    for key in bucket.keys_below(name, f"{prefix}/"):
        bucket.client().delete_object(Bucket=name, Key=key)
