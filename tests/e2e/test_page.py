"""The page in the system's Chromium, against the whole local stack: what people see, do and can't break."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from dedup.settings import Settings
from dedup.store.connection import Database
from dedup.store.locks import CHANGE_LOG_LOCK_EXCLUSIVE
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright

from tests.conftest import ROOT
from tests.crm_exports import contacts, write
from tests.e2e.conftest import empty, hold_back_a_rule, hold_back_rules
from tests.e2e.sign_in import gateway
from tests.e2e.test_uploads import ended

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
LIMIT = 200_000
HOSTILE = ["<img src=x onerror=document.title='owned'>", '<b>bold</b> & "quoted"', "שלום עולם", "مرحبا بالعالم"]
LARGEST = 2**63 - 1
# Of a machine that does other work too, or of containers that begin to run with the first request.
expect.set_options(timeout=60_000)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Browser, base_url: str) -> Iterator[Open]:
    """Opens a view, with nothing kept from before: show("/customers", color_scheme="dark"). At the end nothing may have
    gone wrong in the browser, and no answer may have been large."""
    contexts, wrong = [], []

    def hear(page: Page) -> None:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        # An answer with an error's status is told on the console too; what the page makes of it is what the tests see.
        page.on("console", lambda said: wrong.append(said.text) if is_wrong(said) else None)
        page.on("requestfinished", lambda request: wrong.append(request.url) if size(request) > LIMIT else None)

    def show(view: str, url: str = base_url, viewport: Any = DESKTOP, **options: Any) -> Page:
        contexts.append(browser.new_context(viewport=viewport, reduced_motion="reduce", **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        hear(page)
        page.goto(f"{url}/app#{view}")
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def is_wrong(said: Any) -> bool:
    return said.type == "error" and not said.text.startswith("Failed to load resource")


def size(request: Any) -> int:
    return int(request.sizes()["responseBodySize"])


def upload(api: str, *records: tuple[int | str, str, str, str]) -> None:
    named = [dict(zip(("customer_id", "name", "email", "source"), record, strict=True)) for record in records]
    requests.post(f"{api}/customers/bulk", json={"customers": named}, timeout=30).raise_for_status()


@pytest.fixture
def sample(api: str) -> str:
    """The API with the sample records, which the README describes."""
    body = (ROOT / "samples" / "customers.json").read_bytes()
    sent = requests.post(f"{api}/customers/bulk", data=body, headers={"Content-Type": "application/json"}, timeout=30)
    sent.raise_for_status()
    return api


def region(page: Page, name: str) -> Any:
    """The UpSet plot's row of a region."""
    return page.get_by_role("region", name="UpSet plot").get_by_role("link", name=re.compile(f"^{name}"))


# What there is


def test_overview_says_how_many_there_are_and_who_has_them(sample: str, show: Open) -> None:
    page = show("/")
    expect(page.get_by_role("heading", name="Customers across sources")).to_be_visible()
    for name, value in {"Records": "12", "Customers": "8", "Duplicates": "4"}.items():
        expect(page.locator("dl.tiles > div", has_text=name).locator("strong").first).to_have_text(value)
    rows = page.get_by_role("region", name="UpSet plot").get_by_role("link")
    expect(rows).to_have_count(6)
    expect(rows.first).to_have_attribute("aria-label", "Only in hubspot and salesforce: 2 customers")
    expect(page.get_by_role("group", name="Venn diagram of the sources").get_by_role("link")).to_have_count(6)
    expect(page.get_by_text("1 only in this source")).to_have_count(2)


def test_overview_of_many_regions_shows_the_largest_and_how_many_more_there_are(many_regions: str, show: Open) -> None:
    page = show("/", url=many_regions)
    rows = page.get_by_role("region", name="UpSet plot").get_by_role("link")
    expect(rows).to_have_count(16)
    expect(page.get_by_text("1,385 smaller regions are not shown.")).to_be_visible()
    page.get_by_role("button", name="Show the largest 200 regions").click()
    expect(rows).to_have_count(200)
    rows.last.click()
    expect(page.get_by_role("heading", name="1 customer", exact=True)).to_be_visible()


def test_region_leads_to_its_customers_and_these_to_their_records(sample: str, show: Open) -> None:
    page = show("/")
    region(page, "Only in hubspot and internal:").click()
    expect(page.get_by_role("heading", name="1 customer")).to_be_visible()
    page.get_by_role("link", name="105").click()
    expect(page.get_by_role("heading", name="Customer 105")).to_be_visible()
    expect(page.locator("table.records thead th")).to_have_count(3)


def test_every_region_is_reached_by_keyboard(sample: str, show: Open) -> None:
    page = show("/")
    region(page, "Only in salesforce:").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Customers in salesforce, not in hubspot or internal")).to_be_focused()
    expect(page.get_by_role("link", name="101")).to_be_visible()
    page.go_back()
    page.get_by_role("group", name="Venn diagram").get_by_role("link", name=re.compile("^Only in internal:")).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="2 customers")).to_be_visible()


def test_any_set_question_is_asked_and_shared_by_its_address(sample: str, show: Open) -> None:
    page = show("/customers?in=hubspot")
    expect(page.get_by_role("heading", name="4 customers")).to_be_visible()
    page.get_by_role("group", name="internal").get_by_role("button", name="not in").click()
    expect(page.get_by_role("heading", name="3 customers")).to_be_visible()
    again = show(page.url.partition("#")[2])
    expect(again.get_by_role("heading", name="Customers in hubspot, not in internal")).to_be_visible()
    expect(again.get_by_role("link", name="106")).to_be_visible()


def test_customers_come_in_pages(api: str, show: Open) -> None:
    upload(api, *((number, f"C {number}", f"c{number}@example.com", "hubspot") for number in range(1, 251)))
    page = show("/customers")
    expect(page.get_by_role("heading", name="250 customers")).to_be_visible()
    ids = page.locator("ul.ids li")
    expect(ids).to_have_count(100)
    page.get_by_role("button", name="Show more").click()
    expect(ids).to_have_count(200)
    page.get_by_role("button", name="Show more").click()
    expect(ids).to_have_count(250)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_records_stand_side_by_side_with_what_differs_marked(api: str, show: Open) -> None:
    upload(
        api,
        (7, "Ann Lee", "ann@example.com", "hubspot"),
        (7, "Ann Lee", "ANN@example.com", "internal"),
        (7, "Anne Lee", "ann@example.com", "salesforce"),
    )
    page = show("/customers/7")
    expect(page.locator("table.records thead th")).to_have_count(4)
    expect(page.locator("td.differs")).to_have_count(1)
    expect(page.locator("td.differs")).to_contain_text("Anne Lee")


