"""What the commands about uploads print, and the file of rejected rows that they save."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import mapping, screen
from .api import Api, as_json, open_output
from .errors import FAILED, HELD, CommandError
from .screen import err, out

CUSTOMERS = ("customers_added", "customers_new", "customers_removed", "customers_unchanged")
RECORDS = ("records_added", "records_changed", "records_removed", "records_unchanged")
COMPARED = ("previewed", "held")
"""The statuses of an upload that was compared with the records and not loaded."""

UNDECIDED = ("needs_mapping", *COMPARED)
"""The statuses of an upload that waits for a decision."""

CHANGE = ("id", "source", "customer_id", "field", "value", "new value")
STORED = ("created_at", "updated_at")
FIRST_EXAMPLES = 10
"""Examples of each kind in a table."""

FIELDS = ("status", "reason", "mode", "source", "object_key", "rows", "accepted", "rejected", *CUSTOMERS, *RECORDS)


def columns_of(upload: Mapping[str, Any]) -> dict[str, Any]:
    """The upload's fields, with its customers and records as fields of their own."""
    fields = screen.flat(screen.flat(upload, "customers"), "records")
    if upload["source_guessed"]:
        fields["source"] = f"{upload['source']} (guessed)"
    return fields


def show(client: Api, upload: Mapping[str, Any], rejects: Path | None, json: bool) -> None:
    """Prints the upload's status, the reasons for rejection and the warnings, each grouped. With `rejects`, saves its
    rejected rows to this file; - is standard output, to which nothing else is printed then. Raises CommandError."""
    saved = bool(rejects and upload["rejected_url"])
    if rejects and saved:
        with open_output(rejects) as file:
            client.fetch(upload["rejected_url"], file, lambda moved: None)
    if str(rejects) == "-":
        return
    if json:
        print(as_json({**upload, "file": str(rejects)} if saved else upload))
        return
    fields = columns_of(upload)
    known = {name: fields[name] for name in FIELDS if fields.get(name) is not None}
    title = f"upload {upload['id']}"
    if upload["status"] in COMPARED:
        title += ", not loaded: the figures say what it would do"
    screen.fields(title, known | {"seconds": screen.seconds(upload)})
    for title, name in (("reasons for rejection", "reasons"), ("warnings", "warnings")):
        if upload[name]:
            screen.rows(title, list(map(_finding, upload[name])), ("field", "reason", "rows", "line"))
    if saved:
        out.print(f"{rejects}: {upload['rejected']:,} rejected rows", soft_wrap=True)
    elif upload["rejected_url"]:
        out.print(f"Save the rejected rows: dedup upload-status {upload['id']} --rejects FILE", soft_wrap=True)
    elif rejects:
        out.print(f"No rejected rows: {rejects} was not written", soft_wrap=True)


def end(client: Api, upload: Mapping[str, Any], rejects: Path | None, json: bool) -> None:
    """Prints an upload that is at rest, with examples if it is previewed or held. Raises CommandError if it is not
    loaded, unless that is what was asked for."""
    if upload["status"] in COMPARED:
        _show_undecided(client, upload, json)
        return
    show(client, upload, rejects, json)
    if upload["status"] == "needs_mapping":
        raise mapping.needed(upload, show_columns=not json)
    require_done("upload", upload)


def require_done(name: str, task: Mapping[str, Any]) -> None:
    """Raises CommandError if a task failed or was deleted."""
    if task["status"] == "deleted":
        raise CommandError(f"The {name} was deleted", FAILED)
    if task["status"] != "done":
        raise CommandError(f"The {name} failed: {task.get('reason') or 'no reason was given'}", FAILED)


def wait_for(client: Api, upload_id: int, minutes: float) -> dict[str, Any]:
    """The upload, when it has ended or waits for a decision. Raises CommandError after so many minutes without
    progress."""
    with screen.progress_of_task("rows") as progress:
        upload: dict[str, Any] = client.poll(f"uploads/{upload_id}", progress, minutes * 60)
    return upload


def _show_undecided(client: Api, upload: Mapping[str, Any], json: bool) -> None:
    """Prints what an upload that is previewed or held would do. Raises CommandError if it is held."""
    number, examples = upload["id"], client.get(f"uploads/{upload['id']}/examples")
    if json:
        print(as_json({**upload, "examples": examples}))
    else:
        show(client, upload, None, json)
        _show_examples(upload, examples)
    if upload["status"] == "held":
        raise CommandError(
            f"Held, nothing is loaded yet. {upload['reason']}. To load it: `dedup uploads release {number}`. To "
            f"discard it: `dedup uploads discard {number}`",
            HELD,
        )
    err.print(f"Nothing is loaded yet. To load the file: dedup uploads apply {number}", soft_wrap=True)


def _show_examples(upload: Mapping[str, Any], examples: Mapping[str, list[dict[str, Any]]]) -> None:
    changed = [
        {**record, "field": field, "value": change["from"], "new value": change["to"]}
        for record in examples["changed"][:FIRST_EXAMPLES]
        for field, change in record["changes"].items()
    ]
    for kind, rows in {**examples, "changed": changed}.items():
        if rows:
            count, shown = upload["records"][kind], len(examples[kind][:FIRST_EXAMPLES])
            title = f"records to be {kind}: {count:,}" + (f", of which {shown} are shown" if shown < count else "")
            rows = rows if kind == "changed" else rows[:FIRST_EXAMPLES]
            screen.rows(title, rows, CHANGE if kind == "changed" else _known(rows))


def _known(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields to show of records: those that are not about when they were stored."""
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name not in STORED]


def same_content(warning: Mapping[str, Any]) -> str:
    """The text of a warning that the same content was loaded before."""
    return f"The same content was loaded before: upload {warning['upload_id']}"


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("code") == "same_content":
        return {"field": "whole file", "reason": same_content(found)}
    return {**found, "field": found["field"] or "whole row", "line": found["example_line"]}
