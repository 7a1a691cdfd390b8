"""`make sam-local`: the functions in SAM CLI's containers, the closest to Lambda on a laptop. Afterwards, `make invoke
FUNCTION=Analyze` runs one of them on its sample event.

The Makefile has started the PostgreSQL of docker-compose.yml before. `make test-sam-local` uses the same commands with
embedded PostgreSQL.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from local import ROOT, sample_event
from local.gateway import Template
from local.workers import Function

HOST = "host.docker.internal"
"""The name by which a container reaches this machine."""

COMPOSED = {
    "DB_HOST": HOST,
    "DB_PORT": "54329",
    "DB_NAME": "dedup",
    "DB_USER": "dedup",
    "DB_PASSWORD": "dedup",
    "EVENT_BUS": "",
}
"""The functions' variables for the services of docker-compose.yml."""


def engine() -> str | None:
    """The address at which containers reach this machine; None without a container engine."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


class Sam:
    """SAM CLI's commands for this machine's architecture. The functions' variables are in a file: those of the
    template, the URLs of queues, and `environment`, which overrides both."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._variables = folder / "environment.json"
        self.template = Template(ROOT / "template.yaml", environment)
        variables = {name: _named(function) for name, function in self.template.functions.items()}
        self._variables.write_text(json.dumps(variables), encoding="utf-8")
        self._environment = os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}
        architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
        self._parameters = ["--parameter-overrides", f"Architecture={architecture}"]

    def build(self, without: Iterable[str] = ()) -> None:
        """Build the layer and all functions except `without`. Needs python3.13, and a registry for the base images of
        functions in images. Raises subprocess.CalledProcessError."""
        excluded = [part for name in without for part in ("--exclude", name)]
        subprocess.run([*_sam("build"), *excluded, *self._parameters], cwd=ROOT, env=self._environment, check=True)

    def invoke(self, function: str, event: Path) -> subprocess.CompletedProcess[str]:
        """Run the function on an event. The last line of the output is its response; its log is on standard error."""
        return subprocess.run(
            [*_sam("local", "invoke", function), "--event", event, *self._options],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )

    def start_api(self, port: int) -> subprocess.Popen[bytes]:
        """Serve the API on `port` until the returned process is terminated."""
        command = [*_sam("local", "start-api"), "--port", str(port), "--warm-containers", "LAZY", *self._options]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment)

    @property
    def _options(self) -> list[str]:
        # --skip-pull-image: existing images are not updated, but missing ones are still pulled.
        network = ["--add-host", f"{HOST}:{engine()}", "--skip-pull-image"]
        return ["--env-vars", str(self._variables), *network, *self._parameters]


def _named(function: Function) -> dict[str, str]:
    """A function's variables, without those that Lambda sets itself."""
    return {
        name: value
        for name, value in function.environment.items()
        if not name.startswith("AWS_") or name == "AWS_ENDPOINT_URL"
    }


def _sam(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sam")), *arguments]


def main() -> int:
    """Build, migrate, and serve until interrupted, or invoke the function in the argument; the exit code."""
    if not engine():
        print("No container engine is running: start Docker first.", file=sys.stderr)
        return 1
    sam = Sam(ROOT / ".aws-sam", COMPOSED)
    if sys.argv[1:]:
        return invoke(sam, sys.argv[1])
    try:
        sam.build()
        migrated = sam.invoke("Migrate", ROOT / "events" / "migrate.json")
        if migrated.returncode or "errorMessage" in migrated.stdout:
            print(migrated.stdout, migrated.stderr, sep="\n", file=sys.stderr)
            return 1
        return sam.start_api(int(os.environ.get("PORT") or "3000")).wait()
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 0


def invoke(sam: Sam, function: str) -> int:
    """Run one function on its sample event and print its response; the exit code."""
    event = sample_event(function)
    if not event.exists():
        print(f"There is no sample event for {function}: see events/ for the functions that have one.", file=sys.stderr)
        return 1
    done = sam.invoke(function, event)
    print(done.stderr, file=sys.stderr)
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
