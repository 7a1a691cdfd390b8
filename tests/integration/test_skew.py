"""Many records, some far from evenly spread, of which the planners know nothing yet: the statements of the resolver go
through a number of rows in proportion to the records that are added or deleted. Rows are counted, seconds are not."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("splink", reason="matching needs what requirements-dev.txt has for it: splink, duckdb, pyarrow")

from dedup.records import Fields
from dedup.store import Store, connection

from jobs.matching import resolver
from jobs.matching.duckdb_engine import DuckDB
from tests.integration.test_matching import RULES, agrees, matched, members, person
from tests.resolving import resolve

MANY = 2_500

IN_POSTGRESQL = 100
"""Rows, in all nodes of the plans of all statements, for each record that is added or deleted. To compare each of them
with each other takes MANY."""

IN_DUCKDB = 120
"""Rows that all operators of a statement make, for each record that is added or deleted: a record has up to 26 keys."""

Statement = tuple[float, str]


@dataclass(frozen=True)
class Counted:
    """Statements, each with the number of rows that it goes through, divided by MANY."""

    postgresql: list[Statement]
    duckdb: list[Statement]

    def require_in_proportion(self) -> None:
        assert sum(rows for rows, _ in self.postgresql) < IN_POSTGRESQL, max(self.postgresql)
        assert max(self.duckdb)[0] < IN_DUCKDB, max(self.duckdb)


Count = Callable[[Callable[[], Any]], Counted]


@pytest.fixture
def rows_of(monkeypatch: pytest.MonkeyPatch) -> Count:
    """Does some work, and counts the rows that its statements about entities go through: those of PostgreSQL by EXPLAIN
    ANALYZE the moment before, those of DuckDB by its profiling."""
    run, open_engine, create = connection._Connection.run, DuckDB.__init__, DuckDB.create

    def rows_of(work: Callable[[], Any]) -> Counted:
        found = Counted([], [])

        def explain(of: Any, sql: str, *args: Any, **named: Any) -> Any:
            if "matching." in sql and not args:
                for statement in filter(_has_plan, map(str.strip, sql.split(";"))):
                    run(of, "SAVEPOINT before")
                    [[[plan]]] = run(of, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}")
                    run(of, "ROLLBACK TO before")
                    found.postgresql.append((sum(map(_rows, _below(plan["Plan"]))) / MANY, statement))
            return run(of, sql, *args, **named)

        def profile(engine: DuckDB, **named: Any) -> None:
            open_engine(engine, **named)
            engine.connection.execute("PRAGMA enable_profiling = 'no_output'")

        def create_counted(engine: DuckDB, table: str, query: str) -> None:
            create(engine, table, query)
            counted = json.loads(engine.connection.get_profiling_information())["query"]
            found.duckdb.append((counted["total_intermediate_rows"] / MANY, f"{table}: {query}"))

        with monkeypatch.context() as patch:
            patch.setattr(connection._Connection, "run", explain)
            patch.setattr(DuckDB, "__init__", profile)
            patch.setattr(DuckDB, "create", create_counted)
            work()
        return found

    return rows_of


def _has_plan(statement: str) -> bool:
    return statement.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")) or (
        statement.startswith("CREATE TEMP TABLE") and "SELECT" in statement
    )


def _below(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _below(child)


def _rows(node: dict[str, Any]) -> float:
    """Rows that a node of a plan made, or looked at in vain."""
    each = node["Actual Rows"] + sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
    return float(each * node["Actual Loops"])


def after_a_run_over_one(store: Store, *uploads: Iterable[Fields]) -> list[int]:
    """Uploads to a run over one record, whose statistics say so."""
    store.records.add([person(1, "hubspot")])
    matched(store, **RULES)
    return [store.records.add([*records]).id for records in uploads]


EACH_ANOTHER = [person(n, "internal") for n in range(10, 10 + MANY)]
TWO_OF_EACH = [person(n % (MANY // 2) + 10, "internal", city=f"Town {n}") for n in range(MANY)]
ALL_THE_SAME = [person(10, "internal")] * MANY
OTHERS = [person(n, "hubspot", city="Rome") for n in range(10, 10 + MANY)]


# Deleting


@pytest.mark.parametrize(
    ("leaving", "staying"),
    [(EACH_ANOTHER, []), (ALL_THE_SAME, []), (TWO_OF_EACH, EACH_ANOTHER), (EACH_ANOTHER, OTHERS)],
    ids=["each another", "all the same", "others of the same customers stay", "others of the same people stay"],
)
def test_resolving_many_deleted_records_unknown_to_the_planner_takes_rows_in_proportion(
    store: Store, rows_of: Count, leaving: list[Fields], staying: list[Fields]
) -> None:
    upload, *_ = after_a_run_over_one(store, leaving, staying)
    resolve(store)
    store.uploads.delete(upload)

    found = rows_of(lambda: resolve(store))

    assert any("DELETE FROM matching.member_" in sql for _, sql in found.postgresql)
    found.require_in_proportion()
    assert len(members(store)) == 1 + len(staying)
    agrees(store)


# Adding

PHONE = "+1 202 555 0101"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches for MANY records, each of which looks for what it has in common with all before it."""
    monkeypatch.setattr(resolver, "BATCH", MANY // 4)


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
def test_resolving_many_new_records_however_they_are_spread_takes_rows_in_proportion(
    store: Store, rows_of: Count, coming: list[Fields]
) -> None:
    after_a_run_over_one(store, coming)

    found = rows_of(lambda: resolve(store))

    found.require_in_proportion()
    agrees(store)


@pytest.mark.usefixtures("small_batches")
def test_resolving_many_new_records_after_very_different_ones_takes_rows_in_proportion(
    store: Store, rows_of: Count
) -> None:
    """The statistics still say that all members are of one customer, one name and one email."""
    store.records.add(ALL_THE_SAME)
    matched(store, **RULES)
    store.records.clear()
    store.records.add(EACH_ANOTHER)

    found = rows_of(lambda: resolve(store))

    found.require_in_proportion()
    agrees(store)
