"""What the commands about uploads print, and the file of rejected rows that they save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import screen
from .api import Api, as_json, open_output
from .screen import out

CUSTOMERS = ("customers_added", "customers_new", "customers_removed", "customers_unchanged")
RECORDS = ("records_added", "records_changed", "records_removed", "records_unchanged")
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
    screen.fields(f"upload {upload['id']}", known | {"seconds": screen.seconds(upload)})
    for title, name in (("reasons for rejection", "reasons"), ("warnings", "warnings")):
        if upload[name]:
            screen.rows(title, list(map(_finding, upload[name])), ("field", "reason", "rows", "line"))
    if saved:
        out.print(f"{rejects}: {upload['rejected']:,} rejected rows", soft_wrap=True)
    elif upload["rejected_url"]:
        out.print(f"Save the rejected rows: dedup upload-status {upload['id']} --rejects FILE", soft_wrap=True)
    elif rejects:
        out.print(f"No rejected rows: {rejects} was not written", soft_wrap=True)


def same_content(warning: Mapping[str, Any]) -> str:
    """The text of a warning that the same content was loaded before."""
    return f"The same content was loaded before: upload {warning['upload_id']}"


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    if found.get("code") == "same_content":
        return {"field": "whole file", "reason": same_content(found)}
    return {**found, "field": found["field"] or "whole row", "line": found["example_line"]}
