"""The command `dedup runs`: the list of matching runs, making one the active run, and how far it is up to date."""

from collections.abc import Mapping
from typing import Any

import typer

from . import screen
from .api import as_json
from .options import Json, Latest
from .session import api

app = typer.Typer(invoke_without_command=True)


@app.callback()
def runs(context: typer.Context, limit: Latest = 20, json: Json = False) -> None:
    """List recent matching runs, activate one, or show how far the active one is up to date."""
    if context.invoked_subcommand:
        return
    found = api().get("matching/runs", limit=limit)
    if json:
        print(as_json(found))
    else:
        columns = ("id", "status", "active", "kept", "model", "records", "entities", "created_at", "reason")
        screen.rows("runs", [run | {"model": (run["model"] or {}).get("version")} for run in found], columns)


@app.command()
def activate(run_id: int, json: Json = False) -> None:
    """Make a run that is done the active run, brought up to date with what changed since."""
    show(api().post(f"matching/runs/{run_id}/activate"), json)


@app.command()
def status(json: Json = False) -> None:
    """Show how far the entities of the active run are up to date."""
    found = api().get("matching/status")
    if json:
        print(as_json(found))
    else:
        screen.fields("active run", found)


def show(run: Mapping[str, Any], json: bool) -> None:
    """Prints a run."""
    if json:
        print(as_json(run))
        return
    fields = ("status", "reason", "active", "engine", "records", "pairs", "entities")
    known = {name: run[name] for name in fields if run.get(name) is not None}
    screen.fields(f"run {run['id']}", known | {"seconds": screen.seconds(run)})
