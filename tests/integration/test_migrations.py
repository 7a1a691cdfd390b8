"""The order in which migrations are applied, and that each is applied once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dedup.errors import Unavailable
from dedup.store import Store
from dedup.store.schema import ChangedMigration

from tests.conftest import connect

SCRIPTS = {
    "0003_fill.sql": "INSERT INTO thing (id, name) VALUES (1, 'one')",
    "0001_create.sql": "CREATE TABLE thing (id int); CREATE INDEX thing_id ON thing (id)",
    "0002_add.sql": "ALTER TABLE thing ADD COLUMN name text",
    "README.md": "Not a script.",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in SCRIPTS.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def things() -> list[list[object]]:
    with connect() as owner:
        found: list[list[object]] = owner.run("SELECT id, name FROM thing")
        return found


def test_migrations_run_once_each_also_side_by_side(new_store: Callable[..., Store], folder: Path) -> None:
    stores = [new_store() for _ in range(3)]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda store: store.schema.migrate(), stores)) == [[], [], []]
        applied = list(pool.map(lambda store: store.schema.migrate(folder), stores))

    assert sorted(applied) == [[], [], ["0001_create.sql", "0002_add.sql", "0003_fill.sql"]]
    assert things() == [[1, "one"]]


def test_migrations_run_in_the_order_of_their_names(store: Store, folder: Path) -> None:
    assert store.schema.migrate(folder) == ["0001_create.sql", "0002_add.sql", "0003_fill.sql"]
    assert things() == [[1, "one"]]


def test_new_migration_is_applied_alone(store: Store, folder: Path) -> None:
    store.schema.migrate(folder)
    (folder / "0004_more.sql").write_text("INSERT INTO thing (id, name) VALUES (2, 'two')")

    assert store.schema.migrate(folder) == ["0004_more.sql"]
    assert things() == [[1, "one"], [2, "two"]]


def test_failed_migration_leaves_nothing_of_those_before_it(store: Store, folder: Path) -> None:
    (folder / "0002_add.sql").write_text("ALTER TABLE thing ADD COLUMN name text; ALTER TABLE missing ADD COLUMN a int")
    with pytest.raises(Unavailable, match="42P01"):
        store.schema.migrate(folder)
    with connect() as owner:
        assert owner.run("SELECT to_regclass('thing')") == [[None]]

    (folder / "0002_add.sql").write_text(SCRIPTS["0002_add.sql"])
    assert store.schema.migrate(folder) == ["0001_create.sql", "0002_add.sql", "0003_fill.sql"]
    assert things() == [[1, "one"]]


def test_migration_that_was_changed_since_stops_those_after_it(store: Store, folder: Path) -> None:
    store.schema.migrate(folder)
    (folder / "0002_add.sql").write_text("ALTER TABLE thing ADD COLUMN title text")
    (folder / "0004_more.sql").write_text("INSERT INTO thing (id, name) VALUES (2, 'two')")

    with pytest.raises(ChangedMigration, match=r"^0002_add\.sql was changed"):
        store.schema.migrate(folder)
    assert things() == [[1, "one"]]


def test_migration_of_a_version_without_digests_counts_as_changed(store: Store, folder: Path) -> None:
    store.schema.migrate(folder)
    with connect() as owner:
        owner.run("ALTER TABLE migration DROP COLUMN digest")

    with pytest.raises(ChangedMigration):
        store.schema.migrate(folder)
