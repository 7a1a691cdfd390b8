"""`dedup`: customers, uploads, matching, exports and the report, from a terminal."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer
from rich.prompt import Prompt

from . import profile, screen
from .api import ENDED_BADLY, Api, Fault, as_json, read_file
from .screen import err, out

CUSTOMERS = ("customers_added", "customers_removed", "customers_unchanged")
UPLOAD = ("status", "reason", "mode", "source", "object_key", "rows", "accepted", "rejected", *CUSTOMERS)
RECORD = ("id", "source", "customer_id", "name", "email")
MEDIA = {
    "html": "text/html",
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FIRST_IDS = 10
FIRST_REGIONS = 100

app = typer.Typer(
    name="dedup",
    help="How many customers there are, who has them, and what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog="Exit codes: 0 done; 1 it ended badly; 2 not understood; 3 refused; 4 no answer; 130 interrupted. "
    "The API is the one at DEDUP_URL, or that of a profile in ~/.config/dedup/config.toml, or the one on this machine.",
)


Mode = Literal["add", "replace"]
By = Literal["customer", "entity"]
Format = Literal["csv", "ndjson", "parquet"]
ReportFormat = Literal["html", "csv", "xlsx"]
Verdict = Literal["same", "different"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
ByOption = Annotated[By, typer.Option(help="Count customer ids, or the persons behind them.")]
In = Annotated[str, typer.Option("--in", metavar="A,B", help="Sources that all have the customer.")]
NotIn = Annotated[str, typer.Option("--not-in", metavar="A,B", help="Sources that none has the customer.")]
Region = Annotated[str, typer.Option("--region", metavar="A,B", help="Sources that have the customer, and no other.")]
Latest = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most, the newest first.")]
Known = Annotated[str, typer.Option(show_default=False)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to write the file; - for standard output.")]

_chosen: list[str | None] = [None]


def api() -> Api:
    """The API of the profile that was named."""
    return Api(profile.read(_chosen[0]))


@app.callback()
def options(
    name: Annotated[str | None, typer.Option("--profile", envvar="DEDUP_PROFILE", help="In the config file.")] = None,
) -> None:
    """How many customers there are, who has them, and what changed."""
    _chosen[0] = name


@app.command()
def upload(
    file: Path,
    source: Annotated[str, typer.Option(help="Whose records these are, where the file does not say.")] = "",
    mode: Annotated[Mode, typer.Option(help="replace: a snapshot, in the place of the source's others.")] = "add",
    wait: Annotated[float, typer.Option(min=0, help="Minutes to wait while nothing changes.")] = 30,
    json: Json = False,
) -> None:
    """Send a file, and wait until it is loaded."""
    wish = {"filename": file.name, "source": source or None, "mode": mode, "size": read_file(file)}
    asked = api()
    expected = asked.post("uploads/snapshots" if mode == "replace" else "uploads", wish)
    with screen.transfer() as progress, progress.open(file, "rb", description="sending") as body:
        asked.send(body, expected["url"])
    with screen.work("rows") as shown:
        account = asked.follow(f"uploads/{expected['id']}", shown, wait * 60)
    if json:
        print(as_json(account))
    else:
        took = {"seconds": screen.seconds(account)}
        told = screen.flat(account, "customers")
        known = {name: told[name] for name in UPLOAD if told.get(name) is not None}
        screen.fields(f"upload {account['id']}", known | took)
        if account["rejected_url"]:
            # Whole, on a line of its own: a table would break it.
            out.print(f"rejected rows: {account['rejected_url']}", soft_wrap=True)
    _ended(account)


@app.command()
def uploads(limit: Latest = 20, json: Json = False) -> None:
    """What became of the latest uploads."""
    columns = ("id", "status", "source", "mode", "rows", "accepted", "rejected", *CUSTOMERS, "created_at", "reason")
    found = api().get("uploads", limit=limit)
    if json:
        print(as_json(found))
    else:
        screen.rows("uploads", [screen.flat(upload, "customers") for upload in found], columns)


@app.command()
def analyze(
    by: ByOption = "customer",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Ids in the answer.")] = 1000,
    json: Json = False,
) -> None:
    """How many customers there are, and how many records are duplicates."""
    _fields("analyze", api().get("deduplication/analyze", limit=limit, by=_by(by)), json)


@app.command()
def compare(
    by: ByOption = "customer",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Ids in each list of the answer.")] = 1000,
    json: Json = False,
) -> None:
    """Whom all sources have, and whom only one has."""
    answer = api().get("deduplication/compare-sources", limit=limit, by=_by(by))
    if json:
        print(as_json(answer))
        return
    prefix, suffix = "only_in_", "_count"
    sources = [name.removeprefix(prefix) for name in answer if name.startswith(prefix) and not name.endswith(suffix)]
    found = [
        {
            "source": source,
            "customers": answer[f"{source}_count"],
            "only there": answer[f"only_in_{source}_count"],
            "first of those": answer[f"only_in_{source}"][:FIRST_IDS],
        }
        for source in sources
    ]
    screen.rows("compare", found, ("source", "customers", "only there", "first of those"))
    out.print(f"In all of them: {answer['in_all_sources_count']:,}")


@app.command()
def regions(
    by: ByOption = "customer",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="How many at most, the largest first; unless told 100 in the table and all as JSON."),
    ] = None,
    json: Json = False,
) -> None:
    """How many customers are in exactly which sources."""
    asked = api()
    most = limit or (sys.maxsize if json else FIRST_REGIONS)
    found, total = asked.items("deduplication/regions", most, by=_by(by))
    if json:
        print(as_json(found))
        return
    shown = customers = sum(region["count"] for region in found)
    if len(found) < total:
        customers = asked.get("deduplication/analyze", limit=1, by=_by(by))["unique_customers"]
    screen.bars(found, customers)
    if len(found) < total:
        err.print(f"{len(found):,} of {total:,} regions, with {shown:,} of {customers:,} customers")


@app.command()
def customers(
    within: In = "",
    not_in: NotIn = "",
    region: Region = "",
    by: ByOption = "customer",
    limit: Annotated[int | None, typer.Option(min=1, help="How many at most.")] = None,
    json: Json = False,
) -> None:
    """The ids of the customers in some sources and not in others, one a line, however many."""
    asked = {"in_": within, "not_in": not_in, "region": region, "by": _by(by)}
    left = sys.maxsize if limit is None else limit
    first = True
    for page in api().pages("deduplication/customers", limit=min(left, 10_000), **asked):
        ids = page["customer_ids"][:left]
        if json:
            # As it comes: there may be more than memory holds.
            opening = f'{{"count": {page["count"]}, "customer_ids": [' if first else ", " if ids else ""
            print(opening + ", ".join(map(str, ids)), end="")
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
def customer(customer_id: int, json: Json = False) -> None:
    """One customer's records in all sources."""
    answer = api().get(f"customers/{customer_id}")
    if json:
        print(as_json(answer))
    else:
        screen.rows(f"customer {customer_id}", answer["records"], (*RECORD, "created_at"))


