"""What a Spark session of this machine needs: PySpark, Java and configuration."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from jobs import ROOT, BadInput

OLDEST_JAVA = 17

SUBMITTED = "PYSPARK_GATEWAY_PORT" in os.environ
"""Whether spark-submit started this process. Then it configures the session, and Spark itself reads and writes s3://."""


def require_pyspark() -> None:
    """Raises BadInput if PySpark is not installed. `make run` does not install it."""
    if not importlib.util.find_spec("pyspark"):
        raise BadInput("PySpark is not installed: run `make dev` in the repository, then start the job again")


def require_java() -> None:
    """Raises BadInput if there is no Java that Spark runs on."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr if java else ""  # noqa: S603
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if not version or int(version[1]) < OLDEST_JAVA:
        found = f"Java {version[1]}" if version else "no Java"
        raise BadInput(
            f"Spark needs Java {OLDEST_JAVA} or newer; found {found} in JAVA_HOME or on the PATH. Install a JDK, "
            "such as Debian's openjdk-17-jre-headless"
        )


def local_configuration(scratch: str, memory: str, partitions: int) -> dict[str, Any]:
    """The configuration of a session on this machine's cores. Also prepares this process's environment. `scratch`:
    folder for tables and spilled data; `memory`: of the JVM; `partitions`: number of partitions after a shuffle. Raises
    BadInput."""
    require_pyspark()
    require_java()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    paths = [str(ROOT), str(ROOT / "layers"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    # Python workers need the layer, the jobs and AWS; on a cluster, spark-submit provides these. Set explicitly,
    # because a JVM that already runs gives its workers the environment from its own start.
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
