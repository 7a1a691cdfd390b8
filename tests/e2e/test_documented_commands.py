"""The `console` blocks of README.md and docs/, run against a local stack, and their answers compared.

The blocks of one page are one session, in their order, on an empty database. In an expected answer `…` stands for
anything: within a line, for lines of its own, or for the remaining fields or items of JSON. Times match any time. JSON
is compared as JSON, however it is broken into lines. `<!-- needs: java -->` above a block skips it where that program
is missing. See docs/README.md."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import local_stack

SECONDS = 120
"""For one command, and for a task to end."""

ANYTHING = "…"
HOST = "localhost:3000"
UNFINISHED = {"waiting", "loading", "running", "deleting"}
BLOCK = re.compile(r"(?:<!-- needs: (?P<needs>\w+) -->\n+)?^```console\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[^\s\"]*")
FREE = re.compile(rf"\s*{ANYTHING}\s*")
REFUSED = re.compile(r"\s(-d|-T|-X|--data|--request|--upload-file)\b")
"""What makes curl change something: such a command is never run twice."""


@dataclass(frozen=True)
class Step:
    """One command of a page, and the answer that the page shows."""

    line: int
    command: str
    answer: str
    needs: str | None


def steps(path: Path) -> list[Step]:
    """The commands of a page in their order."""
    text = path.read_text()
    found = []
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start("text")) + 1
        for number, line in enumerate(block["text"].splitlines(), first):
            if line.startswith("$ "):
                found.append(Step(number, line[2:], "", block["needs"]))
                continue
            assert found, f"{path.name}:{number}: expected a command after `$ ` before any answer"
            last = found[-1]
            if last.command.endswith("\\") and not last.answer:
                found[-1] = Step(last.line, f"{last.command}\n{line}", "", last.needs)
            else:
                found[-1] = Step(last.line, last.command, f"{last.answer}{line}\n", last.needs)
    return found


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if steps(page)]


class Session:
    """A shell in the repository's folder that keeps its variables from command to command."""

    def __init__(self, url: str, folder: Path) -> None:
        self._in_place_of = {HOST: url.removeprefix("http://"), "/tmp/": f"{folder}/"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DEDUP_"))}
        here = {
            "DEDUP_URL": url,
            "DEDUP_CONFIG": os.devnull,
            "PORT": url.rpartition(":")[2],
            "OUT": str(folder / "out"),
        }
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=ROOT,
            env=kept | here,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._run(f'dedup() {{ "{sys.executable}" -m cli "$@"; }}')
        # The environment that runs this is complete: make must not install it again because of a file's time.
        done = " ".join(f"--assume-old=.venv/{path.name}" for path in (ROOT / ".venv").glob("*") if path.is_file())
        self._run(f'make() {{ command make --silent {done} "$@"; }}')

    def run(self, command: str) -> tuple[int, str]:
        """The exit code of a command of a page, and what it printed."""
        for shown, meant in self._in_place_of.items():
            command = command.replace(shown, meant)
        return self._run(command)

    def _run(self, command: str) -> tuple[int, str]:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command}\nprintf '\\n\\036%s\\n' $?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith("\036"):
                return int(line[1:]), "".join(lines).removesuffix("\n")
            lines.append(line)
        raise AssertionError(f"the shell ended in {command!r}")

    def close(self) -> None:
        self._shell.kill()
        self._shell.communicate()


@pytest.fixture
def empty_stack(stack_folder: Path | None, tmp_path: Path, page: Path) -> Iterator[str]:
    """The address of a local stack that never ran before: its ids begin at 1, and its functions remember nothing."""
    if stack_folder is None:
        pytest.skip("the pages describe a local stack with an empty database")
    matches = any("match" in step.command or "entit" in step.command for step in steps(page))
    with local_stack(tmp_path / "stack", AUTOMATIC_RUN_BELOW="1000" if matches else "0") as url:
        yield url


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_commands_on_an_empty_database_answer_as_shown(page: Path, empty_stack: str, tmp_path: Path) -> None:
    session = Session(empty_stack, tmp_path)
    try:
        for step in steps(page):
            if not step.needs or shutil.which(step.needs):
                check(session, step, f"{page.relative_to(ROOT)}:{step.line}")
    finally:
        session.close()


def check(session: Session, step: Step, where: str) -> None:
    """Runs a command until what it asks about has ended; AssertionError where the answer is another."""
    deadline = time.monotonic() + SECONDS
    while True:
        code, said = session.run(step.command)
        assert code == 0, f"{where}: {step.command}\nexit code {code}\n{said}"
        if matches(step.answer, said):
            return
        again = unfinished(said) and not REFUSED.search(step.command) and time.monotonic() < deadline
        assert again, f"{where}: {step.command}\nexpected:\n{step.answer}\nanswered:\n{said}"
        time.sleep(0.2)


