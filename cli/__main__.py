"""The command `dedup`: customers, uploads, matching, exports and the report, from a terminal."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer
from rich.prompt import Prompt

from . import mapping as mappings
from . import run_commands as runs
from . import screen, session
from . import upload_commands as uploads
from .api import Api, as_json, open_output, read_file
from .errors import CommandError
from .options import (
    FIELDS,
    NOTHING,
    UPLOADS,
    By,
    ByOption,
    Dates,
    DryRun,
    Format,
    Ids,
    In,
    Json,
    Keep,
    Known,
    Latest,
    Mode,
    NotIn,
    Output,
    Preview,
    Region,
    Rejects,
    ReportFormat,
    Save,
    Verdict,
    Wait,
)
from .screen import err, out
from .session import api
from .uploads import end, require_done, same_content, show, wait_for

RECORD = ("id", "source", "customer_id", "name", "email")
FURTHER = ("modified_at", "emails", "phones", "attributes")
"""Fields of a record that are shown if a record has them."""

MEDIA = {
    "html": "text/html",
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FIRST_IDS = 10
FIRST_REGIONS = 100

app = typer.Typer(
    name="dedup",
    help="Count, compare and match the customers of several sources.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done; 1 the upload, run or export failed; 2 invalid command line; 3 request refused; "
    "4 no usable response; 5 the snapshot is held; 130 interrupted. The address of the API is DEDUP_URL, otherwise the "
    "url of a profile in ~/.config/dedup/config.toml, otherwise http://127.0.0.1:3000.",
)

app.add_typer(uploads.app, name="uploads")
app.add_typer(runs.app, name="runs")


@app.callback()
def options(
    name: Annotated[
        str | None, typer.Option("--profile", envvar="DEDUP_PROFILE", help="Profile in the configuration file.")
    ] = None,
) -> None:
    """Count, compare and match the customers of several sources."""
    session.select(name)


@app.command()
def upload(
    file: Path,
    source: Annotated[str, typer.Option(help="Source of rows that name none. Default: guessed.")] = "",
    mode: Annotated[
        Mode,
        typer.Option(
            help="replace: the file is a snapshot of the source; upsert: each row replaces the record with its id."
        ),
    ] = "add",
    sheet: Annotated[str, typer.Option(help="Sheet of a workbook. Default: the first with a table.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Reject rows whose email is not a valid address.")] = False,
    wait: Wait = 30,
    rejects: Rejects = None,
    fields: Annotated[list[str], typer.Option("--map", **FIELDS)] = NOTHING,
    keep: Keep = NOTHING,
    date_order: Dates = None,
    ids: Ids = "",
    save: Save = False,
    preview: Preview = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Upload a file, and wait until it is loaded."""
    changes = mappings.Changes(fields, keep, date_order, ids, source, save)
    size, sha256 = read_file(file)
    options = {"sheet": sheet or None, "strict": strict, "sha256": sha256, "dry_run": dry_run}
    request = {"filename": file.name, "source": source or None, "mode": mode, "size": size, **options}
    client = api()
    if changes or preview:
        request["review_mapping"] = True
    expected = client.post(UPLOADS[mode], request)
    for warning in expected["warnings"] if not json else ():
        err.print(f"{same_content(warning)}. It is loaded again")
    with screen.transfer() as progress, progress.open(file, "rb", description="sending") as body:
        client.send(body, expected["url"])
    task = wait_for(client, expected["id"], wait)
    if preview:
        mappings.preview(client, task, changes, json=json)
        return
    if changes and task["status"] == "needs_mapping":
        mappings.state(client, task, changes)
        task = wait_for(client, expected["id"], wait)
    end(client, task, rejects, json)


@app.command()
def mapping(
    upload_id: int,
    fields: Annotated[list[str], typer.Option("--set", **FIELDS)] = NOTHING,
    keep: Keep = NOTHING,
    date_order: Dates = None,
    ids: Ids = "",
    source: Annotated[str, typer.Option(help="Source of the rows, if the upload has none.")] = "",
    save: Save = False,
    accept: Annotated[bool, typer.Option("--accept", help="Load the file with the proposed mapping.")] = False,
    preview: Preview = False,
    wait: Wait = 30,
    rejects: Rejects = None,
    json: Json = False,
) -> None:
    """Show the column mapping of an upload; with options, state it and load the file."""
    changes = mappings.Changes(fields, keep, date_order, ids, source, save)
    client = api()
    task = client.get(f"uploads/{upload_id}")
    if preview:
        mappings.preview(client, task, changes, json=json)
    elif changes or accept:
        mappings.state(client, task, changes)
        end(client, wait_for(client, upload_id, wait), rejects, json)
    elif json:
        print(as_json(task))
    else:
        mappings.show(task)


@app.command()
def upload_status(upload_id: int, rejects: Rejects = None, json: Json = False) -> None:
    """Show an upload: its status, why rows were rejected, and warnings."""
    client = api()
    show(client, client.get(f"uploads/{upload_id}"), rejects, json)


