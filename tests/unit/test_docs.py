"""README.md and docs/ name every setting, variable and command there is, and lead nowhere that is not there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from dedup.settings import Settings

from cli.__main__ import app
from tests.conftest import ROOT
from tests.routes import read_template

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
ADRS = sorted((DOCS / "adr").glob("[0-9]*.md"))
INDEXES = (DOCS / "README.md", DOCS / "adr" / "README.md")
PAGES = sorted({ROOT / "README.md", *DOCS.rglob("*.md")})
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
COMMAND = typer.main.get_command(app)
SYSTEM = {"PATH"}
"""Variables of every process, which nobody sets for this project."""


def text_of(page: Path) -> str:
    """A page without its code."""
    return CODE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page: lower case, without punctuation, and a number for repeats."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(anchor if anchor not in found else f"{anchor}-{sum(one.startswith(anchor) for one in found)}")
    return found


def entries(page: Path) -> set[str]:
    """The names that a page has a row for: those in code in the first cell of each row of its tables."""
    cells = re.findall(r"^\| ([^|]*) \|", page.read_text(), re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def sections(page: Path, prefix: str) -> dict[str, str]:
    """The text below each heading `### `prefix name``, by name."""
    parts = re.split(rf"^### `{prefix} ([^`]+)`$", page.read_text(), flags=re.M)[1:]
    return {name: re.split(r"^##", text, flags=re.M)[0] for name, text in zip(parts[::2], parts[1::2], strict=True)}


def read_variables(folder: Path) -> Iterator[str]:
    """The names of environment variables that Python files read by name."""
    for path in folder.rglob("*.py"):
        text = path.read_text()
        # Parsing takes time, and most files read none.
        for node in ast.walk(ast.parse(text)) if re.search("environ|getenv|envvar", text) else ():
            match node:
                case (
                    ast.Call(
                        func=ast.Attribute(value=of, attr="get" | "setdefault"), args=[ast.Constant(str(name)), *_]
                    )
                    | ast.Subscript(value=of, slice=ast.Constant(str(name)))
                    | ast.Compare(left=ast.Constant(str(name)), comparators=[of])
                ) if ast.unparse(of) in ("os.environ", "environ"):
                    yield name
                case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(str(name)), *_]):
                    yield name
                case ast.keyword(arg="envvar", value=ast.Constant(str(name))):
                    yield name


@cache
def variables() -> set[str]:
    """Those of the code that runs here or on AWS, and of the Makefile's recipes, but for the functions' settings."""
    found = {
        name for folder in ("local", "cli", "jobs", "layers", "functions") for name in read_variables(ROOT / folder)
    }
    found |= set(re.findall(r"\$\$\{?([A-Z][A-Z_]+)", (ROOT / "Makefile").read_text()))
    # WSGI's environ has request headers and keys of its own.
    wsgi = {name for name in found if "." in name or re.match("REQUEST_|CONTENT_|HTTP_", name)}
    return found - wsgi - SYSTEM - {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(name.upper() for name in Settings.model_fields))
def test_setting_of_the_functions_has_a_reference_entry(name: str) -> None:
    assert name in entries(REFERENCE / "settings.md"), f"docs/reference/settings.md has no row for `{name}`"


@pytest.mark.parametrize("name", sorted(read_template()["Parameters"]))
def test_parameter_of_the_template_has_a_reference_entry(name: str) -> None:
    assert name in entries(REFERENCE / "settings.md"), f"docs/reference/settings.md has no row for `{name}`"


def test_settings_reference_has_no_entry_without_a_setting() -> None:
    page = (REFERENCE / "settings.md").read_text()
    functions = page.split("## Function settings")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([A-Z_]+)`", functions, re.M))
    assert named - {"ALLOWED_ORIGINS"} <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(variables()))
def test_environment_variable_has_a_reference_entry(name: str) -> None:
    named = entries(REFERENCE / "environment.md") | entries(REFERENCE / "settings.md")
    assert name in named, f"docs/reference/environment.md has no row for `{name}`"


def test_environment_variables_are_found_in_the_code() -> None:
    assert {"PORT", "DEDUP_LOCAL_DIR", "DEDUP_URL", "DEDUP_PROFILE", "JAVA_HOME", "AWS_ENDPOINT_URL"} <= variables()


@pytest.mark.parametrize("name", sorted(COMMAND.commands))  # type: ignore[attr-defined]
def test_command_has_a_reference_entry_with_its_options(name: str) -> None:
    known = sections(REFERENCE / "cli.md", "dedup")
    assert name in known, f"docs/reference/cli.md has no section ### `dedup {name}`"
    options = {
        option
        for parameter in COMMAND.commands[name].params  # type: ignore[attr-defined]
        for option in parameter.opts
        if option.startswith("--") and option != "--json"
    }
    missing = {option for option in options if option not in known[name]}
    assert not missing, f"### `dedup {name}` does not name {', '.join(sorted(missing))}"


def test_command_reference_has_no_section_without_a_command() -> None:
    assert sections(REFERENCE / "cli.md", "dedup").keys() <= COMMAND.commands.keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    wrong = []
    for link in LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


@pytest.mark.parametrize("index", INDEXES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_index_has_a_line_for_each_page(index: Path) -> None:
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text())}
    below = index.parent.rglob("*.md") if index.parent == DOCS else index.parent.glob("*.md")
    expected = {page for page in below if page != index and (index.parent != DOCS or page not in ADRS)}
    assert expected <= linked


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_decision_record_has_its_four_parts(page: Path) -> None:
    headings = re.findall(r"^## (.*)$", page.read_text(), re.M)
    assert headings == ["Status", "Context", "Decision", "Consequences"]
