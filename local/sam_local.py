"""`make sam-local`: the functions in SAM CLI's containers, as near to Lambda as a laptop comes. `make invoke
FUNCTION=Analyze`, after it, runs one of them on its sample event.

docker-compose.yml's PostgreSQL is up by then. `make test-sam-local` uses the same commands, on embedded PostgreSQL.
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
"""What the functions are told of docker-compose.yml."""


def engine() -> str | None:
    """The address at which containers reach this machine's network, or None where no container engine answers."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


class Sam:
    """SAM CLI's commands for this machine's architecture, with what the functions are told of it in a file: what the
    template says, the queues' addresses, and over it `environment`."""

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
        """Build the layer and every function but those that are named. Needs python3.13, and the images' registry for
        functions in images. Raises subprocess.CalledProcessError."""
        excluded = [part for name in without for part in ("--exclude", name)]
        subprocess.run([*_sam("build"), *excluded, *self._parameters], cwd=ROOT, env=self._environment, check=True)

    def invoke(self, function: str, event: Path) -> subprocess.CompletedProcess[str]:
        """Run the function on an event; its answer is the output's last line, its log is on standard error."""
        return subprocess.run(
            [*_sam("local", "invoke", function), "--event", event, *self._options],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )

    def start_api(self, port: int) -> subprocess.Popen[bytes]:
        """Serve the API on `port` until the process gets SIGTERM."""
        command = [*_sam("local", "start-api"), "--port", str(port), "--warm-containers", "LAZY", *self._options]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment)

    @property
    def _options(self) -> list[str]:
        # An image that is there is used as it is; one that is not is fetched all the same.
        network = ["--add-host", f"{HOST}:{engine()}", "--skip-pull-image"]
        return ["--env-vars", str(self._variables), *network, *self._parameters]


def _named(function: Function) -> dict[str, str]:
    """A function's variables, but for those that Lambda sets itself."""
    return {
        name: value
        for name, value in function.environment.items()
        if not name.startswith("AWS_") or name == "AWS_ENDPOINT_URL"
    }


def _sam(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("sam")), *arguments]


def main() -> int:
    """Build, migrate, and serve until interrupted, or run the function that is named; the exit code."""
    if not engine():
        print("No container engine answers: start Docker first.", file=sys.stderr)
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
    """Run one function on its sample event and print its answer; the exit code."""
    event = sample_event(function)
    if not event.exists():
        print(f"There is no function {function}: events/ has one event for each.", file=sys.stderr)
        return 1
    done = sam.invoke(function, event)
    print(done.stderr, file=sys.stderr)
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