def test_ids_keep_all_their_digits(api: str, show: Open) -> None:
    upload(api, (LARGEST, "Max", "max@example.com", "hubspot"), (-LARGEST - 1, "Min", "min@example.com", "hubspot"))
    page = show("/customers")
    page.get_by_role("link", name=str(LARGEST), exact=True).click()
    expect(page.get_by_role("heading", name=f"Customer {LARGEST}")).to_be_visible()
    expect(page.get_by_text("Max", exact=True)).to_be_visible()
    page.get_by_role("searchbox", name="Customer id").fill(str(-LARGEST - 1))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Min", exact=True)).to_be_visible()


@pytest.mark.parametrize("customer_id", ["0035g00000XyZ1aAAF", 'a/b c?#&%41"<b>'])
def test_customer_whose_id_is_a_text_is_listed_and_found(api: str, show: Open, customer_id: str) -> None:
    upload(api, (customer_id, "Tex", "tex@example.com", "hubspot"))
    page = show("/customers")
    page.get_by_role("link", name=customer_id, exact=True).click()
    expect(page.get_by_role("heading", name=f"Customer {customer_id}")).to_be_visible()
    page.goto(page.url.partition("#")[0] + "#/")
    page.get_by_role("searchbox", name="Customer id").fill(f" {customer_id} ")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Tex", exact=True)).to_be_visible()


def test_customer_has_all_emails_and_attributes_of_the_records(api: str, show: Open) -> None:
    ann = {"customer_id": 9, "name": "Ann", "email": "ann@example.com", "source": "hubspot"}
    more = {"emails": ["a@example.com"], "attributes": {"<b>Stage": "Lead"}, "modified_at": "2024-01-16T10:22:33Z"}
    other = {**ann, "source": "internal", "attributes": {"<b>Stage": "Customer"}}
    requests.post(f"{api}/customers/bulk", json={"customers": [{**ann, **more}, other]}, timeout=30).raise_for_status()

    table = show("/customers/9").locator("table.records")

    expect(table.locator("tbody tr", has_text="emails")).to_contain_text("ann@example.com, a@example.com")
    expect(table.locator("tbody tr", has_text="<b>Stage").locator("td")).to_have_text(
        [re.compile("Lead"), re.compile("Customer")]
    )
    expect(table.locator("thead th", has_text="hubspot")).to_contain_text("changed Jan 16, 2024")


def test_names_are_shown_and_never_run(api: str, show: Open, tmp_path: Path) -> None:
    upload(api, *((1, name, "a@example.com", "hubspot") for name in HOSTILE))
    page = show("/customers/1")
    for name in HOSTILE:
        expect(page.locator("bdi", has_text=name).first).to_have_text(name)
    expect(page.locator("table.records bdi").first).to_have_attribute("dir", "auto")
    expect(page.locator("main img, main b")).to_have_count(0)
    export = tmp_path / "<img src=x onerror=alert(1)> שלום.csv"
    export.write_text(f"customer_id,name,email\n1e9,{HOSTILE[0]},a@example.com\n2,{HOSTILE[2]},b@example.com\n")
    page.goto(page.url.partition("#")[0] + "#/uploads")
    page.get_by_label("Source").select_option("hubspot")
    page.get_by_label("File", exact=True).set_input_files(export)
    page.get_by_role("link", name="Show upload").click()
    expect(page.locator("bdi", has_text=export.name).first).to_be_visible()
    expect(page.locator("table.rejected bdi", has_text=HOSTILE[0]).first).to_be_visible()
    assert "owned" not in page.title()


# Files


