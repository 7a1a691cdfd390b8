"""The page's files: served to be kept, under a policy that lets nothing else in, and told who signs in where."""

import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from dedup.api import static_files
from dedup.aws import bucket
from dedup.settings import settings

from tests.conftest import ROOT, api_event, lambda_context, load_function

WEB = ROOT / "web"
STAGE = {"SignIn": "https://dedup.auth.example.com", "ClientId": "abc"}
LIMIT = 200_000


@pytest.fixture(autouse=True)
def deployed(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BUCKET", "dedup-uploads")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


def get(path: str, query: dict[str, str] | None = None, stage: dict[str, str] | None = None) -> dict[str, Any]:
    event = api_event("GET", path, query=query) | {"stageVariables": stage}
    answer: dict[str, Any] = load_function("app").handler(event, lambda_context("app"))
    return answer


def header(answer: dict[str, Any], name: str) -> str:
    return str(answer["multiValueHeaders"][name][0])


def policy(stage: dict[str, str] | None = None) -> dict[str, list[str]]:
    found = header(get("/app", stage=stage), "Content-Security-Policy")
    return {name: sources for name, *sources in (part.split() for part in found.split(";"))}


def test_policy_lets_nothing_in_but_our_own() -> None:
    assert policy() == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'", "https://dedup-uploads.s3.eu-west-1.amazonaws.com"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


def test_page_may_ask_whoever_signs_people_in() -> None:
    assert policy(STAGE)["connect-src"][-1] == STAGE["SignIn"]


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1", "ap-south-2"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:3001"])
def test_presigned_urls_lead_where_the_policy_lets_the_page_go(
    monkeypatch: pytest.MonkeyPatch, region: str, endpoint: str | None
) -> None:
    for name, value in {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, "AWS_ENDPOINT_URL": endpoint}.items():
        if value:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    bucket.client.cache_clear()
    try:
        url = urlsplit(bucket.upload_url("incoming/a.csv", None))
    finally:
        bucket.client.cache_clear()

    assert f"{url.scheme}://{url.netloc}" == bucket.origin()


def test_page_names_its_files_by_their_version_and_runs_nothing_inline() -> None:
    html = get("/app")["body"]
    links = re.findall(r'(?:href|src)="([^"]*)"', html)

    assert all(re.fullmatch(r"app/config\.json|app/[\w.-]+\?v=[0-9a-f]{16}", link) for link in links)
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]*src=)", html)
    modules = {path.name for path in WEB.glob("*.js")}
    assert {link.split("?")[0].removeprefix("app/") for link in links if ".js?" in link} == modules


@pytest.mark.parametrize("path", sorted(path for path in WEB.iterdir() if path.is_file() and path.suffix != ".html"))
def test_file_is_small_asks_no_other_host_and_is_kept_for_good(path: Any) -> None:
    answer = get(f"/app/{path.name}", {"v": "0123456789abcdef"})

    assert answer["statusCode"] == 200
    assert "immutable" in header(answer, "Cache-Control")
    assert {name: header(answer, name) for name in static_files.SAFE} == static_files.SAFE
    assert len(answer["body"].encode()) < LIMIT
    assert "?v=" not in re.sub(r"\?v=[0-9a-f]{16}", "", answer["body"])
    if path.suffix in (".css", ".js"):
        assert not re.search(r"https?://(?!www\.w3\.org/)", answer["body"])


def test_file_without_its_version_is_not_kept() -> None:
    assert header(get("/app/main.js"), "Cache-Control") == "no-cache"


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "package.json", "..", "../app.py", "vendor"])
def test_only_the_pages_files_are_served(name: str) -> None:
    assert get(f"/app/{name}")["statusCode"] == 404


@pytest.mark.parametrize(
    ("stage", "sign_in"),
    [(None, None), ({}, None), (STAGE, {"url": STAGE["SignIn"], "client_id": STAGE["ClientId"]})],
)
def test_page_is_told_the_sources_and_where_people_sign_in(stage: Any, sign_in: Any) -> None:
    told = json.loads(get("/app/config.json", stage=stage)["body"])
    assert told == {"sources": ["salesforce", "hubspot", "internal"], "sign_in": sign_in}


def test_libraries_are_the_locked_ones() -> None:
    wanted = json.loads((WEB / "vendor" / "package.json").read_text())["dependencies"]
    locked = json.loads((WEB / "vendor" / "package-lock.json").read_text())["packages"]
    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
