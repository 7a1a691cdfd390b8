"""`python -m benchmarks`: measures, prints and keeps. `python -m benchmarks check`: measures, and compares with what is
kept. SIZE=10k, 100k, 1M (the default) or 10M says how many records; smaller sizes are measured as well."""

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import RESULTS, ROOT, report, suite
from benchmarks.measure import Figure, Figures, Key
from local import LocalError
from local.postgres import Postgres

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def main(arguments: list[str]) -> int:
    """Runs the command; its exit code."""
    checking = arguments == ["check"]
    wanted = os.environ.get("SIZE") or "1M"
    names = {report.size_name(size): size for size in SIZES}
    if wanted not in names or not (checking or not arguments):
        print(f"usage: SIZE={'|'.join(names)} python -m benchmarks [check]", file=sys.stderr)
        return 2
    if checking and not (RESULTS / f"{wanted}.json").exists():
        print(
            f"There is no kept table of {wanted} to compare with: run `make bench SIZE={wanted}` first.",
            file=sys.stderr,
        )
        return 2
    try:
        sizes = run([size for size in SIZES if size <= names[wanted]])
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.as_text(sizes))
    if checking:
        found = report.regressions(sizes, RESULTS)
        print("\n".join(["Worse than the kept table:", *found]) if found else "No worse than the kept table.")
        return 1 if found else 0
    report.keep(sizes, RESULTS)
    print(f"Kept as {RESULTS.relative_to(ROOT) / wanted}.json, .md and .svg.")
    return 0


def run(sizes: list[int]) -> dict[int, Figures]:
    """Measures every size on a PostgreSQL of its own, which is removed afterwards. Raises LocalError."""
    started = time.monotonic()

    def say(key: Key, figure: Figure) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(
            f"{minutes:3}:{seconds:02}  {figure.median_ms:12,.2f} ms  {' · '.join(filter(None, key))}", file=sys.stderr
        )

    with tempfile.TemporaryDirectory(prefix="dedup-benchmarks-") as name:
        folder = Path(name)
        postgres = Postgres(folder / "postgres", log=folder / "postgres.log")
        try:
            postgres.start()
            found = {}
            databases: suite.Databases = {}
            for size in sizes:
                print(f"{size:,} records", file=sys.stderr)
                found[size] = suite.measure(size, postgres, folder, databases, say, whole=size == sizes[-1])
        except Exception:
            print(_end_of(folder / suite.LOG), file=sys.stderr)
            raise
        finally:
            postgres.remove()
    return found


def _end_of(log: Path) -> str:
    """What the services said last."""
    return log.read_text(errors="replace")[-4000:] if log.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
