"""Where jobs run, read and write: Spark's Java; paths of this machine, and s3://BUCKET/KEY."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dedup.aws import bucket

from jobs import ROOT, BadInput

OLDEST_JAVA = 17

SUBMITTED = "PYSPARK_GATEWAY_PORT" in os.environ
"""Whether this was started by spark-submit, which says where Spark runs, and whose Spark reads and writes s3:// itself."""

S3 = "s3://"


def bucket_and_key(url: str) -> tuple[str, str]:
    """The two names in s3://BUCKET/KEY."""
    name, _, key = url.removeprefix(S3).partition("/")
    return name, key


def fetched(place: str, folder: Path) -> Path:
    """A file of this machine with what is at a place: itself, or a copy of the object in `folder`."""
    if not place.startswith(S3):
        return Path(place)
    name, key = bucket_and_key(place)
    path = folder / key.rpartition("/")[2]
    bucket.client().download_file(name, key, str(path))
    return path


def fetch(url: str, folder: Path) -> None:
    """Copies the objects below s3://BUCKET/PREFIX into a folder, which is made."""
    name, prefix = bucket_and_key(url)
    for key in bucket.keys_below(name, f"{prefix}/"):
        path = folder / key.removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        bucket.client().download_file(name, key, str(path))


def send(folder: Path, url: str) -> None:
    """Copies what a job wrote into a folder to below s3://BUCKET/PREFIX."""
    name, prefix = bucket_and_key(url)
    for path in sorted(folder.rglob("*")):
        if path.suffix in bucket.WRITTEN and path.is_file():
            bucket.client().upload_file(str(path), name, f"{prefix}/{path.relative_to(folder)}")


def write(place: str, text: str) -> None:
    """Makes a file, or an object, of a text."""
    if place.startswith(S3):
        name, key = bucket_and_key(place)
        bucket.client().put_object(Bucket=name, Key=key, Body=text.encode(), ContentType="application/json")
    else:
        Path(place).write_text(text)


def remove(url: str) -> None:
    """Deletes the objects below s3://BUCKET/PREFIX."""
    name, prefix = bucket_and_key(url)
    for key in bucket.keys_below(name, f"{prefix}/"):
        bucket.client().delete_object(Bucket=name, Key=key)


def find_pyspark() -> None:
    """Raises BadInput where PySpark is not installed, which `make run` does without."""
    if not importlib.util.find_spec("pyspark"):
        raise BadInput("PySpark is not installed: run `make dev` in the repository, then start the job again")


def find_java() -> None:
    """Raises BadInput where there is no Java that Spark runs on."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""  # noqa: S603
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if not version or int(version[1]) < OLDEST_JAVA:
        found = f"found is Java {version[1]}" if version else "there is none"
        raise BadInput(
            f"Spark needs Java {OLDEST_JAVA}, and {found} in JAVA_HOME or on the PATH: install a JDK, "
            "such as Debian's openjdk-17-jre-headless"
        )


def spark_here(scratch: str, memory: str, partitions: int) -> dict[str, Any]:
    """Makes ready for a Spark on this machine's cores: what it has to be told. `scratch`: a folder for its tables;
    `memory`: its JVM's; `partitions`: of what it shuffles. Raises BadInput."""
    find_pyspark()
    find_java()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    paths = [str(ROOT), str(ROOT / "layers"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    # So its Python workers find the layer, the jobs and AWS; on a cluster these come with --py-files. A JVM that this
    # process has already started would give its workers the environment of then.
    workers = {
        f"spark.executorEnv.{name}": value
        for name, value in os.environ.items()
        if name == "PYTHONPATH" or name.startswith("AWS_")
    }
    return workers | {
        "spark.master": "local[*]",
        "spark.driver.memory": memory,
        "spark.sql.shuffle.partitions": str(partitions),
        "spark.sql.warehouse.dir": f"{scratch}/warehouse",
        "spark.local.dir": f"{scratch}/spilled",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