def test_chosen_file_is_sent_and_followed_to_its_rejected_rows(api: str, show: Open, tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    good = [*(f"{number},N {number},n{number}@example.com" for number in range(1, 500)), "500,N,nowhere"]
    export.write_text("\n".join(["customer_id,name,email", *good, "1e9,Bad,bad@example.com", ",Bad,nowhere", ""]))
    page = show("/uploads")
    page.get_by_label("Source").select_option("hubspot")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(export)
    expect(page.locator(".sending")).to_contain_text("500 records accepted, 2 rows rejected")
    expect(page.get_by_role("table", name="Uploads").get_by_text("export.csv").first).to_be_visible()
    page.get_by_role("link", name="Show upload").click()
    expect(page.get_by_role("heading", name="2 rejected rows")).to_be_visible()
    reasons = page.get_by_role("table", name="Reasons for rejection").locator("tbody tr")
    expect(reasons).to_have_count(2)
    expect(reasons.first).to_contain_text("Scientific notation has lost digits")
    expect(reasons.last).to_contain_text("The customer_id is missing")
    expect(page.get_by_role("table", name="Warnings").locator("tbody tr")).to_contain_text("not used for matching")
    reasons.first.locator("summary").click()
    expect(reasons.first.get_by_text("1e9,Bad,bad@example.com")).to_be_visible()
    rejected = page.locator("table.rejected tbody tr")
    expect(rejected).to_have_count(2)
    expect(rejected.first).to_contain_text("customer_id")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    assert b"nowhere" in Path(download.value.path()).read_bytes()


def test_dropped_snapshot_replaces_what_the_source_had(sample: str, show: Open) -> None:
    page = show("/uploads")
    page.get_by_role("button", name="Replace all records").click()
    expect(page.get_by_role("button", name="Choose a file")).to_be_disabled()
    page.get_by_label("Source").select_option("internal")
    drop(page, "all.csv", "customer_id,name,email\n107,Emre,e@example.com\n900,New,n@example.com\n")
    preview = page.locator(".sending")
    expect(preview.locator("summary", has_text="3 records would be removed")).to_be_visible()
    expect(preview.get_by_role("table", name="1 record would be changed")).to_contain_text("Emre")
    total = requests.get(f"{sample}/deduplication/analyze", timeout=30).json()["total_records"]
    assert total == 12
    preview.get_by_role("button", name="Replace records").click()
    page.get_by_role("link", name="Show upload").click()
    told = {"Customers added": "1", "Customers unchanged": "1", "Customers removed": "3"}
    told |= {"Records added": "1", "Records changed": "1", "Records removed": "3", "Records unchanged": "0"}
    for name, value in told.items():
        expect(page.locator("dl.tiles > div", has_text=name).locator("strong")).to_have_text(value)


def test_dropped_upsert_changes_adds_and_removes(sample: str, show: Open) -> None:
    page = show("/uploads")
    expect(page.get_by_text("Every row becomes a record")).to_be_visible()
    page.get_by_role("button", name="Update records").click()
    expect(page.get_by_text("rows that are marked as deleted remove it")).to_be_visible()
    expect(page.get_by_role("button", name="Choose a file")).to_be_disabled()
    page.get_by_label("Source").select_option("internal")
    drop(page, "delta.csv", "id,name,archived\n107,Emre,false\n900,New,false\n102,,true\n")
    preview = page.locator(".sending")
    expect(preview.get_by_role("table", name="1 record would be changed")).to_contain_text("Emre")
    assert requests.get(f"{sample}/deduplication/analyze", timeout=30).json()["total_records"] == 12
    preview.get_by_role("button", name="Update records").click()
    page.get_by_role("link", name="Show upload").click()
    told = {"Records added": "1", "Records changed": "1", "Records removed": "1", "Records unchanged": "0"}
    for name, value in told.items():
        expect(page.locator("dl.tiles > div", has_text=name).locator("strong")).to_have_text(value)
    expect(page.get_by_text("update the records of the rows")).to_be_visible()


def drop(page: Page, name: str, text: str) -> None:
    transfer = page.evaluate_handle(
        "([name, text]) => { const d = new DataTransfer(); d.items.add(new File([text], name)); return d; }",
        [name, text],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})


def rows(ids: Iterable[int], name: str = "Customer", phone: str = "+1 202 555 0100") -> str:
    lines = (f"{n},{name} {n},c{n}@example.com,{phone}\n" for n in ids)
    return "".join(["customer_id,name,email,phone\n", *lines])


def send_snapshot(api: str, text: str) -> Any:
    """A snapshot that is not sent from the page; the upload when it is at rest."""
    wish = {"filename": "night.csv", "source": "hubspot"}
    expected = requests.post(f"{api}/uploads/snapshots", json=wish, timeout=30).json()
    requests.put(expected["url"], data=text.encode(), timeout=30).raise_for_status()
    return ended(api, expected["id"])


def test_preview_that_is_discarded_or_out_of_date_changes_nothing(api: str, show: Open) -> None:
    send_snapshot(api, rows(range(30)))
    page = show("/uploads")
    page.get_by_role("button", name="Replace all records").click()
    page.get_by_label("Source").select_option("hubspot")
    drop(page, "all.csv", rows(range(20, 60), name="Other"))
    preview = page.locator(".sending")
    figures = {"Records added": "30", "Records changed": "10", "Records removed": "20", "New to all sources": "30"}
    for name, value in figures.items():
        expect(preview.locator("dl.tiles > div", has_text=name).locator("strong")).to_have_text(value)
    removed = preview.get_by_role("table", name="20 records would be removed").locator("tbody tr")
    expect(removed).to_have_count(5)
    preview.get_by_role("button", name="Show 20 examples").click()
    expect(removed).to_have_count(20)
    changed = preview.get_by_role("table", name="10 records would be changed").locator("tbody tr")
    expect(changed.first).to_contain_text("Customer 20")
    expect(changed.first).to_contain_text("Other 20")
    expect(preview.get_by_role("table", name="30 records would be added")).to_be_hidden()
    preview.locator("summary", has_text="30 records would be added").click()
    expect(preview.get_by_role("table", name="30 records would be added")).to_contain_text("Other 30")

    preview.get_by_role("button", name="Discard").click()

    expect(preview).to_contain_text("Discarded. Nothing was loaded.")
    drop(page, "all.csv", rows(range(20, 60), name="Other"))
    expect(preview.first.get_by_role("button", name="Replace records")).to_be_visible()
    upload(api, (7, "New", "new@example.com", "hubspot"))
    preview.first.get_by_role("button", name="Replace records").click()
    expect(preview.first).to_contain_text("The preview is out of date")
    assert requests.get(f"{api}/deduplication/analyze", timeout=30).json()["total_records"] == 31


def test_held_snapshot_is_loaded_or_discarded(api: str, show: Open) -> None:
    send_snapshot(api, rows(range(200)))
    first, second = send_snapshot(api, rows(range(100))), send_snapshot(api, rows(range(60)))
    assert [first["status"], second["status"]] == ["held", "held"]
    page = show("/uploads")
    row = page.get_by_role("row", name=re.compile(rf"^{first['id']}\b"))
    expect(row).to_contain_text("held")
    row.get_by_role("link", name=str(first["id"])).click()
    expect(page.get_by_role("alert")).to_contain_text("The snapshot would remove 100 of 200 customers (50 %).")
    expect(page.get_by_role("table", name="100 records would be removed").locator("tbody tr")).to_have_count(5)

    page.get_by_role("button", name="Discard").click()

    expect(page.get_by_role("heading", name="Uploads")).to_be_visible()
    assert ended(api, first["id"])["status"] == "deleted"
    page.goto(page.url.partition("#")[0] + f"#/uploads/{second['id']}")
    page.get_by_role("button", name="Load anyway").click()
    expect(page.locator("dl.tiles > div", has_text="Customers removed").locator("strong")).to_have_text("140")
    expect(page.locator("dl.tiles > div", has_text="Accepted").locator("strong")).to_have_text("60")
    assert requests.get(f"{api}/deduplication/analyze", timeout=30).json()["total_records"] == 60


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_deciding(api: str, show: Open, theme: Any, tmp_path: Path) -> None:
    """PICTURES=folder keeps what it looks like."""
    hostile = rows(range(150)).replace("Customer 149", HOSTILE[0]).replace("Customer 148", HOSTILE[2])
    send_snapshot(api, hostile)
    held = send_snapshot(api, rows(range(90), name="Somebody else", phone="") + f"900,{HOSTILE[0]},n@example.com,\n")
    pictures = Path(os.environ.get("PICTURES") or tmp_path)
    page = show("/uploads", color_scheme=theme)
    page.get_by_role("button", name="Replace all records").click()
    page.get_by_label("Source").select_option("hubspot")
    drop(page, "all.csv", rows(range(10, 170), name="Another"))
    expect(page.get_by_role("button", name="Replace records")).to_be_visible()
    for view in ("/uploads", f"/uploads/{held['id']}"):
        page.set_viewport_size(DESKTOP)
        if view != "/uploads":
            page.goto(page.url.partition("#")[0] + f"#{view}")
            expect(page.get_by_role("button", name="Load anyway")).to_be_visible()
        settled(page)
        accessible(page, view)
        name = f"{theme}-decide{view[:9].replace('/', '-')}"
        page.screenshot(path=pictures / f"{name}.png", full_page=True)
        fits_a_phone(page, view)
        page.screenshot(path=pictures / f"{name}-phone.png", full_page=True)
    assert "owned" not in page.title()


