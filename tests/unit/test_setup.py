"""What a clone installs, lists and checks: the Makefile, the locked lists and what watches over them."""

import ast
import re
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.routes import read_template

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
OUR_PACKAGES = {"cli", "dedup", "functions", "jobs", "local"}
ON_SPARK = {"pyspark"}
"""What jobs import only when they run on Spark: `make run` says how it is installed."""

RUN = [path for folder in ("cli", "functions", "jobs", "layers", "local") for path in (ROOT / folder).rglob("*.py")]
# Folders that start with a dot, such as .venv with its tens of thousands of files, are left out before they are walked.
LISTS = [
    path
    for top in (ROOT, *(folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")))
    for path in (top.glob if top == ROOT else top.rglob)("requirements*.in")
]


def names(path: Path) -> set[str]:
    """The packages of a locked list, and their versions."""
    return set(re.findall(r"^([a-z0-9._-]+)==", path.read_text(), re.MULTILINE))


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports when it runs, anywhere in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_make_run_installs_every_package_that_it_imports() -> None:
    locked = names(ROOT / "requirements-run.txt")
    distributions = packages_distributions()
    missing = {
        (str(path.relative_to(ROOT)), package)
        for path in RUN
        for package in imported(path) - OUR_PACKAGES - ON_SPARK
        if package in distributions
        and not {re.sub(r"[._]+", "-", name.lower()) for name in distributions[package]} & locked
    }
    assert missing == set()


def test_make_run_does_not_install_spark_or_a_browser() -> None:
    assert not {"pyspark", "playwright", "pytest", "mypy"} & names(ROOT / "requirements-run.txt")


def test_developers_have_all_that_make_run_has_in_the_same_versions() -> None:
    pinned = re.compile(r"^[a-z0-9._-]+==\S+", re.MULTILINE)
    run, dev = (set(pinned.findall((ROOT / f"requirements-{name}.txt").read_text())) for name in ("run", "dev"))
    assert run - dev == set()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_list_is_locked_with_hashes_and_watched_by_dependabot(path: Path) -> None:
    locked = path.with_suffix(".txt")
    assert f"{path.relative_to(ROOT)} -o {locked.relative_to(ROOT)}" in MAKEFILE
    entries = re.split(r"^(?=[a-z0-9])", locked.read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in entry for entry in entries if "==" in entry)
    folder = path.parent.relative_to(ROOT).as_posix()
    assert f"/{folder}".replace("/.", "/") in watched("pip")


def watched(ecosystem: str) -> set[str]:
    """The folders whose packages dependabot keeps up to date."""
    [update] = [
        one
        for one in read_template(ROOT / ".github" / "dependabot.yml")["updates"]
        if one["package-ecosystem"] == ecosystem
    ]
    return set(update.get("directories") or [update["directory"]])


@pytest.mark.parametrize(
    ("ecosystem", "file"), [("npm", "package.json"), ("docker", "Dockerfile"), ("docker-compose", "docker-compose.yml")]
)
def test_dependabot_watches_a_folder_that_has_such_a_file(ecosystem: str, file: str) -> None:
    for folder in watched(ecosystem):
        assert (ROOT / folder.lstrip("/") / file).exists()


def test_make_help_lists_every_target_and_is_the_default() -> None:
    helped, default = (
        subprocess.run(["make", "--silent", *target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for target in (["help"], [])
    )
    assert default == helped
    assert set(re.findall(r"^  make ([a-z-]+) +\S", helped, re.MULTILINE)) == TARGETS
    [phony] = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)
    assert set(phony.replace("\\", "").split()) == TARGETS


def test_pre_commit_runs_the_checks_of_make_lint() -> None:
    [checks] = re.findall(r"^lint: (.*) ##", MAKEFILE, re.MULTILINE)
    [repository] = read_template(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == [f"make {check}" for check in checks.split()]