@app.command()
def analyze(
    by: ByOption = "customer",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of ids.")] = 1000,
    json: Json = False,
) -> None:
    """Count customers and duplicate records."""
    _fields("analyze", api().get("deduplication/analyze", limit=limit, by=_by(by)), json)


@app.command()
def compare(
    by: ByOption = "customer",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of ids in each list.")] = 1000,
    json: Json = False,
) -> None:
    """List customers in every source, and in only one."""
    response = api().get("deduplication/compare-sources", limit=limit, by=_by(by))
    if json:
        print(as_json(response))
        return
    prefix, suffix = "only_in_", "_count"
    sources = [name.removeprefix(prefix) for name in response if name.startswith(prefix) and not name.endswith(suffix)]
    found = [
        {
            "source": source,
            "customers": response[f"{source}_count"],
            "in no other": response[f"only_in_{source}_count"],
            "first ids": response[f"only_in_{source}"][:FIRST_IDS],
        }
        for source in sources
    ]
    screen.rows("compare", found, ("source", "customers", "in no other", "first ids"))
    out.print(f"In every source: {response['in_all_sources_count']:,}")


@app.command()
def regions(
    by: ByOption = "customer",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number, the largest first. Default: 100 in the table, all as JSON."),
    ] = None,
    json: Json = False,
) -> None:
    """Count the customers of each region: those in exactly these sources."""
    client = api()
    most = limit or (sys.maxsize if json else FIRST_REGIONS)
    found, total = client.items("deduplication/regions", most, by=_by(by))
    if json:
        print(as_json(found))
        return
    shown = customers = sum(region["count"] for region in found)
    if len(found) < total:
        customers = client.get("deduplication/analyze", limit=1, by=_by(by))["unique_customers"]
    screen.bars(found, customers)
    if len(found) < total:
        err.print(f"{len(found):,} of {total:,} regions, with {shown:,} of {customers:,} customers")


@app.command()
def customers(
    within: In = "",
    not_in: NotIn = "",
    region: Region = "",
    by: ByOption = "customer",
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of ids.")] = None,
    json: Json = False,
) -> None:
    """Print the ids of customers in some sources and not in others, one per line."""
    query = {"in_": within, "not_in": not_in, "region": region, "by": _by(by)}
    left = sys.maxsize if limit is None else limit
    first = True
    for page in api().pages("deduplication/customers", limit=min(left, 10_000), **query):
        ids = page["customer_ids"][:left]
        if json:
            # Streamed, since memory may not hold all ids.
            opening = f'{{"count": {page["count"]}, "customer_ids": [' if first else ", " if ids else ""
            print(opening + ", ".join(map(as_json, ids)), end="")
        else:
            print("".join(f"{customer_id}\n" for customer_id in ids), end="")
        first, left = False, left - len(ids)
        if not left:
            break
    if json:
        print("]}")
    else:
        err.print(f"{page['count']:,} customers")


@app.command()
def customer(customer_id: str, json: Json = False) -> None:
    """Show the records of one customer in all sources."""
    response = api().get(f"customers/{quote(customer_id, safe='')}")
    if json:
        print(as_json(response))
    else:
        records = response["records"]
        further = [name for name in FURTHER if any(record.get(name) for record in records)]
        screen.rows(f"customer {customer_id}", records, (*RECORD, "created_at", *further))


@app.command()
def match(
    model_of: Annotated[
        int | None, typer.Option(min=1, help="Use the settings and the model version of this run; train no model.")
    ] = None,
    activate: Annotated[bool, typer.Option(help="Make the run the active run when it is done.")] = True,
    json: Json = False,
) -> None:
    """Start a matching run, and wait until it is done."""
    client = api()
    request = {"activate": activate} | ({} if model_of is None else {"model_of": model_of})
    started = client.post("matching/runs", request, Idempotency_Key=str(uuid4()))
    with screen.progress_of_task("records") as show:
        run = client.poll(f"matching/runs/{started['id']}", show)
    runs.show(run, json)
    require_done("run", run)


@app.command()
def entity(entity_id: int, json: Json = False) -> None:
    """Show an entity: its records, its golden record, and the evidence that joins the records."""
    response = api().get(f"entities/{entity_id}")
    if json:
        print(as_json(response))
        return
    screen.rows(f"entity {entity_id}, records: {response['total_records']}", response["records"], RECORD)
    golden = [{"field": name, **chosen} for name, chosen in response["golden"].items()]
    screen.rows("golden record", golden, ("field", "value", "source", "rule"))
    screen.rows("evidence", response["edges"], ("record_a", "record_b", "rule", "probability"))


@app.command()
def lookup(
    name: Known = "",
    email: Known = "",
    phone: Known = "",
    company: Known = "",
    address: Known = "",
    city: Known = "",
    postcode: Known = "",
    country: Known = "",
    date_of_birth: Known = "",
    source: Known = "",
    customer_id: Known = "",
    json: Json = False,
) -> None:
    """Find entities that match the given details. Nothing is written."""
    details = {
        "name": name,
        "email": email,
        "phone": phone,
        "company": company,
        "address": address,
        "city": city,
        "postcode": postcode,
        "country": country,
        "date_of_birth": date_of_birth,
        "source": source,
        "customer_id": customer_id,
    }
    given = {field: value for field, value in details.items() if value not in ("", None)}
    response = api().post("entities/lookup", given)
    if json:
        print(as_json(response))
        return
    found = [one | {field: one["golden"].get(field) for field in ("name", "email")} for one in response["matches"]]
    screen.rows("matches", found, ("entity_id", "probability", "rule", "name", "email"))


