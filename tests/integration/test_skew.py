"""Many records, some far from evenly spread, of which the planner knows nothing yet: each statement about entities goes
through a number of rows in proportion to the records that come or leave. Rows are counted, seconds are not."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.store import Store, connection
from dedup.store.matching import attach

from tests.integration.test_matching import RULES, agrees, matched, members, person

MANY = attach.BATCH + 500
"""More than are looked at one by one when they leave."""

IN_PROPORTION = 60
"""Rows, in all nodes of a statement's plan, for each record that comes or leaves. To compare each with each of the
others takes MANY."""

Statement = tuple[float, str]


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], list[Statement]]:
    """Does some work, and says how many rows each statement about entities goes through, as EXPLAIN ANALYZE counts them
    the moment before: the most first, each divided by MANY."""
    original = connection._Connection.run

    def rows_of(work: Callable[[], Any]) -> list[Statement]:
        found: list[Statement] = []

        def run(connection: Any, sql: str, *args: Any, **named: Any) -> Any:
            plain = not args and sql.lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"))
            if plain and "matching." in sql and ";" not in sql:
                original(connection, "SAVEPOINT before")
                [[[plan]]] = original(connection, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}")
                original(connection, "ROLLBACK TO before")
                found.append((sum(map(_rows, _below(plan["Plan"]))) / MANY, sql))
            return original(connection, sql, *args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(connection._Connection, "run", run)
            work()
        return sorted(found, reverse=True)

    return rows_of


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _below(child)


def _rows(node: dict[str, Any]) -> float:
    """Rows that a node of a plan made, or looked at in vain."""
    each = node["Actual Rows"] + sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    return float(each * node["Actual Loops"])


def after_a_run_over_one(store: Store, *uploads: Iterable[Any]) -> list[int]:
    """Uploads to a run over one record, whose statistics say so."""
    store.records.add([person(1, "hubspot")])
    matched(store, **RULES)
    return [store.records.add([*records]).id for records in uploads]


EACH_ANOTHER = [person(n, "internal") for n in range(10, 10 + MANY)]
TWO_OF_EACH = [person(n % (MANY // 2) + 10, "internal", city=f"Town {n}") for n in range(MANY)]
ALL_THE_SAME = [person(10, "internal")] * MANY
OTHERS = [person(n, "hubspot", city="Rome") for n in range(10, 10 + MANY)]


# What leaves


@pytest.mark.parametrize(
    ("leaving", "staying"),
    [(EACH_ANOTHER, []), (ALL_THE_SAME, []), (TWO_OF_EACH, EACH_ANOTHER), (EACH_ANOTHER, OTHERS)],
    ids=["each another", "all the same", "others of the same customers stay", "others of the same people stay"],
)
def test_deleting_many_records_unknown_to_the_planner_takes_rows_in_proportion(
    store: Store, rows_of: Callable[..., list[Statement]], leaving: list[Any], staying: list[Any]
) -> None:
    upload, *_ = after_a_run_over_one(store, leaving, staying)

    found = rows_of(lambda: store.uploads.delete(upload))

    assert any("DELETE FROM matching.member_" in sql for _, sql in found)
    assert found[0][0] < IN_PROPORTION, found[0]
    assert len(members(store)) == 1 + len(staying)
    agrees(store)


# What comes

IN_BATCHES = 300
"""Rows for each record that comes, in all statements: each of the five rules counts who shares what it asks for."""

PHONE = "+1 202 555 0101"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches for MANY records, each of which looks for what it has in common with all before it."""
    monkeypatch.setattr(attach, "BATCH", MANY // 10)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    "coming",
    [
        EACH_ANOTHER,
        ALL_THE_SAME,
        [person(10, "internal", email=f"p{n}@example.com") for n in range(MANY)],
        [person(n, "internal", name="Ada Quarterman", email="ada@example.com") for n in range(MANY)],
        [person(n, "internal", email="info@example.com") for n in range(MANY)],
        [person(n, "internal", name="Ada Quarterman", phone=PHONE) for n in range(MANY)],
    ],
    ids=[
        "each another",
        "all the same of one customer",
        "each another of one customer",
        "all the same of each customer",
        "one email",
        "one name and phone",
    ],
)
def test_adding_many_records_however_they_are_spread_takes_rows_in_proportion(
    store: Store, rows_of: Callable[..., list[Statement]], coming: list[Any]
) -> None:
    after_a_run_over_one(store)

    found = rows_of(lambda: store.records.add(coming))

    assert sum(rows for rows, _ in found) < IN_BATCHES, found[0]
    agrees(store)


@pytest.mark.usefixtures("small_batches")
def test_adding_many_records_after_very_different_ones_takes_rows_in_proportion(
    store: Store, rows_of: Callable[..., list[Statement]]
) -> None:
    """The statistics still say that all members are of one customer, one name and one email."""
    store.records.add(ALL_THE_SAME)
    matched(store, **RULES)
    store.records.clear()

    found = rows_of(lambda: store.records.add(EACH_ANOTHER))

    assert sum(rows for rows, _ in found) < IN_BATCHES, found[0]
    agrees(store)
