"""The command `dedup uploads`: the list of uploads, and decisions about those that wait for one."""

from typing import Annotated

import typer

from . import screen
from .api import as_json
from .errors import CommandError
from .options import Json, Latest, Rejects, Wait
from .screen import out
from .session import api
from .uploads import CUSTOMERS, UNDECIDED, columns_of, end, wait_for

app = typer.Typer(invoke_without_command=True)


@app.callback()
def uploads(context: typer.Context, limit: Latest = 20, json: Json = False) -> None:
    """List recent uploads, or decide about one."""
    if context.invoked_subcommand:
        return
    columns = ("id", "status", "source", "mode", "rows", "accepted", "rejected", *CUSTOMERS, "created_at", "reason")
    found = api().get("uploads", limit=limit)
    if json:
        print(as_json(found))
    else:
        screen.rows("uploads", list(map(columns_of, found)), columns)


@app.command()
def apply(upload_id: int, wait: Wait = 30, rejects: Rejects = None, json: Json = False) -> None:
    """Load the file of a preview, if nothing has changed since, and wait until it is loaded."""
    _continue(upload_id, "apply", wait, rejects, json)


@app.command()
def release(upload_id: int, wait: Wait = 30, rejects: Rejects = None, json: Json = False) -> None:
    """Load a snapshot that is held, and wait until it is loaded."""
    _continue(upload_id, "release", wait, rejects, json)


@app.command()
def discard(upload_id: Annotated[int, typer.Argument()], json: Json = False) -> None:
    """Delete an upload that waits for a decision, without loading it."""
    client = api()
    status = client.get(f"uploads/{upload_id}")["status"]
    if status not in UNDECIDED:
        raise CommandError(f"The upload does not wait for a decision: its status is {status}")
    response = client.delete(f"uploads/{upload_id}")
    if json:
        print(as_json(response))
    else:
        out.print(f"Upload {upload_id} is discarded")


def _continue(upload_id: int, decision: str, wait: float, rejects: Rejects, json: Json) -> None:
    client = api()
    client.post(f"uploads/{upload_id}/{decision}")
    end(client, wait_for(client, upload_id, wait), rejects, json)
