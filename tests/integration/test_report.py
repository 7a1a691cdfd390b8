"""The report on a real PostgreSQL: read back from each of its forms, it says what the API says."""

import base64
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import openpyxl
import pytest
from dedup.aws.bucket import ObjectVersion
from dedup.records import Fields
from dedup.services import ingest, report
from dedup.store import Store
from dedup.store.reports import FieldErrors

from tests.conftest import LONG_NAME, api_event, record, sample_records
from tests.resolving import resolve

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
PATH = "/api/v1/deduplication/report"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HOSTILE = ["<img src=x onerror=alert(1)>", "=1+1", "@SUM(A1)", "דנה", "https://example.com", "{{ 7 * 7 }}"]


@pytest.fixture
def get(functions: Call, store: Store) -> Callable[..., dict[str, Any]]:
    def get(form: str | None = None, accept: str = "*/*") -> dict[str, Any]:
        query = {"format": form} if form else None
        return functions("report", api_event("GET", PATH, query=query, headers={"Accept": accept}))

    return get


@pytest.fixture
def keep(functions: Call, store: Store) -> Callable[[], dict[str, Any]]:
    def keep() -> dict[str, Any]:
        answer = functions("keep_report", api_event("POST", "/api/v1/deduplication/reports"))
        assert answer["statusCode"] == 201
        kept: dict[str, Any] = json.loads(answer["body"])
        return kept

    return keep


def header(answer: dict[str, Any], name: str) -> str:
    return str(answer["multiValueHeaders"][name][0])


