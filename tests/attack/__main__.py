"""`make attack MINUTES=2 SEED=1`: attacks a new stack, prints what it finds, and exits with 1 if that is anything.

CAMPAIGNS selects campaigns. STEPS limits the operations or requests of each, instead of MINUTES. A failed history is
printed as a list of operations; REPLAY is the path of a file with such a list.
"""

import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack import histories, hostile, skew
from tests.attack.stack import Finding, Stack

CAMPAIGNS: dict[str, Callable[[Path, str, float, int], str]] = {
    "histories": histories.campaign,
    "skew": skew.campaign,
    "hostile": hostile.campaign,
}

UNBOUNDED = float("inf")

LOG_LINES = 12
"""Lines of each log that are printed with a finding."""


def main() -> int:
    """Runs the campaigns in CAMPAIGNS for MINUTES in total. The exit code is 1 if one of them found something."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    minutes = float(os.environ.get("MINUTES") or "2")
    seed = os.environ.get("SEED") or str(secrets.randbelow(10**9))
    names = [name for name in (os.environ.get("CAMPAIGNS") or ",".join(CAMPAIGNS)).split(",") if name]
    if unknown := [name for name in names if name not in CAMPAIGNS]:
        print(f"CAMPAIGNS: {unknown[0]} is none of {', '.join(CAMPAIGNS)}", file=sys.stderr)
        return 2
    most = int(os.environ.get("STEPS") or "0")
    print(f"SEED={seed} MINUTES={minutes:g} CAMPAIGNS={','.join(names)}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    logging.basicConfig(filename=folder / "attack.log")
    try:
        if os.environ.get("REPLAY"):
            return replay(folder, seed, json.loads(Path(os.environ["REPLAY"]).read_text(encoding="utf-8")))
        found = 0
        for name in names:
            until = time.monotonic() + minutes * 60 / len(names)
            found += attack(name, folder / name, seed, until, most)
        return int(found > 0)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def attack(name: str, folder: Path, seed: str, until: float, most: int) -> bool:
    """Runs one campaign until the time `until`, or for `most` steps, and prints its result. Returns whether it found
    something."""
    begun = time.monotonic()
    try:
        told = CAMPAIGNS[name](folder, seed, UNBOUNDED if most else until, most or sys.maxsize)
    except Finding as finding:
        print(f"{name}: FOUND with SEED={seed}: {finding}\n{ends(folder)}", flush=True)
        return True
    print(f"{name}: {told}, in {time.monotonic() - begun:.0f} s: nothing found", flush=True)
    return False


def ends(folder: Path) -> str:
    """The last LOG_LINES lines of each log of a stack."""
    logs = [folder.parent / "attack.log", *sorted((folder / "log").glob("*.log"))]
    return "".join(
        f"{log.name}: {line}\n"
        for log in logs
        if log.exists()
        for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    )


def replay(folder: Path, seed: str, operations: list[Any]) -> int:
    """Repeats a history; the exit code."""
    with Stack(folder / "replay", histories.sources_for(seed)) as stack:
        try:
            histories.run(stack, f"{seed}-replay", operations, UNBOUNDED)
        except Finding as finding:
            print(f"replay: FOUND: {finding}", flush=True)
            return 1
    print(f"replay: {len(operations)} operations: nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