@app.command()
def match(json: Json = False) -> None:
    """Find the persons behind the records, and wait until they are found."""
    asked = api()
    started = asked.post("matching/runs", Idempotency_Key=str(uuid4()))
    with screen.work("records") as shown:
        run = asked.follow(f"matching/runs/{started['id']}", shown)
    if json:
        print(as_json(run))
    else:
        named = ("status", "reason", "engine", "records", "pairs", "entities")
        took = {"seconds": screen.seconds(run)}
        screen.fields(f"run {run['id']}", {name: run[name] for name in named if run.get(name) is not None} | took)
    _ended(run)


@app.command()
def entity(entity_id: int, json: Json = False) -> None:
    """One person: their records, the best of each field, and why these belong together."""
    answer = api().get(f"entities/{entity_id}")
    if json:
        print(as_json(answer))
        return
    screen.rows(f"entity {entity_id}, records: {answer['total_records']}", answer["records"], RECORD)
    golden = [{"field": name, **known} for name, known in answer["golden"].items()]
    screen.rows("golden record", golden, ("field", "value", "source", "rule"))
    screen.rows("why", answer["edges"], ("record_a", "record_b", "rule", "probability"))


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
    customer_id: Annotated[int | None, typer.Option(show_default=False)] = None,
    json: Json = False,
) -> None:
    """Whom we know that may be the person of whom this is known. Nothing is written."""
    known = {
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
    asked = {field: value for field, value in known.items() if value not in ("", None)}
    answer = api().post("entities/lookup", asked)
    if json:
        print(as_json(answer))
        return
    found = [one | {field: one["golden"].get(field) for field in ("name", "email")} for one in answer["matches"]]
    screen.rows("matches", found, ("entity_id", "probability", "rule", "name", "email"))


@app.command()
def decide(
    record_a: int,
    record_b: int,
    verdict: Verdict,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    json: Json = False,
) -> None:
    """Say whether two records are of one person."""
    _fields("decision", _decide(api(), record_a, record_b, verdict, note), json)


@app.command()
def review(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many pairs at most.")] = 20, json: Json = False
) -> None:
    """Look at the pairs that are least certain, and decide one after the other."""
    asked = api()
    pairs = asked.get("matching/review", limit=limit)
    if json:
        print(as_json(pairs))
        return
    for pair in pairs:
        records = [pair["record_a"], pair["record_b"]]
        likely = pair["probability"]
        screen.rows("the same by a rule" if likely is None else f"{likely:.1%} the same", records, RECORD)
        answer = Prompt.ask("same, different, next, quit?", choices=["s", "d", "n", "q"], default="n", console=out)
        if answer == "q":
            return
        if answer != "n":
            verdict: Verdict = "same" if answer == "s" else "different"
            _decide(asked, records[0]["id"], records[1]["id"], verdict, None)
    out.print("There is nothing left to decide." if not pairs else f"{len(pairs)} seen.")


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
    """Write the customers of a set question with their records to a file, however many."""
    question = {"in": within, "not_in": not_in, "region": region}
    wish = {name: sources.split(",") for name, sources in question.items() if sources} | {"format": form, "by": by}
    asked = api()
    started = asked.post("exports", wish, Idempotency_Key=str(uuid4()))
    with screen.work("rows") as shown:
        account = asked.follow(f"exports/{started['id']}", shown)
    _ended(account)
    path = output or Path(f"export-{account['id']}.{form}")
    with screen.transfer() as progress, _opened(path) as file:
        task = progress.add_task("receiving", total=account["bytes"])
        asked.fetch(account["url"], file, lambda moved: progress.advance(task, moved))
    _written(path, json, account)


@app.command()
def exports(limit: Latest = 20, json: Json = False) -> None:
    """What became of the latest exports."""
    _list("exports", limit, ("id", "status", "format", "rows", "bytes", "created_at", "reason"), json)


@app.command()
def report(
    form: Annotated[ReportFormat, typer.Option("--format")] = "html",
    output: Output = None,
    keep: Annotated[bool, typer.Option("--keep", help="The next report says what changed since this one.")] = False,
    json: Json = False,
) -> None:
    """Write the report: totals, regions, how complete each source is, what changed, and the rules in force."""
    asked = api()
    content = asked.raw("deduplication/report", format=form, accept=MEDIA[form])
    path = output or Path(f"report.{form}")
    with _opened(path) as file:
        file.write(content)
    kept = asked.post("deduplication/reports") if keep else None
    _written(path, json, {"bytes": len(content), "kept": kept})


@app.command()
def verify() -> None:
    """How the kept counts are compared with the records."""
    raise Fault(
        "Verifying takes minutes and has no route: `make verify` does it on a laptop; on AWS an Admin invokes the "
        "function Verify: aws lambda invoke --function-name <the stack's Verify> /dev/stdout",
    )


def _by(by: By) -> str | None:
    return by if by == "entity" else None


def _decide(asked: Api, record_a: int, record_b: int, verdict: Verdict, note: str | None) -> Any:
    return asked.post("matching/decisions", {"record_ids": [record_a, record_b], "verdict": verdict, "note": note})


def _fields(title: str, answer: dict[str, Any], json: bool) -> None:
    if json:
        print(as_json(answer))
    else:
        short = {
            k: [*v[:FIRST_IDS], "…"] if isinstance(v, list) and len(v) > FIRST_IDS else v for k, v in answer.items()
        }
        screen.fields(title, short)


def _list(path: str, limit: int, columns: tuple[str, ...], json: bool) -> None:
    found = api().get(path, limit=limit)
    if json:
        print(as_json(found))
    else:
        screen.rows(path, found, columns)


def _opened(path: Path) -> Any:
    try:
        return os.fdopen(os.dup(sys.stdout.fileno()), "wb") if str(path) == "-" else path.open("wb")
    except OSError as error:
        raise Fault(f"{path} can't be written: {error.strerror}") from error


def _written(path: Path, json: bool, account: dict[str, Any]) -> None:
    if str(path) == "-":
        return
    if json:
        print(as_json(account | {"file": str(path)}))
    else:
        out.print(f"{path}: {account['bytes']:,} bytes", soft_wrap=True)


def _ended(account: dict[str, Any]) -> None:
    if account["status"] != "done":
        raise Fault(f"It {account['status']}: {account.get('reason') or 'no reason was given'}", ENDED_BADLY)


def main() -> None:
    """Run the command; what went wrong is one line on standard error, and the exit code says of what kind."""
    # In the place of KeyboardInterrupt, which Typer answers with its own words.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    try:
        app()
    except Fault as fault:
        err.print(screen.safe(fault), soft_wrap=True)
        sys.exit(fault.code)
    except BrokenPipeError:
        # Whoever read has enough. What is left unwritten must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