def unfinished(said: str) -> bool:
    """Whether an answer is about work that has not ended."""
    try:
        answer = json.loads(said)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("status") in UNFINISHED


def matches(expected: str, said: str) -> bool:
    """Whether an answer is the one that a page shows: one JSON value, or line by line."""
    return same_json(expected, said) or lines_match(lines_of(expected), lines_of(said))


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def lines_match(expected: list[str], said: list[str]) -> bool:
    if not expected:
        return not said
    if FREE.fullmatch(expected[0]):
        return any(lines_match(expected[1:], said[start:]) for start in range(len(said) + 1))
    first = bool(said) and (bool(re.fullmatch(pattern(expected[0]), said[0])) or same_json(expected[0], said[0]))
    return first and lines_match(expected[1:], said[1:])


def same_json(expected: str, said: str) -> bool:
    try:
        return expected.lstrip().startswith(("{", "[")) and same(json.loads(with_holes(expected)), json.loads(said))
    except ValueError:
        return False


def pattern(text: str) -> str:
    """A regular expression for a line: `…` is anything, and a time is any time."""
    parts = re.split(rf"({ANYTHING}|{TIME.pattern})", text)
    return "".join(
        ".*" if part == ANYTHING else TIME.pattern if TIME.fullmatch(part) else re.escape(part) for part in parts
    )


def with_holes(text: str) -> str:
    """JSON with `…` for what is left out, as JSON: a field or an item of that name, which same() knows."""
    parts: list[str] = []
    open_ = ""
    for part in re.findall(r'"(?:[^"\\]|\\.)*"|.', text, re.DOTALL):
        if part in "{[":
            open_ += part
        elif part in "}]":
            open_ = open_[:-1]
        value = "".join(parts).rstrip().endswith(":")
        if part == ANYTHING:
            parts.append(f'"{ANYTHING}": 0' if open_.endswith("{") and not value else f'"{ANYTHING}"')
        else:
            parts.append(part)
    return "".join(parts)


def same(expected: Any, said: Any) -> bool:
    """Whether two JSON values are the same, but for what `…` stands for."""
    if expected == ANYTHING:
        return True
    if isinstance(expected, dict) and isinstance(said, dict):
        named = expected.keys() - {ANYTHING}
        complete = ANYTHING in expected or named == said.keys()
        return complete and all(name in said and same(expected[name], said[name]) for name in named)
    if isinstance(expected, list) and isinstance(said, list):
        more = bool(expected) and expected[-1] == ANYTHING
        shown = expected[:-1] if more else expected
        enough = len(said) >= len(shown) if more else len(said) == len(shown)
        return enough and all(same(one, other) for one, other in zip(shown, said, strict=False))
    if isinstance(expected, str) and isinstance(said, str):
        return bool(re.fullmatch(pattern(expected), said))
    if isinstance(expected, float) and isinstance(said, float):
        return math.isclose(expected, said, rel_tol=1e-3)
    return bool(expected == said) and isinstance(expected, bool) == isinstance(said, bool)


@pytest.mark.parametrize(
    ("expected", "said", "is_same"),
    [
        ('{"id":1,"status":"done", …}', '{"status":"done","id":1,"rows":12}', True),
        ('{"id":1,"status":"done"}', '{"status":"done","id":1,"rows":12}', False),
        ('{"url":"http://…/a?X-Amz-…"}', '{"url":"http://127.0.0.1:1/a?X-Amz-Date=1"}', True),
        ('{"rows": …, "id": 1}', '{"rows":[1,2],"id":1}', True),
        ('[{"id":1, …},\n …]', '[{"id":1,"a":2},{"id":2}]', True),
        ("[1, 2]", "[1, 2, 3]", False),
        ('{"at":"2026-11-24T06:33:18.104833Z"}', '{"at":"2027-01-01T00:00:00.000001Z"}', True),
        ('{"at":"2026-11-24T06:33:18.104833Z"}', '{"at":null}', False),
        ('{"id":1, …}\n…', '{"id": 1, "a": 2}\n{"id": 2}', True),
        ('"a"\n…\n', '"a"\n"b"\n"c"', True),
        ("a 1\nc", "a 1\nb\nc", False),
        ("in 1.5 s …", "in 1.5 s exactly", True),
        ("", "", True),
    ],
)
def test_answer_with_parts_left_out_is_compared_by_the_rest(expected: str, said: str, is_same: bool) -> None:
    assert matches(expected, said) is is_same