class Page(HTMLParser):
    """The tables of a page by their headings, its tags, and what is outside of both."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tiles: list[list[str]] = []
        self.tags: set[str] = set()
        self._inside: list[str] = []
        self._heading = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("h2", "th", "td", "dt", "dd"):
            self._inside, self._text = [tag], ""
        if tag == "table":
            self.tables[self._heading] = []
        if tag == "tr":
            self.tables[self._heading].append([])

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if not self._inside or tag != self._inside[0]:
            return
        self._inside = []
        if tag == "h2":
            self._heading = self._text
        elif tag == "dt":
            self.tiles.append([self._text])
        elif tag == "dd":
            self.tiles[-1].append(self._text)
        else:
            self.tables[self._heading][-1].append(self._text)


def from_csv(answer: dict[str, Any]) -> dict[tuple[str, str, str], str]:
    lines = csv.DictReader(io.StringIO(answer["body"].removeprefix("\ufeff"), newline=""))
    return {(line["table"], line["row"], line["column"]): line["value"] for line in lines}


def from_xlsx(content: bytes) -> dict[str, list[list[Any]]]:
    book = openpyxl.load_workbook(io.BytesIO(content))
    return {
        sheet.title: [[cell.value for cell in row] for row in sheet.iter_rows(min_row=4)] for sheet in book.worksheets
    }


def test_report_in_every_format_has_the_figures_of_the_api(get: Any, store: Store) -> None:
    store.records.add([*sample_records(), record(101, "salesforce")])
    regions = [("hubspot + salesforce", 2), ("internal", 2), ("hubspot", 1), ("hubspot + internal", 1)]
    regions += [("internal + salesforce", 1), ("salesforce", 1)]

    page = Page(get("html")["body"])
    lines = from_csv(get("csv"))
    sheets = from_xlsx(base64.b64decode(get("xlsx", XLSX)["body"]))

    assert page.tiles[:3] == [["Records", "13"], ["Customers", "8"], ["Duplicate records", "5"]]
    assert [row[:2] for row in page.tables["Overlap"][1:]] == [[name, str(n)] for name, n in regions]
    assert {row[0]: row[1:] for row in page.tables["Sources"][1:]} == {
        "salesforce": ["5", "4", "1", "1"],
        "hubspot": ["4", "4", "0", "1"],
        "internal": ["4", "4", "0", "2"],
    }
    assert lines["Totals", "Records", "Now"] == "13"
    assert all(lines["Overlap", name, "Customers"] == str(n) for name, n in regions)
    assert lines["Sources", "salesforce", "Duplicate records"] == "1"
    assert [row[:2] for row in sheets["Overlap"][1:]] == [[name, n] for name, n in regions]
    assert sheets["Totals"][1:4] == [["Records", 13], ["Customers", 8], ["Duplicate records", 5]]


def test_completeness_is_the_share_of_records_that_have_a_field(get: Any, store: Store) -> None:
    store.records.add([record(n, "hubspot", phone="1" if n % 4 else None, city="Rome") for n in range(100)])

    assert from_csv(get("csv"))["Completeness", "hubspot", "Phone"] == "0.750000"
    row = dict(zip(*Page(get("html")["body"]).tables["Completeness"], strict=True))
    assert (row["Phone"], row["City"], row["Company"]) == ("75.0%", "100.0%", "0.0%")


def test_completeness_of_many_records_is_estimated_from_some(
    get: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dedup.store import reports

    monkeypatch.setattr(reports, "SAMPLE", 2_000)
    store.records.add([record(n, "hubspot", phone="1" if n % 2 else None) for n in range(20_000)])

    figures = store.reports.figures()

    looked_at, filled = figures.sampled["hubspot"], figures.filled["hubspot"]["phone"]
    assert 500 < looked_at < 6_000
    assert abs(filled / looked_at - 0.5) < 0.05
    assert "of 20,000 records." in get("html")["body"]


def test_rejected_rows_are_counted_by_field_missing_and_malformed(get: Any, store: Store, s3: Any) -> None:
    rows = [
        "customer_id,name,email",
        "1,Ann,ann@example.com",
        ",,ann@example.com",
        f"3,{LONG_NAME},x",
        "1e9,Bob,bob@example.com",
    ]
    key = "incoming/hubspot/a.csv"
    version = s3.put_object(Bucket="uploads", Key=key, Body="\n".join(rows).encode())["VersionId"]
    ingest.ingest(ObjectVersion("uploads", key, version), store, lambda: 900.0)

    lines = from_csv(get("csv"))

    title = "Uploaded files"
    assert (lines[title, "hubspot, all rows", "Rows"], lines[title, "hubspot, all rows", "Rejected"]) == ("4", "3")
    found = {
        field: (lines[title, f"hubspot, {field}", "Missing"], lines[title, f"hubspot, {field}", "Invalid"])
        for field in ("name", "customer_id")
    }
    assert found == {"name": ("0", "1"), "customer_id": ("1", "1")}


def test_change_is_that_since_figures_were_kept(get: Any, keep: Any, store: Store) -> None:
    assert "Change" not in get("html")["body"]
    first = store.records.add([record(1, "hubspot"), record(2, "hubspot"), record(2, "internal")])
    kept = keep()
    assert keep() == kept, "the same figures are not kept twice"
    assert ("Totals", "Customers", "Change") in from_csv(get("csv"))

    store.records.add([record(1, "salesforce"), record(3, "hubspot")])
    store.uploads.delete(first.id)
    lines = from_csv(get("csv"))

    assert lines["Totals", "Records", "Change"] == "-1"
    changes = {row: value for (table, row, column), value in lines.items() if (table, column) == ("Overlap", "Change")}
    assert changes == {"hubspot": "0", "salesforce": "1", "hubspot + internal": "-1"}
    assert lines["Sources", "salesforce", "Change in records"] == "1"
    assert keep()["id"] != kept["id"]
    assert {value for (_, _, column), value in from_csv(get("csv")).items() if column.startswith("Change")} == {"0"}


BY_PERSON = "Overlap by person"


@pytest.fixture
def match(store: Store) -> Callable[..., int]:
    """Runs the matching on what there is, with settings; the run that is active then."""
    pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it")
    from jobs.matching import runs

    def match(**asked: Any) -> int:
        run, _ = store.runs.create({"methods": ["rules"], **asked}, None, "")
        assert runs.run(run, store) == "done", store.runs.get(run)
        return run

    return match


def two_people() -> list[Fields]:
    """Three records with ids of their own: Ann is in two sources, Bob in one."""
    ann = {"name": "Ann Lee", "email": "ann@lee.org"}
    return [record(1, "hubspot", **ann), record(11, "internal", **ann), record(2, "hubspot", name="Bob Ray")]


def test_report_in_every_format_has_the_figures_by_person_and_the_rules(get: Any, store: Store, match: Any) -> None:
    store.records.add(two_people())
    run = match(constraints={"max_entity": 7})

    page = Page(get("html")["body"])
    lines = from_csv(get("csv"))
    sheets = from_xlsx(base64.b64decode(get("xlsx", XLSX)["body"]))

    totals = [["People", 2], ["Additional records of people", 1], ["People in several sources", 1]]
    assert page.tiles[5:8] == [[name, str(n)] for name, n in totals]
    assert sheets["Totals"][6:9] == totals
    assert [lines["Totals", str(name), "Now"] for name, _ in totals] == [str(n) for _, n in totals]
    regions = [("hubspot", 1), ("hubspot + internal", 1)]
    assert [row[:2] for row in page.tables[BY_PERSON][1:]] == [[name, str(n)] for name, n in regions]
    assert [row[:2] for row in sheets[BY_PERSON][1:]] == [[name, n] for name, n in regions]
    assert [lines[BY_PERSON, name, "People"] for name, _ in regions] == ["1", "1"]
    rules = {
        "Settings": "Defaults, except for constraints, methods",
        "Rule same_email_and_name": "Same email and given name or nickname, unless the date of birth or full given "
        "name differs",
        "Size limit": "At most 7 customers or distinct records per person, whichever is fewer",
        "Decisions": "0 active; they take precedence over rules and model",
    }
    for said in (dict(page.tables["Matching"]), dict(sheets["Matching"])):
        assert rules.items() <= said.items()
        assert said["Run"].startswith(f"{run}, finished 2")
        assert not {"Match model", "Match threshold"} & said.keys(), "the run uses no model"
    assert all(lines["Matching", name, "Definition"] == definition for name, definition in rules.items())


def test_model_and_thresholds_are_among_the_rules(get: Any, store: Store, match: Any) -> None:
    store.records.add(two_people())
    run = match(methods=["rules", "model"], thresholds={"match": 2})
    found = store.runs.get(run)
    assert found

    said = dict(Page(get("html")["body"]).tables["Matching"])

    assert said["Match threshold"] == "Match weight of at least +2, a probability of 80.0%"
    assert said["Review"] == "Match weights from -3 to +6"
    assert said["Match model"].startswith(f"Version {found['model']['version']}, of a run over ")
    assert said["Veto other_name"] == (
        "No match if given name and family name differ, unless similar in date of birth (same or one digit)"
    )


@pytest.mark.parametrize("match_weight", [-1024.0, -2000.5, -1e308, 1024.0, 1e308])
def test_report_of_a_run_with_an_extreme_threshold_is_answered(
    get: Any, store: Store, match: Any, match_weight: float
) -> None:
    """Of a run that was kept before the settings refused such a threshold."""
    store.records.add(two_people())
    run = match()
    store._database.write(
        lambda c: c.run(
            f"""UPDATE match_run SET settings = jsonb_set(jsonb_set(
                    settings, '{{methods}}', '["rules", "model"]'), '{{thresholds,match}}', '{match_weight}')
                WHERE id = {run}"""
        ),
        repeatable=True,
    )

    for form in ("html", "csv", "xlsx"):
        assert get(form, XLSX if form == "xlsx" else "*/*")["statusCode"] == 200
    likely = "0.0%" if match_weight < 0 else "100.0%"
    assert from_csv(get("csv"))["Matching", "Match threshold", "Definition"].endswith(f"a probability of {likely}")


def test_people_are_compared_with_those_that_were_kept(get: Any, keep: Any, store: Store, match: Any) -> None:
    store.records.add(two_people())
    keep()
    first = match()
    assert ("Totals", "People", "Change") not in from_csv(get("csv")), "when figures were kept, nobody knew"
    assert from_csv(get("csv"))["Totals", "Records", "Change"] == "0"
    kept = keep()
    assert keep() == kept

    store.records.add([record(3, "internal", name="Cy Fox")])
    resolve(store)
    lines = from_csv(get("csv"))
    assert lines["Totals", "People", "Change"] == "1"
    changes = {row: value for (table, row, column), value in lines.items() if (table, column) == (BY_PERSON, "Change")}
    assert changes == {"hubspot": "0", "internal": "1", "hubspot + internal": "0"}

    ann, also_ann = 1, 2
    store.decisions.decide([ann, also_ann], "different", None, "someone")
    match()
    page = get("html")["body"]
    assert f"the active run of the baseline was {first}." in page
    assert dict(Page(page).tables["Matching"])["Decisions"].startswith("1 active")
    lines = from_csv(get("csv"))
    assert lines["Totals", "People", "Change"] == "2"
    assert lines[BY_PERSON, "hubspot + internal", "Change"] == "-1"


def test_report_before_the_first_run_has_no_figures_by_person(get: Any, store: Store) -> None:
    store.records.add(sample_records())
    page = Page(get("html")["body"])

    assert dict(page.tables["Rules"])["People"] == "Not available: no matching run has finished"
    assert not {BY_PERSON, "Matching"} & page.tables.keys()
    assert len(page.tiles) == 5


@pytest.mark.parametrize(
    ("form", "accept", "media"),
    [
        (None, "*/*", "text/html; charset=utf-8"),
        (None, "text/csv;q=0.9, text/html", "text/csv; charset=utf-8"),
        (None, f"{XLSX}, */*", XLSX),
        ("csv", "text/html", "text/csv; charset=utf-8"),
        ("xlsx", "text/html,application/xhtml+xml,*/*;q=0.8", XLSX),
    ],
)
def test_report_format_is_chosen_by_name_or_by_accept_header(
    get: Any, form: str | None, accept: str, media: str
) -> None:
    answer = get(form, accept)

    assert (answer["statusCode"], header(answer, "Content-Type")) == (200, media)
    assert answer["isBase64Encoded"] == (media == XLSX)


@pytest.mark.parametrize(("form", "status"), [("xlsx", 406), ("pdf", 422)])
def test_report_format_that_does_not_exist_is_refused(get: Any, form: str, status: int) -> None:
    assert get(form, "*/*")["statusCode"] == status


def test_page_needs_nothing_else_and_runs_nothing(get: Any, store: Store) -> None:
    store.records.add(sample_records())
    answer = get("html")
    page = Page(answer["body"])

    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert "http" not in answer["body"]
    assert {"svg", "rect", "circle"} <= page.tags
    assert header(answer, "Content-Security-Policy").startswith("default-src 'none'")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_are_text_in_every_report_format(store: Store, text: str) -> None:
    store.records.add(sample_records())
    figures = store.reports.figures()
    figures.rows[text] = (1, 1)  # type: ignore[index]
    figures.field_errors.append(FieldErrors(text, text, 1, 0))
    made = report.make(figures, None, ("salesforce", text))

    html = report.to_html(made)
    lines = list(csv.reader(io.StringIO(report.to_csv(made).decode("utf-8-sig"), newline="")))

    page = Page(html)
    assert [text, text, "", "", "1", "0"] in page.tables["Uploaded files"]
    assert not page.tags & {"img", "script"}
    assert f"<bdi>{report_escape(text)}</bdi>" in html
    book = openpyxl.load_workbook(io.BytesIO(report.to_xlsx(made)))
    kinds = {cell.data_type for sheet in book.worksheets for row in sheet.iter_rows() for cell in row}
    assert kinds <= {"s", "n"}
    assert [text, text, None, None, 1, 0] in from_xlsx(report.to_xlsx(made))["Uploaded files"]
    assert not any(cell.hyperlink for sheet in book.worksheets for row in sheet.iter_rows() for cell in row)
    assert not any(cell.startswith(("=", "@", "+")) for line in lines for cell in line)


def report_escape(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


def test_report_of_regions_with_long_names_fits_in_an_answer(store: Store) -> None:
    names = [f"{number:02}_{'x' * 60}" for number in range(63)]
    regions = {frozenset(names) - {*names[:number], names[-number]}: 1 for number in range(1, 40)}
    regions |= {frozenset(names) - {one, other}: 1 for one in names[:20] for other in names[20:]}

    made = report.make(replace(store.reports.figures(), regions=regions), None, names)

    [table] = [table for table in made.tables if table.title == "Overlap"]
    assert sum(len(str(row[0])) for row in table.rows) < report.MAX_NAMES + 100
    assert sum(int(row[1]) for row in table.rows if row[1]) == len(regions)


def test_empty_report_is_one(get: Any) -> None:
    page = Page(get("html")["body"])

    assert page.tiles[0] == ["Records", "0"]
    assert "svg" not in page.tags
    assert from_xlsx(base64.b64decode(get("xlsx", XLSX)["body"]))["Overlap"] == [["Sources", "Customers", "Share"]]


@pytest.mark.parametrize(
    ("number", "digits", "shown"),
    [
        (0, 3, "0"),
        (950, 3, "950"),
        (999_999, 3, "1M"),
        (1_234, 3, "1.23k"),
        (8_333, 2, "8.3k"),
        (45_678_901, 3, "45.7M"),
    ],
)
def test_number_over_a_bar_is_short(number: int, digits: int, shown: str) -> None:
    assert report.compact(number, digits) == shown