@app.command()
def decide(
    record_a: int,
    record_b: int,
    verdict: Verdict,
    note: Annotated[str | None, typer.Option(help="Reason of the decision.")] = None,
    json: Json = False,
) -> None:
    """Decide whether two records belong to the same entity."""
    _fields("decision", _decide(api(), record_a, record_b, verdict, note), json)


@app.command()
def review(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of pairs.")] = 20, json: Json = False
) -> None:
    """Review pairs one after the other, the most uncertain first."""
    client = api()
    pairs = client.get("matching/review", limit=limit)
    if json:
        print(as_json(pairs))
        return
    for pair in pairs:
        records = [pair["record_a"], pair["record_b"]]
        probability = pair["probability"]
        title = "matched by a rule" if probability is None else f"match probability: {probability:.1%}"
        screen.rows(title, records, RECORD)
        answer = Prompt.ask("Same, different, next or quit?", choices=["s", "d", "n", "q"], default="n", console=out)
        if answer == "q":
            return
        if answer != "n":
            verdict: Verdict = "same" if answer == "s" else "different"
            _decide(client, records[0]["id"], records[1]["id"], verdict, None)
    out.print(f"End of the list. Pairs shown: {len(pairs)}." if pairs else "No pairs to review.")


@app.command()
def export(
    within: In = "",
    not_in: NotIn = "",
    region: Region = "",
    by: ByOption = "customer",
    form: Annotated[Format, typer.Option("--format")] = "csv",
    output: Output = None,
    json: Json = False,
) -> None:
    """Write the customers of a set question, with their records, to a file."""
    question = {"in": within, "not_in": not_in, "region": region}
    request = {name: sources.split(",") for name, sources in question.items() if sources} | {"format": form, "by": by}
    client = api()
    started = client.post("exports", request, Idempotency_Key=str(uuid4()))
    with screen.progress_of_task("rows") as show:
        task = client.poll(f"exports/{started['id']}", show)
    require_done("export", task)
    path = output or Path(f"export-{task['id']}.{form}")
    with screen.transfer() as progress, open_output(path) as file:
        bar = progress.add_task("receiving", total=task["bytes"])
        client.fetch(task["url"], file, lambda moved: progress.advance(bar, moved))
    _print_written(path, json, task)


@app.command()
def exports(limit: Latest = 20, json: Json = False) -> None:
    """List recent exports."""
    _list("exports", limit, ("id", "status", "format", "rows", "bytes", "created_at", "reason"), json)


@app.command()
def report(
    form: Annotated[ReportFormat, typer.Option("--format")] = "html",
    output: Output = None,
    keep: Annotated[bool, typer.Option("--keep", help="Store the figures as the next report's baseline.")] = False,
    json: Json = False,
) -> None:
    """Write the report: totals, regions, completeness of each source, changes, and the rules of the active run."""
    client = api()
    content = client.raw("deduplication/report", format=form, accept=MEDIA[form])
    path = output or Path(f"report.{form}")
    with open_output(path) as file:
        file.write(content)
    kept = client.post("deduplication/reports") if keep else None
    _print_written(path, json, {"bytes": len(content), "kept": kept})


def _by(by: By) -> str | None:
    return by if by == "entity" else None


def _decide(client: Api, record_a: int, record_b: int, verdict: Verdict, note: str | None) -> Any:
    # What is asked next shall show the decision.
    return client.post(
        "matching/decisions",
        {"record_ids": [record_a, record_b], "verdict": verdict, "note": note},
        Prefer="wait=10",
    )


def _fields(title: str, response: dict[str, Any], json: bool) -> None:
    if json:
        print(as_json(response))
    else:
        short = {
            k: [*v[:FIRST_IDS], "…"] if isinstance(v, list) and len(v) > FIRST_IDS else v for k, v in response.items()
        }
        screen.fields(title, short)


def _list(path: str, limit: int, columns: tuple[str, ...], json: bool) -> None:
    found = api().get(path, limit=limit)
    if json:
        print(as_json(found))
    else:
        screen.rows(path, found, columns)


def _print_written(path: Path, json: bool, response: dict[str, Any]) -> None:
    if str(path) == "-":
        return
    if json:
        print(as_json(response | {"file": str(path)}))
    else:
        out.print(f"{path}: {response['bytes']:,} bytes", soft_wrap=True)


def main() -> None:
    """Run the command. An error is one line on standard error, and an exit code."""
    # Instead of KeyboardInterrupt, for which Typer prints a message of its own.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    try:
        app()
    except CommandError as error:
        err.print(screen.safe(error), soft_wrap=True)
        sys.exit(error.code)
    except BrokenPipeError:
        # The reader has closed the pipe. Python must not write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