def test_long_rejected_row_is_shown_whole(api: str, show: Open) -> None:
    page = show("/uploads")
    page.get_by_label("Source").select_option("hubspot")
    drop(page, "a.csv", f"customer_id,name,email\n1e9,{'Ann ' * 200}END,a@example.com\n")
    page.get_by_role("link", name="Show upload").click()
    row = page.locator("table.rejected tbody tr")
    expect(row.get_by_text("END")).to_be_hidden()
    row.locator("summary").click()
    expect(row.get_by_text("END,a@example.com")).to_be_visible()


PEOPLE = "customer_id,name,email\n1,Ann,ann@example.com\n2,Bob,n/a\n"


def test_content_that_was_loaded_before_is_asked_about_before_it_is_sent(api: str, show: Open) -> None:
    page = show("/uploads")
    page.get_by_label("Source").select_option("hubspot")
    drop(page, "first.csv", PEOPLE)
    expect(page.locator(".sending")).to_contain_text("2 records accepted")
    first = requests.get(f"{api}/uploads", params={"limit": 1}, timeout=30).json()[0]["id"]

    drop(page, "again.csv", PEOPLE)
    asked = page.locator(".sending", has_text="again.csv")
    expect(asked.get_by_role("alert")).to_contain_text(f"loaded before: upload {first}. Load it again?")
    asked.get_by_role("button", name="Cancel").click()
    expect(asked).to_contain_text("Not sent.")
    drop(page, "once more.csv", PEOPLE)
    asked = page.locator(".sending", has_text="once more.csv")
    asked.get_by_role("button", name="Load again").click()
    expect(asked).to_contain_text("2 records accepted")

    asked.get_by_role("link", name="Show upload").click()
    expect(page.get_by_role("table", name="Warnings")).to_contain_text(f"loaded before: upload {first}")
    # The page does not wait until the upload that was not sent is deleted.
    for _ in range(100):
        newest, cancelled, _ = requests.get(f"{api}/uploads", params={"limit": 3}, timeout=30).json()
        if cancelled["status"] == "deleted":
            break
        time.sleep(0.1)
    assert (newest["accepted"], cancelled["status"]) == (2, "deleted")
    assert requests.get(f"{api}/deduplication/analyze", timeout=30).json()["total_records"] == 4


def test_options_are_sent_with_the_file_they_are_for(api: str, show: Open, tmp_path: Path) -> None:
    book, text = tmp_path / "a.xlsx", tmp_path / "a.csv"
    text.write_text(PEOPLE)
    made = openpyxl.Workbook()
    made.active.append(["id", "name", "email"])
    made.active.append([1, "Ann", "ann@example.com"])
    second = made.create_sheet("Second")
    for row in (["id", "name", "email"], [2, "Bob", "n/a"], [3, "Cid", "cid@example.com"]):
        second.append(row)
    made.save(book)
    page = show("/uploads")
    page.get_by_label("Source").select_option("hubspot")
    page.get_by_text("Options").click()
    page.get_by_label("Reject rows whose email is not a valid address").check()
    page.get_by_label("Sheet").fill("second")

    page.get_by_label("File", exact=True).set_input_files([book, text])

    for name in (book.name, text.name):
        expect(page.locator(".sending", has_text=name)).to_contain_text("1 record accepted, 1 row rejected")
    page.get_by_role("link", name="Show upload").first.click()
    expect(page.get_by_text("rows without a valid address are rejected")).to_be_visible()


