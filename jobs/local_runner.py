"""Runs jobs as processes of this machine, for stacks without EMR Serverless. BATCH_RUNNER is the path of this file.

`run` starts `python -m jobs.local_runner MODULE ARGUMENTS` in a process group of its own. Its standard input is a pipe
whose other end is held by the caller: it ends with the caller, also after a kill -9 (see dedup.lifeline). Functions
load this file by its path, without the package, so that it imports nothing else of jobs/."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dedup.lifeline import end_with_input

ROOT = Path(__file__).resolve().parents[1]


def run(module: str, arguments: Sequence[str], seconds: float) -> str | None:
    """Runs a module of jobs/ as `python -m` would, for so many seconds at most, and ends every process that it started.
    Returns the last line of its standard error if it failed, otherwise None."""
    command = [sys.executable, "-m", "jobs.local_runner", module, *arguments]
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            text=True,
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            log = process.communicate(timeout=seconds)[1]
        finally:
            # Spark's Java process is in the same group.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    except subprocess.TimeoutExpired:
        return "It took longer than the function's timeout"
    finally:
        os.close(reading)
        os.close(writing)
    reason = log.strip().rpartition("\n")[2]
    return (reason or f"The process ended with {process.returncode}")[:1_000] if process.returncode else None


def main() -> None:
    """The started process: runs the module that the first argument names, until the caller ends."""
    end_with_input()
    del sys.argv[0]
    runpy.run_module(f"jobs.{sys.argv[0]}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
