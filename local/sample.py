"""`make sample`: loads the sample records into the API that runs here, and prints what it answers as tables."""

import os
import sys

import requests
from rich.console import Console
from rich.table import Table

from local import ROOT

SAMPLE = ROOT / "samples" / "customers.json"


def main() -> int:
    """Load and print; the exit code is 1 when no API answers."""
    base = f"http://127.0.0.1:{os.environ.get('PORT') or '3000'}/api/v1"
    try:
        uploaded = _call("POST", f"{base}/customers/bulk", SAMPLE.read_bytes())
        analysis = _call("GET", f"{base}/deduplication/analyze")
        comparison = _call("GET", f"{base}/deduplication/compare-sources")
    except requests.RequestException as error:
        print(f"The API at {base} does not answer ({type(error).__name__}): is `make run` running?", file=sys.stderr)
        return 1
    print(uploaded["message"])
    _print("analyze", analysis)
    _print("compare-sources", comparison)
    return 0


def _call(method: str, url: str, body: bytes | None = None) -> dict[str, object]:
    response = requests.request(method, url, data=body, headers={"Content-Type": "application/json"}, timeout=30)
    response.raise_for_status()
    answer: dict[str, object] = response.json()
    return answer


def _print(title: str, answer: dict[str, object]) -> None:
    table = Table("field", "answer", title=title, title_justify="left", min_width=60)
    for field, value in answer.items():
        table.add_row(field, ", ".join(map(str, value)) or "—" if isinstance(value, list) else str(value))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