def test_guessed_source_is_shown_as_guessed(api: str, show: Open, tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    export.write_bytes(write("hubspot", contacts(20)))
    page = show("/uploads")
    page.get_by_label("File", exact=True).set_input_files(export)
    expect(page.locator(".sending")).to_contain_text("The source was guessed from the column names: hubspot.")
    expect(page.get_by_role("table", name="Uploads").get_by_text("(guessed)").first).to_be_visible()
    page.get_by_role("link", name="Show upload").click()
    expect(page.get_by_text("hubspot, guessed from the column names")).to_be_visible()
    expect(page.locator("dl.tiles > div", has_text="New to all sources").locator("strong")).to_have_text("20")


UNKNOWN = "cust_no,e_mail_addr,tel,firm\n" + "".join(
    f"{n},c{n}@example.com,+1 202 555 0{n},Firm {n}\n" for n in range(100, 140)
)


def choose(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(path)


@pytest.fixture
def unmapped(api: str) -> Iterator[str]:
    """The API without saved mappings."""
    yield api
    requests.delete(f"{api}/sources/hubspot/mappings", timeout=30).raise_for_status()


def test_file_whose_columns_nobody_knows_is_loaded_by_two_clicks(unmapped: str, show: Open, tmp_path: Path) -> None:
    file = tmp_path / "unknown.csv"
    file.write_text(UNKNOWN)
    page = show("/uploads")
    page.get_by_label("Source").select_option("hubspot")

    choose(page, file)  # the first click
    mapping = page.locator(".sending")
    for column, field in {"cust_no": "customer_id", "e_mail_addr": "email", "tel": "phone", "firm": "company"}.items():
        expect(mapping.get_by_label(f"Field of {column}")).to_have_value(field)
    row = mapping.get_by_role("row", name=re.compile("^e_mail_addr"))
    expect(row).to_contain_text("c100@example.com")
    expect(row).to_contain_text("The name resembles email, and the values look like email addresses")
    preview = mapping.get_by_role("region", name="Preview").locator("tbody tr")
    expect(preview).to_have_count(10)
    expect(preview.first).to_contain_text("c100@example.com")
    mapping.get_by_role("button", name="Load records").click()  # the second

    expect(mapping).to_contain_text("40 records accepted")
    total = requests.get(f"{unmapped}/deduplication/analyze", timeout=30).json()["total_records"]
    assert total == 40


def test_mapping_is_corrected_and_used_for_later_files(unmapped: str, show: Open, tmp_path: Path) -> None:
    file = tmp_path / "unknown.csv"
    file.write_text(UNKNOWN.replace("firm", "x").replace("Firm", "Berlin"))
    page = show("/uploads")
    choose(page, file)
    expect(page.locator(".sending")).to_contain_text("Load records")
    newest = requests.get(f"{unmapped}/uploads", params={"limit": 1}, timeout=30).json()[0]["id"]
    page.goto(page.url.partition("#")[0] + f"#/uploads/{newest}")
    expect(page.get_by_role("heading", name="Which column is which?")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("State the source of the rows")
    load = page.get_by_role("button", name="Load records")
    expect(load).to_be_disabled()
    page.get_by_label("Source of all rows").select_option("hubspot")
    page.get_by_label("Field of x").select_option("city")
    page.get_by_label("Field of cust_no").select_option("ignore")
    expect(page.get_by_label("Customer ids")).to_have_value("generate")
    page.get_by_label("Customer ids").select_option("cust_no")
    expect(page.get_by_role("region", name="Preview")).to_contain_text("Berlin 100")
    page.get_by_label("Use for later files of this source").check()
    load.click()
    expect(page.locator("dl.tiles > div", has_text="Accepted").locator("strong")).to_have_text("40")
    page.get_by_text("4 columns of 4 used").or_(page.get_by_text("3 columns of 4 used")).click()
    expect(page.get_by_role("table", name="Columns")).to_contain_text("Stated in the mapping")

    page.goto(page.url.partition("#")[0] + "#/uploads")
    page.get_by_label("Source").select_option("hubspot")
    choose(page, file)
    page.get_by_role("button", name="Load again").click()
    expect(page.locator(".sending")).to_contain_text("40 records accepted")
    page.get_by_text("Options").click()
    page.get_by_label("Check the columns before loading").check()
    file.write_text(UNKNOWN.replace("firm", "x").replace("Firm", "Bern"))
    choose(page, file)
    expect(page.locator(".sending").first).to_contain_text("A check of the mapping was requested")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_mapping(unmapped: str, show: Open, theme: Any, tmp_path: Path) -> None:
    """PICTURES=folder keeps what it looks like."""
    page = show("/uploads", color_scheme=theme)
    page.get_by_label("Source").select_option("hubspot")
    hostile = UNKNOWN.replace("Firm 100", HOSTILE[0]).replace("Firm 101", HOSTILE[2]).replace("tel", "dob")
    drop(page, "unknown.csv", hostile)
    expect(page.get_by_role("region", name="Preview")).to_be_visible()
    newest = requests.get(f"{unmapped}/uploads", params={"limit": 1}, timeout=30).json()[0]["id"]
    pictures = Path(os.environ.get("PICTURES") or tmp_path)
    for view in ("/uploads", f"/uploads/{newest}"):
        if view != "/uploads":
            barriers(page, view)
            expect(page.get_by_role("region", name="Preview")).to_be_visible()
        accessible(page, view)
        page.set_viewport_size(DESKTOP)
        page.screenshot(path=pictures / f"{theme}{view.replace('/', '-')[:9]}.png", full_page=True)
        fits_a_phone(page, view)
        page.screenshot(path=pictures / f"{theme}{view.replace('/', '-')[:9]}-phone.png", full_page=True)
        page.set_viewport_size(DESKTOP)
    assert "owned" not in page.title()


def test_file_that_fails_says_why(api: str, show: Open) -> None:
    page = show("/uploads")
    drop(page, "wrong.csv", "a,b\n")
    expect(page.locator(".sending")).to_contain_text("customer_id")
    drop(page, "empty.csv", "")
    expect(page.get_by_role("alert").filter(has_text="size")).to_contain_text("greater than 0")


def test_transfer_that_breaks_says_so(api: str, show: Open) -> None:
    page = show("/uploads")
    page.route("**/incoming/**", lambda route: route.abort())
    drop(page, "a.csv", "customer_id,name,email,source\n")
    expect(page.get_by_role("alert")).to_contain_text("The file was not sent")


def test_records_of_an_upload_are_deleted_when_it_is_said_twice(sample: str, show: Open) -> None:
    newest = requests.get(f"{sample}/uploads", params={"limit": 1}, timeout=30).json()[0]["id"]
    page = show(f"/uploads/{newest}")
    page.get_by_role("button", name="Delete records").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("heading", name="Uploads")).to_be_visible()
    assert requests.get(f"{sample}/deduplication/analyze", timeout=30).json()["total_records"] == 0


# States


def test_page_without_records_offers_to_upload_a_file(api: str, show: Open) -> None:
    page = show("/")
    expect(page.get_by_text("No records yet")).to_be_visible()
    page.get_by_role("link", name="Upload a file").click()
    expect(page.get_by_role("heading", name="Uploads")).to_be_visible()
    page.goto(page.url.partition("#")[0] + "#/customers")
    expect(page.get_by_text("No customers", exact=True)).to_be_visible()


def test_page_shows_that_it_is_loading(sample: str, show: Open) -> None:
    page = show("/review")
    held: list[Route] = []
    page.route("**/analyze?*", lambda route: held.append(route))
    page.goto(page.url.partition("#")[0] + "#/")
    expect(page.get_by_text("Loading…").first).to_be_attached()
    expect(page.locator("a.region")).to_have_count(6)
    held[0].continue_()
    expect(page.locator("dl.tiles strong").first).to_have_text("12")


def test_errors_are_told_in_the_apis_words(api: str, show: Open) -> None:
    page = show("/customers/424242")
    expect(page.get_by_role("alert")).to_contain_text("Customer not found")
    page.goto(page.url.partition("#")[0] + f"#/customers/{'x' * 256}")
    expect(page.get_by_role("alert")).to_contain_text("more than 255 characters")
    page.goto(page.url.partition("#")[0] + "#/nowhere")
    expect(page.get_by_text("This page does not exist")).to_be_visible()


def test_page_without_an_answer_of_the_api_says_so_and_tries_again(sample: str, show: Open) -> None:
    page = show("/uploads")
    expect(page.get_by_role("table", name="Uploads")).to_be_visible()
    page.route("**/api/**", lambda route: route.abort())
    page.goto(page.url.partition("#")[0] + "#/customers")
    expect(page.get_by_role("alert")).to_contain_text("The API does not respond")
    page.unroute("**/api/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="8 customers")).to_be_visible()


def test_part_that_is_lost_is_asked_for_again(sample: str, show: Open) -> None:
    page = show("/nowhere")
    page.route("**/app/overview.js?*", lambda route: route.abort(), times=1)
    page.goto(page.url.partition("#")[0] + "?fresh#/")
    expect(page.locator("a.region")).to_have_count(6)
    page.route("**/app/overview.js?*", lambda route: route.abort())
    page.goto(page.url.partition("?")[0] + "?again#/")
    expect(page.get_by_text("A part of this page could not be loaded")).to_be_visible()


# For everyone

VIEWS = ["/", "/?by=entity", "/customers?in=hubspot", "/customers/103", "/uploads", "/uploads/{upload}", "/nowhere"]


@pytest.fixture
def views(sample: str) -> list[str]:
    newest = requests.get(f"{sample}/uploads", params={"limit": 1}, timeout=30).json()[0]["id"]
    return [view.format(upload=newest) for view in VIEWS]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_a_view(views: list[str], show: Open, theme: Any) -> None:
    page = show("/nowhere", color_scheme=theme)
    for view in views:
        page.set_viewport_size(DESKTOP)
        barriers(page, view)
        fits_a_phone(page, view)


def barriers(page: Page, view: str) -> None:
    page.goto(page.url.partition("#")[0] + f"#{view}")
    settled(page)
    accessible(page, view)


def accessible(page: Page, view: str) -> None:
    found = Axe().run(page).response["violations"]
    serious = [error for error in found if error["impact"] in ("serious", "critical")]
    assert [(view, error["id"], [node["html"] for node in error["nodes"]]) for error in serious] == []


def fits_a_phone(page: Page, view: str) -> None:
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view
    widths = page.evaluate("[...document.querySelectorAll('.panel')].map(panel => panel.offsetWidth)")
    assert all(width > PHONE["width"] * 0.8 for width in widths), view


def settled(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    expect(page.locator(".waiting")).to_have_count(0)


def test_theme_follows_the_system_until_one_is_chosen(api: str, show: Open) -> None:
    page = show("/", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.get_by_role("button", name="Use the light theme").click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Use the dark theme")).to_be_visible()
    assert page.evaluate(background) == light


# The picture


def test_picture_of_the_page(api: str, show: Open, tmp_path: Path) -> None:
    """PICTURE=docs/page.png keeps it where the README shows it."""
    for source, *spans in (
        ("salesforce", (1, 3200)),
        ("hubspot", (2600, 4400)),
        ("internal", (2300, 2750), (3100, 3600), (4200, 5200)),
    ):
        ids = [number for first, last in spans for number in range(first, last + 1)]
        upload(api, *((number, f"Customer {number}", f"c{number}@example.com", source) for number in ids))
    page = show("/", viewport={"width": 1280, "height": 905}, device_scale_factor=1.25)
    expect(page.locator("a.region")).to_have_count(7)
    settled(page)
    picture = Path(os.environ.get("PICTURE") or tmp_path / "page.png").absolute()
    page.screenshot(path=picture)
    assert 20_000 < picture.stat().st_size < LIMIT


# People: the same person under different ids, by a matching run


@pytest.fixture(scope="module")
def people(browser: Browser, base_url: str, images: None) -> str:
    """The API with records of people who are in it under several ids, after a matching run that the page started."""
    api = f"{base_url}/api/v1"
    empty(api)
    body = (ROOT / "samples" / "people.json").read_bytes()
    sent = requests.post(f"{api}/customers/bulk", data=body, headers={"Content-Type": "application/json"}, timeout=30)
    sent.raise_for_status()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{base_url}/app#/matching")
    page.get_by_role("button", name="Start a run").click()
    expect(page.get_by_role("heading", name=re.compile(r"^Run \d+$"))).to_be_visible()
    expect(page.get_by_text("active", exact=True)).to_be_visible(timeout=120_000)
    expect(page.get_by_role("img", name="Pairs of records by match weight")).to_be_visible()
    expect(page.get_by_role("table", name="Pairs near the threshold")).to_be_visible()
    context.close()
    return api


def person(api: str, *names: str) -> Any:
    """The entity that has records under all of these names."""
    for found in requests.get(f"{api}/entities", params={"min_records": len(names)}, timeout=30).json():
        entity = requests.get(f"{api}/entities/{found['id']}", timeout=30).json()
        if set(names) <= {record["name"] for record in entity["records"]}:
            return entity
    raise AssertionError(f"nobody has the names {names}")


def test_runs_are_listed(people: str, show: Open) -> None:
    page = show("/matching")
    first = page.get_by_role("table", name="Matching runs").get_by_role("row").nth(1)
    expect(first).to_contain_text("done")
    expect(first).to_contain_text("active")


def test_run_is_made_active_on_the_page(people: str, show: Open) -> None:
    [active] = requests.get(f"{people}/matching/runs", params={"limit": 1}, timeout=30).json()
    wish = {"model_of": active["id"], "activate": False}
    run = requests.post(f"{people}/matching/runs", json=wish, timeout=30).json()["id"]
    page = show(f"/matching/{run}")
    page.get_by_role("button", name="Activate this run").click(timeout=60_000)
    expect(page.locator("p.facts")).to_contain_text("active")
    expect(page.get_by_role("button", name="Activate this run")).to_have_count(0)


def test_overview_counts_by_person(people: str, show: Open) -> None:
    counted = requests.get(f"{people}/deduplication/analyze", params={"by": "entity"}, timeout=30).json()
    page = show("/")
    page.get_by_role("button", name="By person").click()
    tile = page.locator("dl.tiles > div", has=page.get_by_text("People", exact=True)).locator("strong")
    expect(tile).to_have_text(str(counted["unique_customers"]))
    assert counted["unique_customers"] < counted["total_records"]
    region(page, "Only in hubspot, internal and salesforce: \\d+ people").click()
    page.locator("ul.ids a").first.click()
    expect(page.get_by_role("heading", name=re.compile(r"^Person \d+$"))).to_be_visible()


def test_person_has_a_golden_record_and_reasons(people: str, show: Open) -> None:
    entity = person(people, "Katherine Moreau", "Kate Moreau")
    page = show("/people")
    page.get_by_role("table", name="People").get_by_role("link", name=str(entity["id"]), exact=True).click()
    table = page.locator("table.records")
    expect(table.locator("th.golden")).to_have_text("Golden record")
    expect(table.locator("tbody tr", has_text="Name").first.locator("td.golden")).to_contain_text(
        entity["golden"]["name"]["value"]
    )
    expect(table.locator("td.differs").filter(has_text="Kate Moreau")).to_be_visible()
    edge = entity["edges"][0]
    reason = page.locator(".evidence", has_text=f"Records {edge['record_a']} and {edge['record_b']}")
    expect(reason).to_contain_text("same email and name")
    expect(reason.locator("li.for").first).to_contain_text("same")
    customer = entity["records"][0]["customer_id"]
    table.get_by_role("link", name=f"customer {customer}").first.click()
    expect(page.get_by_role("link", name=f"person {entity['id']}")).to_be_visible()


def test_pairs_are_decided_by_keyboard_and_undone(people: str, show: Open) -> None:
    page = show("/review")
    heads = page.locator("table.records thead th small")
    expect(heads).to_have_count(2)
    first = heads.all_inner_texts()
    page.keyboard.press("n")
    expect(heads.first.or_(page.get_by_text("Nothing to decide"))).to_be_visible()
    page.wait_for_timeout(50)
    second = heads.all_inner_texts()
    assert second != first
    page.keyboard.press("d")
    expect(page.get_by_text("1 pair decided. Last decision: different.")).to_be_visible()
    decision = requests.get(f"{people}/matching/decisions", params={"limit": 1}, timeout=30).json()[0]
    assert decision["verdict"] == "different"
    assert {f"record {number}" for number in decision["record_ids"]} == {text.split(",")[0] for text in second}
    page.keyboard.press("s")
    expect(page.get_by_text("2 pairs decided. Last decision: same.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("1 pair decided. Last decision: different.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    expect(heads).to_have_text(second)


def test_person_is_found_by_what_is_known_of_them(people: str, show: Open) -> None:
    entity = person(people, "Katherine Moreau", "Kate Moreau")
    page = show("/people")
    page.get_by_role("link", name="Look up a person").click()
    expect(page.get_by_role("heading", name="Person lookup")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("kate MOREAU")
    page.keyboard.press("Tab")
    page.keyboard.type("Katherine.Moreau@example.com")
    page.keyboard.press("Enter")

    first = page.get_by_role("article").first
    expect(page.locator(".result")).to_have_text(re.compile(r"^[1-9]\d* (person|people)"))
    expect(first.locator(".likely")).to_contain_text("99")
    expect(first).to_contain_text("same email and name")
    expect(first.locator("li.for", has_text="email")).to_contain_text("same")
    expect(first.locator("dl")).to_contain_text(entity["golden"]["email"]["value"])
    first.get_by_role("link").click()
    expect(page.get_by_role("heading", name=f"Person {entity['id']}")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Name")).to_have_value("kate MOREAU")
    expect(first.get_by_role("link")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_label("Name")).to_have_value("")
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize("view", ["/people", "/people/lookup", "/review", "/?by=entity"])
def test_before_the_first_run_the_views_of_people_lead_to_one(no_run: None, show: Open, view: str) -> None:
    page = show(view)
    expect(page.get_by_text("No matching run has finished yet")).to_be_visible()
    barriers(page, view)
    expect(page.get_by_role("button", name="Look up")).to_have_count(0)
    page.get_by_role("link", name="Run matching").click()
    expect(page.get_by_role("button", name="Start a run")).to_be_visible()


@pytest.fixture
def database(stack_folder: Path | None) -> Iterator[Database]:
    """The stack's database."""
    if stack_folder is None:
        pytest.skip("the stack's database is not ours")
    environment = json.loads((stack_folder / "environment.json").read_text())
    told = {name.lower(): value for name, value in environment.items() if name.lower() in Settings.model_fields}
    database = Database(Settings.model_validate(told))
    yield database
    database.close()


@pytest.fixture
def no_run(people: str, database: Database) -> Iterator[None]:
    """The stack as it is before the first run: the database has no active run."""

    def put(run: int | None) -> Any:
        return database.write(
            lambda connection: connection.run(
                f"UPDATE match_state s SET active_run = {run or 'NULL'} FROM match_state old RETURNING old.active_run"
            ),
            repeatable=False,
        )

    [[run]] = put(None)
    yield
    put(run)


@pytest.fixture
def resolving(people: str, database: Database) -> Iterator[Callable[[], None]]:
    """Everything is resolved, and nothing more until it is called: only who has the lock of the change log reads it."""
    asked = requests.get(
        f"{people}/deduplication/analyze", params={"by": "entity"}, headers={"Prefer": "wait=20"}, timeout=30
    )
    assert asked.headers["Preference-Applied"] == "wait=20"
    locking = database.with_own_connection()
    locking._live().run(f"BEGIN; SELECT {CHANGE_LOG_LOCK_EXCLUSIVE}")
    yield locking.close
    locking.close()


@pytest.mark.parametrize("view", ["/?by=entity", "/customers?by=entity", "/people", "/people/{id}"])
def test_views_of_people_say_how_many_records_wait_to_be_matched(
    people: str, show: Open, resolving: Callable[[], None], view: str
) -> None:
    page = show(view.format(id=person(people, "Katherine Moreau", "Kate Moreau")["id"]))
    waiting = page.get_by_text("waiting to be matched")
    upload(people, (900_001, "Waiting 1", "waiting1@example.com", "hubspot"))
    page.reload()
    expect(waiting).to_have_text("1 record waiting to be matched")
    upload(people, *((900_001 + n, f"Waiting {n}", f"waiting{n}@example.com", "hubspot") for n in range(999)))
    expect(waiting).to_have_text("1,000 records waiting to be matched")
    resolving()
    expect(waiting).to_have_count(0, timeout=60_000)
    for one in requests.get(f"{people}/uploads", params={"limit": 2}, timeout=30).json():
        requests.delete(f"{people}/uploads/{one['id']}", timeout=30).raise_for_status()


def test_lookup_without_details_without_matches_and_with_invalid_text(people: str, show: Open) -> None:
    page = show("/people/lookup")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("alert")).to_have_text("Enter at least one detail.")
    page.get_by_label("Name").fill("Zebulon <b>Quux</b>")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_text("No matches")).to_be_visible()
    page.get_by_label("Name").fill("Zebu\x01lon")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("alert")).to_contain_text("name:")
    page.route("**/entities/lookup", lambda route: route.abort(), times=1)
    page.get_by_label("Name").fill("Zebulon")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("alert")).to_contain_text("The API does not respond")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("No matches")).to_be_visible()


def test_what_is_typed_while_a_lookup_is_asked_stays(people: str, show: Open) -> None:
    page = show("/people/lookup")
    held: list[Route] = []
    page.route("**/entities/lookup", lambda route: held.append(route), times=1)
    page.get_by_label("Name").fill("Zebulon Quux")
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("button", name="Searching…")).to_be_disabled()
    page.get_by_label("Name").fill("Kate Moreau")
    held[0].continue_()
    expect(page.get_by_text("No matches")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("Kate Moreau")


def test_answer_of_a_lookup_is_in_sight_on_a_phone(people: str, show: Open) -> None:
    page = show("/people/lookup", viewport=PHONE)
    page.get_by_label("Name").fill("Kate Moreau")
    page.get_by_label("Email").fill("katherine.moreau@example.com")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article").first.get_by_role("link")).to_be_in_viewport()
    themes: list[Any] = ["light", "dark"]
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        accessible(page, f"/people/lookup, {theme}")
    fits_a_phone(page, "/people/lookup")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_the_views_of_people(people: str, show: Open, theme: Any) -> None:
    run = requests.get(f"{people}/matching/runs", params={"limit": 1}, timeout=30).json()[0]["id"]
    entity = person(people, "Katherine Moreau", "Kate Moreau")["id"]
    page = show("/nowhere", color_scheme=theme)
    for view in (
        "/?by=entity",
        "/matching",
        f"/matching/{run}",
        "/people",
        "/people/lookup",
        f"/people/{entity}",
        "/review",
    ):
        page.set_viewport_size(DESKTOP)
        barriers(page, view)
        fits_a_phone(page, view)


def test_pair_matched_by_a_rule_alone_has_no_weight(api: str, images: None, show: Open) -> None:
    """One of the last two of these, which take the people's records away."""
    pair = hold_back_a_rule(api)
    assert pair["probability"] is None
    page = show("/review")
    expect(page.get_by_text(f"constraint: {pair['constraint_name'].replace('_', ' ')}")).to_be_visible()
    expect(page.get_by_text("By a match rule")).to_have_count(2)
    expect(page.get_by_text(re.compile("weight|likely", re.IGNORECASE))).to_have_count(0)


def test_skipped_pairs_hide_no_others(api: str, images: None, show: Open) -> None:
    pairs = [[f"record {pair[side]['id']}" for side in ("record_a", "record_b")] for pair in hold_back_rules(api, 45)]
    page = show("/review")
    heads = page.locator("table.records thead th small")
    for number, pair in enumerate(pairs):
        expect(heads).to_have_text([re.compile(f"^{record}\\b") for record in pair])
        page.keyboard.press("d" if number == 30 else "n")
    expect(page.get_by_text("You skipped 44 pairs.")).to_be_visible()
    page.get_by_role("button", name="Show skipped pairs").click()
    expect(heads).to_have_text([re.compile(f"^{record}\\b") for record in pairs[0]])


# Who asks


def test_people_sign_in_where_the_api_demands_it(sample: str, base_url: str, show: Open) -> None:
    with gateway(base_url) as front:
        page = show("/customers?in=internal", url=front.url)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Customers in internal")).to_be_visible()
        expect(page.get_by_role("heading", name="4 customers")).to_be_visible()
        assert page.url == f"{front.url}/app#/customers?in=internal"
        page.reload()
        expect(page.get_by_role("heading", name="4 customers")).to_be_visible()
        assert front.sign_ins == 1
        front.tokens.clear()
        page.goto(f"{front.url}/app#/uploads")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_token_that_ends_is_made_anew(sample: str, base_url: str, show: Open) -> None:
    with gateway(base_url) as front:
        front.token_seconds = 1
        page = show("/", url=front.url)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("dl.tiles strong").first).to_have_text("12")
        assert front.refreshes > 0


def test_sign_in_that_began_elsewhere_is_refused(api: str, base_url: str, show: Open) -> None:
    with gateway(base_url) as front:
        page = show("/", url=front.url)
        page.goto(f"{front.url}/app?code=stolen&state=other#/")
        expect(page.get_by_role("alert")).to_contain_text("was not started in this tab")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
