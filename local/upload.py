"""`make upload FILE=path SOURCE=hubspot`: sends a file to the API that runs here, and prints what became of it."""

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table

POLL_SECONDS = 0.2
ENDED = ("done", "failed", "deleted")
SHOWN = ("status", "reason", "mode", "source", "object_key", "rows", "accepted", "rejected", "came", "went", "stayed")


class Refused(Exception):
    """The file can't be uploaded; the text is the one sentence that says why."""


def main() -> int:
    """Upload FILE, of SOURCE and in MODE where these are given; the exit code is 1 when it did not end well."""
    base = f"http://127.0.0.1:{os.environ.get('PORT') or '3000'}/api/v1"
    try:
        account = upload(base, os.environ.get("FILE", ""), os.environ.get("SOURCE"), os.environ.get("MODE"))
    except KeyboardInterrupt:
        return 130
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except requests.RequestException as error:
        print(f"The API at {base} does not answer ({type(error).__name__}): is `make run` running?", file=sys.stderr)
        return 1
    _print(account)
    return 0 if account["status"] == "done" else 1


def upload(base: str, file: str, source: str | None, mode: str | None) -> dict[str, Any]:
    """Send the file and wait until it was loaded; its account. Raises Refused and requests.RequestException."""
    path = Path(file)
    if not path.is_file():
        raise Refused(f"There is no file {file}." if file else "FILE is missing: make upload FILE=path SOURCE=hubspot")
    wish = {"filename": path.name, "source": source or None, "mode": mode or "add", "size": path.stat().st_size}
    expected = _answer(requests.post(f"{base}/uploads", json=wish, timeout=30))
    _send(path, expected["url"])
    return _follow(f"{base}/uploads/{expected['id']}")


def _send(path: Path, url: str) -> None:
    with (
        Progress(TextColumn("sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn()) as progress,
        # A file, and not its bytes: it is read piece by piece.
        progress.open(path, "rb") as body,
    ):
        answer = requests.put(url, data=body, timeout=(10, 600))
    if not answer.ok:
        raise Refused(f"The local S3 refused the file ({answer.status_code}): {answer.text}")


def _follow(url: str) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} rows"))
    with Progress(*columns, TimeElapsedColumn()) as progress:
        task = progress.add_task("waiting", total=None)
        while True:
            account = _answer(requests.get(url, timeout=30))
            progress.update(task, description=account["status"], completed=account["rows"])
            if account["status"] in ENDED:
                progress.update(task, total=account["rows"])
                return account
            time.sleep(POLL_SECONDS)


def _answer(response: requests.Response) -> dict[str, Any]:
    answer: dict[str, Any] = response.json()
    if not response.ok:
        detail = answer.get("detail") or answer.get("title") or answer.get("message")
        if isinstance(detail, list):
            detail = "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in detail)
        raise Refused(f"The API refused it ({response.status_code}): {detail}")
    return answer


def _print(account: dict[str, Any]) -> None:
    table = Table("field", "answer", title=f"upload {account['id']}", title_justify="left", min_width=60)
    for field in SHOWN:
        if account[field] is not None:
            table.add_row(field, str(account[field]))
    if account["started_at"] and account["finished_at"]:
        started, finished = (datetime.fromisoformat(account[name]) for name in ("started_at", "finished_at"))
        table.add_row("seconds", f"{(finished - started).total_seconds():.2f}")
    console = Console()
    console.print(table)
    if account["rejected_url"]:
        # Whole, on a line of its own: a table would break it.
        console.print(f"rejected rows: {account['rejected_url']}", soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    sys.exit(main())
