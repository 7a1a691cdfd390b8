"""The command line as its user has it: a process, against the local stack or a listener that answers as AWS would."""

import csv
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cli.uploads import FIELDS
from tests.conftest import ROOT
from tests.crm_exports import contacts, write
from tests.e2e.conftest import MANY_REGIONS, hold_back_a_rule

SECONDS = 120
KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "session-token"

Done = subprocess.CompletedProcess[str]
Dedup = Callable[..., Done]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cli", *words]


def environment(url: str, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DEDUP_"))}
    nowhere = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "DEDUP_CONFIG": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return kept | nowhere | {"DEDUP_URL": url} | variables


def run(url: str, *words: str, **variables: str) -> Done:
    return subprocess.run(
        command(*words), cwd=ROOT, env=environment(url, **variables), capture_output=True, text=True, timeout=SECONDS
    )


@pytest.fixture
def dedup(api: str, base_url: str) -> Dedup:
    """Runs the command against an API without a record."""
    return lambda *words, **variables: run(base_url, *words, **variables)


@pytest.fixture
def sample(dedup: Dedup) -> Dedup:
    """The same, with the sample records."""
    done = dedup("upload", "samples/customers.csv")
    assert done.returncode == 0, done.stderr
    return dedup


def printed(done: Done) -> Any:
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def get(url: str, **query: Any) -> Any:
    answer = requests.get(url, params=query, timeout=30)
    answer.raise_for_status()
    return answer.json()


def test_upload_command_upserts(dedup: Dedup, tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("id,name,archived\n1,Ann,\n2,Bob,\n")
    dedup("upload", str(file), "--source", "hubspot")
    file.write_text("id,name,archived\n1,Anna,false\n2,,true\n3,Cy,false\n")

    done = dedup("upload", str(file), "--source", "hubspot", "--mode", "upsert", "--json")

    upload = json.loads(done.stdout)
    assert (done.returncode, upload["mode"]) == (0, "upsert")
    assert upload["records"] == {"added": 1, "changed": 1, "removed": 1, "unchanged": 0}


def test_upload_command_prints_the_upload_and_how_to_save_the_rejected_rows(dedup: Dedup, tmp_path: Path) -> None:
    file = tmp_path / "a $name; with 'quotes' [bold].csv"
    file.write_text("customer_id,name,email\n1,Ann,ann@example.com\n2,Bob,bob@example.com\n,xyz,z\n")

    done = dedup("upload", str(file), "--source", "hubspot", "--mode", "replace")

    assert (done.returncode, done.stderr) == (0, "")
    answers = [line.split("│")[1:3] for line in done.stdout.splitlines() if "│" in line]
    upload = {field.strip(): answer.strip() for field, answer in answers}
    assert upload.items() >= {"status": "done", "accepted": "2", "rejected": "1", "customers added": "2"}.items()
    assert "[bold]" in upload["object key"]
    assert "reasons for rejection" in done.stdout
    [reason] = [line for line in done.stdout.splitlines() if "The customer_id is missing" in line]
    assert [cell.strip() for cell in reason.split("│")[1:-1]] == ["customer_id", "The customer_id is missing", "1", "4"]
    assert "http" not in done.stdout
    [told] = [line for line in done.stdout.splitlines() if line.startswith("Save the rejected rows: ")]
    rejects = tmp_path / "rejects.csv"
    words = [str(rejects) if word == "FILE" else word for word in told.split(": dedup ")[1].split()]

    shown = dedup(*words)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "The customer_id is missing" in shown.stdout
    assert f"{rejects}: 1 rejected rows" in shown.stdout
    assert [row["row"] for row in csv.DictReader(rejects.open(encoding="utf-8-sig"))] == [",xyz,z"]
    assert dedup(*words[:-1], "-").stdout == rejects.read_text(encoding="utf-8")


@pytest.mark.parametrize(("row", "code"), [(",Ann,ann@example.com", 1), ("1,Ann,ann@example.com", 0)])
def test_upload_saves_the_rejected_rows_if_there_are_any(dedup: Dedup, tmp_path: Path, row: str, code: int) -> None:
    file, rejects = tmp_path / "a.csv", tmp_path / "rejects.csv"
    file.write_text(f"customer_id,name,email\n{row}\n")

    done = dedup("upload", str(file), "--source", "hubspot", "--rejects", str(rejects))

    assert done.returncode == code
    assert rejects.exists() == bool(code)
    assert (f"{rejects}: 1 rejected rows" if code else f"No rejected rows: {rejects} was not written") in done.stdout
    if code:
        [rejected] = csv.DictReader(rejects.open(encoding="utf-8-sig"))
        assert (rejected["field"], rejected["row"]) == ("customer_id", row)
        answer = json.loads(
            dedup("upload", str(file), "--source", "hubspot", "--rejects", str(rejects), "--json").stdout
        )
        assert (answer["status"], answer["file"]) == ("failed", str(rejects))


def test_strict_upload_of_a_named_sheet(dedup: Dedup, tmp_path: Path) -> None:
    file, book = tmp_path / "a.xlsx", openpyxl.Workbook()
    for sheet, email in ((book.active, "x"), (book.create_sheet("Zürich"), "n/a")):
        sheet.append(["id", "name", "email"])
        sheet.append([1, "Ann", email])
        sheet.append([2, "Bob", "bob@example.com"])
    book.save(file)

    upload = printed(dedup("upload", str(file), "--source", "hubspot", "--sheet", "zürich", "--strict", "--json"))

    assert (upload["strict"], upload["accepted"], upload["rejected"]) == (True, 1, 1)
    with (tmp_path / "rejects.csv").open("w+", encoding="utf-8-sig") as rejects:
        rejects.write(dedup("upload-status", str(upload["id"]), "--rejects", "-").stdout.lstrip("\ufeff"))
        rejects.seek(0)
        [row] = csv.DictReader(rejects)
    assert (row["reason"], row["row"]) == ("The email is not a valid address", "1,Ann,n/a")


def test_same_content_is_told_and_loaded_again(dedup: Dedup, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("customer_id,name,email\n1,Ann,ann@example.com\n")
    first = printed(dedup("upload", str(file), "--source", "hubspot", "--json"))

    again = dedup("upload", str(file), "--source", "hubspot")

    told = f"The same content was loaded before: upload {first['id']}"
    assert (again.returncode, again.stderr) == (0, f"{told}. It is loaded again\n")
    assert told in again.stdout
    warnings = printed(dedup("uploads", "--limit", "1", "--json"))[0]["warnings"]
    assert warnings == [{"code": "same_content", "upload_id": first["id"]}]


def test_guessed_source_is_shown_as_guessed(dedup: Dedup, tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_bytes(write("hubspot", contacts(3)))

    for done in (dedup("upload", str(file)), dedup("uploads", "--limit", "1")):
        assert done.returncode == 0
        assert "hubspot" in done.stdout
        assert "(guessed)" in done.stdout


def test_json_option_prints_the_upload_as_the_api_returns_it(dedup: Dedup, api: str) -> None:
    upload = printed(dedup("upload", "samples/customers.csv", "--json"))

    assert upload == get(f"{api}/uploads/{upload['id']}")
    assert printed(dedup("uploads", "--limit", "1", "--json")) == [upload | {"mapping": None}]


def test_file_that_fails_is_an_exit_code_and_a_reason(dedup: Dedup, tmp_path: Path) -> None:
    file = tmp_path / "headless.csv"
    file.write_text("1,2,3\n")

    done = dedup("upload", str(file), "--source", "hubspot")

    assert done.returncode == 1
    assert done.stderr.startswith("The upload failed: ")
    assert done.stderr.count("\n") == 1


UNKNOWN = "cust_no,e_mail_addr,tel,firm,stage\n" + "".join(
    f"{n},c{n}@example.com,+1 202 555 0{n},Firm {n},lead\n" for n in range(100, 120)
)


@pytest.fixture
def unknown(tmp_path: Path, api: str) -> Iterator[str]:
    """A file whose columns nobody knows, and no saved mapping."""
    file = tmp_path / "unknown.csv"
    file.write_text(UNKNOWN)
    yield str(file)
    requests.delete(f"{api}/sources/hubspot/mappings", timeout=30).raise_for_status()


def test_file_with_unknown_columns_is_shown_mapped_and_loaded(dedup: Dedup, api: str, unknown: str) -> None:
    done = dedup("upload", unknown, "--source", "hubspot")

    assert done.returncode == 1
    assert "The upload needs a column mapping" in done.stderr
    [line] = [line for line in done.stdout.splitlines() if "e_mail_addr" in line]
    assert [cell.strip() for cell in line.split("│")[1:4]] == [
        "e_mail_addr", "c100@example.com, c101@example.com, c102@example.com", "email",
    ]  # fmt: skip
    number = str(get(f"{api}/uploads", limit=1)[0]["id"])
    assert "cust_no" in dedup("mapping", number).stdout

    loaded = printed(dedup("mapping", number, "--set", "stage=city", "--save", "--json"))

    assert (loaded["status"], loaded["accepted"]) == ("done", 20)
    assert get(f"{api}/customers/100")["records"][0]["city"] == "lead"
    again = printed(dedup("upload", unknown, "--source", "hubspot", "--json"))
    assert (again["status"], again["accepted"]) == ("done", 20)
    refused = dedup("mapping", number, "--accept")
    assert (refused.returncode, refused.stderr) == (
        3, "The API refused the request (409): The upload does not wait for a column mapping\n",
    )  # fmt: skip


def test_mapping_is_previewed_and_stated_with_the_upload(dedup: Dedup, api: str, unknown: str) -> None:
    maps = ("--map", "tel=ignore", "--map", "firm=name", "--keep", "stage")
    done = dedup("upload", unknown, "--source", "hubspot", *maps, "--preview")

    assert done.returncode == 0, done.stderr
    assert "Firm 100" in done.stdout
    assert "Nothing is loaded yet. To load the file: dedup mapping " in done.stderr
    options = shlex.split(done.stderr.strip().rpartition("dedup ")[2])
    assert options[2:] == ["--set", "tel=ignore", "--set", "firm=name", "--keep", "stage", "--source", "hubspot"]
    assert printed(dedup(*options, "--json"))["accepted"] == 20
    [record] = get(f"{api}/customers/100")["records"]
    assert (record["name"], record.get("phone")) == ("Firm 100", None)

    # Also a file that would be loaded without a question.
    loaded = printed(dedup("upload", "samples/customers.csv", "--map", "name=company", "--json"))
    assert (loaded["status"], loaded["accepted"]) == ("done", 12)
    assert get(f"{api}/customers/101")["records"][-1]["company"] == "Ada Lindqvist"
    wrong = dedup("upload", unknown, "--source", "hubspot", "--map", "nope=name")
    assert wrong.returncode == 3
    assert "The file has no column 'nope': it has 'cust_no', " in wrong.stderr


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["analyze"], "deduplication/analyze"),
        (["compare"], "deduplication/compare-sources"),
        (["regions"], "deduplication/regions"),
        (["customer", "103"], "customers/103"),
    ],
)
def test_answers_are_those_of_the_api(sample: Dedup, api: str, words: list[str], path: str) -> None:
    answer = get(f"{api}/{path}")

    assert printed(sample(*words, "--json")) == answer
    shown = sample(*words)
    assert (shown.returncode, shown.stderr) == (0, "")
    counts = [str(value) for value in answer.values() if isinstance(value, int)] if isinstance(answer, dict) else []
    assert all(count in shown.stdout for count in counts)


def test_customer_shows_what_else_a_record_has(dedup: Dedup, api: str) -> None:
    further = {
        "emails": ["ann@example.com", "a@example.com"],
        "phones": ["1", "2"],
        "modified_at": "2024-01-16T10:22:33Z",
        "attributes": {"Stage": "Lead", "Tier": "Gold"},
    }
    body = {"customer_id": 9, "name": "Ann", "email": None, "source": "hubspot", **further}
    requests.post(f"{api}/customers", json=body, timeout=30).raise_for_status()

    shown = dedup("customer", "9", COLUMNS="400").stdout

    parts = ("modified at", "2024-01-16", "10:22", "ann@example.com,", " a@example.com", "1, 2", "Stage: Lead,", "Gold")
    assert all(part in shown for part in parts)


def test_bars_are_as_long_as_the_regions_are_large(sample: Dedup) -> None:
    lines = sample("regions").stdout.splitlines()[1:]

    assert [line.count("█") for line in lines] == [30, 30, 15, 15, 15, 15]
    assert [line.count("●") for line in lines] == [2, 1, 1, 2, 2, 1]
    assert lines[0].split()[-2:] == ["2", "25.0%"]


def test_regions_are_the_largest_in_the_table_and_all_as_json(many_regions: str) -> None:
    table, every = run(many_regions, "regions"), printed(run(many_regions, "regions", "--json"))

    assert (table.returncode, len(table.stdout.splitlines())) == (0, 1 + 100)
    assert table.stderr == "100 of 1,585 regions, with 101 of 1,586 customers\n"
    assert table.stdout.splitlines()[1].split()[-2:] == ["2", "0.1%"]
    first, second = (get_page(many_regions, page) for page in (1, 2))
    assert every == first + second
    assert {frozenset(region["sources"]) for region in every} == {frozenset(region) for region in MANY_REGIONS}
    assert printed(run(many_regions, "regions", "--json", "--limit", "7")) == every[:7]


def get_page(url: str, number: int) -> Any:
    """A page of the regions, by the links from one to the next."""
    answer = requests.get(f"{url}/api/v1/deduplication/regions", timeout=30)
    for _ in range(1, number):
        answer = requests.get(answer.links["next"]["url"], timeout=30)
    assert answer.headers["X-Total-Count"] == str(len(MANY_REGIONS))
    return answer.json()


def test_every_page_of_customers_is_printed_one_a_line(dedup: Dedup, api: str, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_text("customer_id,name,email\n" + "".join(f"{n},N,n{n}@example.com\n" for n in range(1, 20_002)))
    assert dedup("upload", str(file), "--source", "hubspot").returncode == 0

    done = dedup("customers", "--in", "hubspot", "--not-in", "internal")

    assert done.stdout.splitlines() == [str(n) for n in range(1, 20_002)]
    assert done.stderr == "20,001 customers\n"
    assert printed(dedup("customers", "--json")) == {"count": 20_001, "customer_ids": list(range(1, 20_002))}
    assert printed(dedup("customers", "--json", "--limit", "3")) == {"count": 20_001, "customer_ids": [1, 2, 3]}
    assert printed(dedup("customers", "--in", "internal", "--json")) == {"count": 0, "customer_ids": []}


def test_one_region_is_asked_for_by_its_sources(sample: Dedup) -> None:
    assert printed(sample("customers", "--region", "salesforce,hubspot", "--json"))["customer_ids"] == [103, 104]
    assert sample("customers", "--region", "hubspot").stdout == "106\n"


def test_customer_is_shown_by_any_id(dedup: Dedup, api: str) -> None:
    odd = "a/b c?#&%41"
    ids = ["0035g00000XyZ1aAAF", odd, 7]
    people = [{"customer_id": one, "name": "N", "email": "n@example.com", "source": "hubspot"} for one in ids]
    requests.post(f"{api}/customers/bulk", json={"customers": people}, timeout=30).raise_for_status()

    assert printed(dedup("customers", "--json"))["customer_ids"] == [7, "0035g00000XyZ1aAAF", odd]
    assert dedup("customers").stdout.splitlines() == ["7", "0035g00000XyZ1aAAF", odd]
    for one in (odd, "0035g00000XyZ1a", "7"):
        assert len(printed(dedup("customer", one, "--json"))["records"]) == 1
    assert get(f"{api}/customers/a%2Fb%20c%3F%23%26%2541")["customer_id"] == odd


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_export_is_asked_for_waited_for_and_fetched(sample: Dedup, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out"

    upload = printed(
        sample("export", "--in", "hubspot", "--not-in", "internal", "--format", form, "-o", str(path), "--json")
    )

    assert (upload["status"], upload["rows"], upload["bytes"]) == ("done", 5, path.stat().st_size)
    if form == "ndjson":
        assert [json.loads(line)["customer_id"] for line in path.read_text().splitlines()] == [103, 103, 104, 104, 106]
        assert printed(sample("exports", "--limit", "1", "--json"))[0]["id"] == upload["id"]


@pytest.mark.usefixtures("images")
def test_match_lookup_entity_review_and_decide_commands(dedup: Dedup, api: str, base_url: str) -> None:
    people = json.loads((ROOT / "samples" / "people.json").read_text())
    requests.post(f"{api}/customers/bulk", json=people, timeout=30).raise_for_status()

    run = printed(dedup("match", "--json"))
    assert run == get(f"{api}/matching/runs/{run['id']}")
    assert (run["status"], run["entities"]) == ("done", 32)
    again = printed(dedup("match", "--model-of", str(run["id"]), "--no-activate", "--json"))
    assert (again["model"], again["entities"], again["active"]) == (run["model"], 32, False)
    assert printed(dedup("runs", "--limit", "2", "--json")) == [again, run]
    assert run["model"]["version"] in dedup("runs").stdout
    assert printed(dedup("runs", "activate", str(again["id"]), "--json")) == again | {"active": True}
    assert "active" in dedup("runs", "activate", str(again["id"])).stdout
    refused = dedup("runs", "activate", "99999")
    assert (refused.returncode, "Run not found" in refused.stderr) == (3, True)

    looked_up = dedup("lookup", "--name", "Kate Moreau", "--phone", "202 555 0101")
    assert "same_phone_and_name" in looked_up.stdout
    assert "Katherine Moreau" in looked_up.stdout
    [best, *_] = printed(dedup("lookup", "--phone", "202 555 0101", "--postcode", "97201", "--json"))["matches"]
    same = printed(dedup("lookup", "--source", "salesforce", "--customer-id", "1001", "--json"))["matches"]
    assert (same[0]["rule"], same[0]["entity_id"]) == ("same_id", best["entity_id"])
    shown = dedup("entity", str(best["entity_id"])).stdout
    assert all(heading in shown for heading in ("golden record", "evidence", "Katherine Moreau", "same_phone_and_name"))
    whole = printed(dedup("entity", str(best["entity_id"]), "--json"))
    assert whole == get(f"{api}/entities/{best['entity_id']}")

    pairs = printed(dedup("review", "--json"))
    assert pairs
    decided = reviewed(base_url, "d")
    assert (decided.returncode, decided.stderr) == (0, "")
    assert len(printed(dedup("review", "--json"))) < len(pairs)
    ids = [str(record["id"]) for record in whole["records"][:2]]
    decision = printed(dedup("decide", *ids, "different", "--note", "Mother and daughter", "--json"))
    assert (decision["verdict"], decision["note"]) == ("different", "Mother and daughter")
    assert printed(dedup("analyze", "--by", "entity", "--json"))["unique_customers"] == 33


def reviewed(url: str, answer: str) -> Done:
    """The command `review`, which is given one pair and one answer."""
    return subprocess.run(
        command("review", "--limit", "1"),
        cwd=ROOT,
        env=environment(url),
        input=f"{answer}\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.usefixtures("images")
def test_pair_matched_by_a_rule_alone_is_reviewed(api: str, base_url: str) -> None:
    assert hold_back_a_rule(api)["probability"] is None

    done = reviewed(base_url, "n")

    assert (done.returncode, done.stderr) == (0, "")
    assert "matched by a rule" in done.stdout


@pytest.mark.parametrize(("form", "begins"), [("html", b"<!doctype html>"), ("csv", b"\xef\xbb\xbf"), ("xlsx", b"PK")])
def test_report_is_written_to_a_file(sample: Dedup, tmp_path: Path, form: str, begins: bytes) -> None:
    path = tmp_path / "out"

    done = printed(sample("report", "--format", form, "-o", str(path), "--keep", "--json"))

    assert path.read_bytes().startswith(begins)
    assert done["bytes"] == path.stat().st_size
    assert done["kept"]["id"] > 0


def test_reader_that_has_enough_is_no_error(sample: Dedup, base_url: str) -> None:
    shell = f"{' '.join(command('customers'))} | head -1"
    done = subprocess.run(
        shell, shell=True, cwd=ROOT, env=environment(base_url), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout == "101\n"
    assert "Traceback" not in done.stderr


def test_names_do_nothing_to_the_terminal(dedup: Dedup, tmp_path: Path) -> None:
    hostile = ["[red]Ann[/red] :smile:", "<img src=x onerror=alert(1)>", "=HYPERLINK(1)", "\u202eevil\u2066", "דנה כהן"]
    file = tmp_path / "names.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["customer_id", "name", "email"])
        writer.writerows([7, name, "ann@example.com"] for name in hostile)
    assert dedup("upload", str(file), "--source", "hubspot").returncode == 0

    shown = dedup("customer", "7").stdout

    assert "[red]Ann[/red] :smile:" in shown
    assert "<img src=x onerror=alert(1)>" in shown
    assert "evil" in shown
    assert not set("\x1b\u202e\u2066") & set(shown)
    assert "\u2068דנה כהן\u2069" in shown
    assert dedup("customer", "7", "--json").stdout.isascii()


@pytest.mark.parametrize(
    ("words", "variables", "code", "said"),
    [
        (["upload", "no/such.csv"], {}, 3, "no/such.csv can't be read: No such file or directory"),
        (["upload", "samples/customers.csv", "--source", "zoho"], {}, 3, "(422): source: Input should be"),
        (["customers", "--in", "zoho"], {}, 3, "(422): in: Input should be"),
        (["customer", "9"], {}, 3, "(404): Customer not found"),
        (["analyze"], {"DEDUP_URL": "http://127.0.0.1:1"}, 4, "is `make run` running?"),
        (["analyze"], {"DEDUP_URL": "localhost:3000"}, 3, "expected http://… or https://…"),
        (["analyze"], {"DEDUP_PROFILE": "nowhere"}, 3, "There is no profile nowhere"),
        (["analyze"], {"DEDUP_SIGN": "1", "AWS_REGION": "eu-west-1"}, 3, "there are no AWS credentials"),
    ],
)
def test_what_is_wrong_is_one_line(
    dedup: Dedup, words: list[str], variables: dict[str, str], code: int, said: str
) -> None:
    done = dedup(*words, **variables)

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_unknown_command_is_not_understood(dedup: Dedup) -> None:
    done = dedup("bogus")

    assert (done.returncode, done.stdout) == (2, "")


def test_make_passes_the_file_as_it_is_named(dedup: Dedup, base_url: str, tmp_path: Path) -> None:
    file = tmp_path / "it's a $HOME.csv"
    file.write_text("customer_id,name,email\n1,Ann,ann@example.com\n")
    port = base_url.rsplit(":", 1)[1]
    env = environment(base_url, PORT=port, FILE=str(file), SOURCE="hubspot")

    done = subprocess.run(
        ["make", "--silent", "--assume-old", ".venv/run-installed", "upload"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )

    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout


class Listener:
    """Answers every request with `answer`, and keeps what it was asked."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], bytes]) -> None:
        asked = self.asked = list[tuple[str, str, dict[str, str], bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked.append((self.command, self.path, dict(self.headers.items()), body))
                content = answer(self)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_PUT = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def make(answer: Callable[[BaseHTTPRequestHandler], bytes]) -> Listener:
        made.append(Listener(answer))
        return made[-1]

    yield make
    for listener in made:
        listener.server.shutdown()
        listener.server.server_close()


def signature(url: str, method: str, path: str, headers: dict[str, str], body: bytes) -> str:
    """What botocore signs a request with that has these headers, at the moment that they name."""
    lower = {name.lower(): value for name, value in headers.items()}
    [named] = [part for part in lower["authorization"].split(", ") if part.startswith("SignedHeaders=")]
    signed = {name: lower[name] for name in named.removeprefix("SignedHeaders=").split(";")}
    request = AWSRequest(method, f"{url}{path}", data=body, headers=signed)
    request.context["timestamp"] = lower["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY, SECRET, TOKEN), "execute-api", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


@pytest.mark.parametrize("words", [["customers", "--in", "a b,ü/é"], ["lookup", "--name", "Zoë O'Brien"]])
def test_requests_are_signed_as_botocore_signs(
    listen: Callable[..., Listener], words: list[str], tmp_path: Path
) -> None:
    listener = listen(lambda _: json.dumps({"count": 0, "customer_ids": [], "matches": []}).encode())
    config = tmp_path / "config.toml"
    config.write_text(f'[aws]\nurl = "{listener.url}/live"\nregion = "eu-west-1"\nsign = true\n')
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}

    done = run("", "--profile", "aws", *words, "--json", DEDUP_CONFIG=str(config), **keys)

    assert done.returncode == 0, done.stderr
    [(method, path, headers, body)] = listener.asked
    assert path.startswith("/live/api/v1/")
    assert headers["X-Amz-Security-Token"] == TOKEN
    assert f"Credential={KEY}/" in headers["Authorization"]
    assert "/eu-west-1/execute-api/aws4_request" in headers["Authorization"]
    expected = signature(listener.url, method, path, headers, body)
    assert headers["Authorization"].endswith(f"Signature={expected}")


def test_interrupt_is_clean(listen: Callable[..., Listener]) -> None:
    began = threading.Event()

    def slow(_: BaseHTTPRequestHandler) -> bytes:
        began.set()
        time.sleep(1)
        return b"{}"

    listener = listen(slow)
    process = subprocess.Popen(
        command("analyze"),
        cwd=ROOT,
        env=environment(listener.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert began.wait(SECONDS)
    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize("body", [b"<html>login</html>", b"\xff\xfe"])
def test_answer_that_is_no_json_is_one_line(listen: Callable[..., Listener], body: bytes) -> None:
    done = run(listen(lambda _: body).url, "analyze")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1


def loading(listen: Callable[..., Listener], rows: Iterator[int]) -> Listener:
    """Takes a file, and says that it has so many rows, each time that it is asked; with no more of these it is done."""

    def answer(request: BaseHTTPRequestHandler) -> bytes:
        if request.command != "GET":
            return json.dumps({"id": 7, "url": f"http://{request.headers['Host']}/put", "warnings": []}).encode()
        count = next(rows, None)
        state = {"id": 7, "status": "done" if count is None else "waiting", "rows": count}
        unknown = dict.fromkeys((*FIELDS, "customers", "records", "source_guessed", "rejected_url"))
        return json.dumps(unknown | {"reasons": [], "warnings": []} | state).encode()

    return listen(answer)


def test_upload_that_gets_nowhere_is_not_waited_for_without_end(listen: Callable[..., Listener]) -> None:
    done = run(loading(listen, itertools.repeat(5)).url, "upload", "--wait", "0.01", "samples/customers.csv")

    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.count("\n") == 1
    assert "uploads/7 has not changed for 0.01 minutes: status waiting, rows 5." in done.stderr
    assert "`dedup uploads`" in done.stderr


def test_upload_that_gets_on_is_waited_for(listen: Callable[..., Listener]) -> None:
    listener = loading(listen, iter(range(8)))

    done = run(listener.url, "upload", "--wait", "0.01", "samples/customers.csv")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(listener.asked) == 2 + 8 + 1


def test_installed_it_is_the_command_dedup() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "cli" / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) == {path.name for path in (ROOT / "cli").glob("*.py")}
    assert project["project"]["scripts"]["dedup"] == "dedup_cli.__main__:main"
