"""Skewed data: a customer or value that most records share, thousands of regions, and extreme values.

Each case takes the same steps, before and after a matching run, and all responses are compared with the model.
"""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.attack.histories import RULES, History, Operation
from tests.attack.inputs import Values
from tests.attack.stack import Finding, Stack, taken_mb

SOURCES = tuple(f"s{number:02}" for number in range(1, 64))
FEW = SOURCES[:3]

RECORDS = 100_000
"""Records of a case, if there is enough time."""

LEAST = 100

RECORDS_A_SECOND = 40
"""Records of a case for each second of the campaign: a case processes its records about thirty times."""

PLAIN_MB = 400
"""Maximum memory of a function that has not loaded the matching engine."""

ENGINE_MB = 3_000
"""Maximum memory of a function that has: the engine may take 2 GB."""

GIVEN = ("Ann", "Bob", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hans", "Ines", "Jun")


def one_customer(chance: random.Random, count: int) -> list[Values]:
    """All records are of one customer, each with different values."""
    return [(chance.choice(FEW), 7, f"{chance.choice(GIVEN)} {n}", f"c{n}@example.com") for n in range(count)]


def repeated(chance: random.Random, count: int) -> list[Values]:
    """All records are equal."""
    return [(FEW[0], 7, "Ann Lee", "ann@example.com")] * count


def one_email(chance: random.Random, count: int) -> list[Values]:
    """All customers have the same email."""
    return [(chance.choice(FEW), n // 2, f"{chance.choice(GIVEN)} Family{n}", "info@example.com") for n in range(count)]


def one_name(chance: random.Random, count: int) -> list[Values]:
    """All customers have the same name."""
    return [(chance.choice(FEW), n // 2, "John Smith", f"john{n}@example.com") for n in range(count)]


def many_regions(chance: random.Random, count: int) -> list[Values]:
    """Each customer is in a random set of 63 sources."""
    rows: list[Values] = []
    for customer in range(count // 4):
        name = f"{chance.choice(GIVEN)} Family{customer}"
        rows += [
            (source, customer, name, f"c{customer}@example.com")
            for source in chance.sample(SOURCES, chance.choice([1, 2, 3, 4, 8]))
        ]
    rows += [(source, 10**9, "Every Where", "every@example.com") for source in SOURCES]
    return rows


def extremes(chance: random.Random, count: int) -> list[Values]:
    """The longest names and addresses, many scripts, and ids at the limits of their range."""
    names = [
        "\U0001f600" * 255,
        "\u0627\u0644" * 127,
        "\u202eabc\u202c",
        "e\u0301" * 127,
        "\u1100" * 255,
        "x",
        "\U0010ffff",
        "'" * 255,
        "\\" * 255,
        '"' * 255,
        "=1+1",
        "a\u2028b",
        "\ufffd\ufffe",
    ]
    emails = [f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 50}.com", "é@example.com", "a@münchen.example.com", "x@b.co"]
    ids = [2**63 - 1, -(2**63), 2**63 - 2, 0, -1, 2**53, 2**53 + 1, 2**31, -(2**31) - 1]
    return [
        (
            chance.choice(FEW),
            chance.choice([*ids, chance.randrange(-(2**63), 2**63)]),
            chance.choice(names),
            chance.choice(emails),
        )
        for _ in range(min(count, 3_000))
    ]


CASES: Mapping[str, Callable[[random.Random, int], list[Values]]] = {
    case.__name__: case for case in (one_customer, repeated, one_email, one_name, many_regions, extremes)
}


def operations(rows: list[Values], chance: random.Random) -> list[Operation]:
    """The operations of a case: files and uploads before and after a run, and every kind of deletion."""

    def file(name: str, part: list[Values], mode: str = "add") -> list[Operation]:
        source = part[0][0] if mode == "replace" else None
        fmt = chance.choice(["csv", "ndjson", "array"])
        wish: Operation = {
            "source": source,
            "mode": mode,
            "bad": [],
            "format": fmt,
            "compression": None,
            "by": "bucket",
        }
        deliver = {"op": "deliver", "of": name, "times": 1, "at_once": False}
        return [{"op": "file", "name": name, "rows": part, **wish}, deliver]

    def export(by: str) -> Operation:
        sources = sorted({row[0] for row in rows})
        question = {"in": [sources[0]], "not_in": sources[1:2] if by == "entity" else [], "by": by, "format": "ndjson"}
        return {"op": "export", "question": question}

    half = len(rows) // 2
    one = [row for row in rows if row[0] == rows[0][0]]
    return [
        *file("first", rows[:half]),
        export("customer"),
        {"op": "match", "settings": RULES},
        export("entity"),
        {"op": "add", "name": "more", "records": rows[half : half + 500], "keyed": True},
        {"op": "again", "of": "more"},
        *file("second", rows[half:]),
        {"op": "decide", "picks": [0, 999_999_937], "verdict": "different"},
        {"op": "report", "keep": True},
        {"op": "delete", "of": "first"},
        {"op": "match", "settings": RULES},
        *file("snapshot", one, "replace"),
        {"op": "erase", "customer": rows[-1][1]},
        export("entity"),
        {"op": "delete", "of": "snapshot"},
        {"op": "clear"},
    ]


def memory(stack: Stack) -> None:
    """Checks the peak memory of each function. Raises Finding."""
    for process in stack.processes():
        taken, engine = taken_mb(process)
        most = ENGINE_MB if engine else PLAIN_MB
        if taken > most:
            raise Finding(f"A function took {taken} MB, and {most} are the most")


def campaign(folder: Path, seed: str, until: float, most: int) -> str:
    """Runs one case after the other until the time `until`, or for `most` steps. Returns a summary. Raises Finding."""
    chance = random.Random(f"{seed}/skew")
    time_for = (until - time.monotonic()) * RECORDS_A_SECOND
    count = LEAST if most < LEAST else max(LEAST, int(min(RECORDS, time_for)))
    steps = 0
    done: list[str] = []
    with Stack(folder, SOURCES) as stack:
        names = chance.sample(list(CASES), len(CASES))
        while (time.monotonic() < until and steps < most) or not done:
            name = names[len(done) % len(names)]
            stack.empty()
            history = History(stack, f"{seed}-{name}-{len(done)}")
            for operation in operations(CASES[name](chance, count), chance):
                if steps >= most or (time.monotonic() > until and done):
                    break
                steps += 1
                short = {key: value for key, value in operation.items() if key not in ("rows", "records")}
                try:
                    history.do(operation)
                    memory(stack)
                except Finding as finding:
                    raise Finding(
                        f"case {name} of {count} records, step {history.steps} ({short}): {finding}"
                    ) from finding
            done.append(name)
    return f"{', '.join(done)} of {count} records"
