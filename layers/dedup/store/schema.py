"""The schema and its migrations."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from pg8000.native import Connection

from dedup.store.connection import Database
from dedup.store.locks import SCHEMA_LOCK_EXCLUSIVE
from dedup.store.sql import text

MIGRATIONS = files("dedup.store") / "migrations"
"""The folder of the SQL scripts that create the schema and change it, applied in the order of their names."""


class Schema:
    """The schema of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def migrate(self, folder: Traversable = MIGRATIONS) -> list[str]:
        """Applies the migrations in `folder` that this database does not have yet, in the order of their names and in
        one transaction: all of them or none. Returns the names of those applied now."""
        return self._database.write(lambda connection: _migrate(connection, folder), repeatable=True)


def _migrate(connection: Connection, folder: Traversable) -> list[str]:
    connection.run(f"SELECT {SCHEMA_LOCK_EXCLUSIVE}")
    connection.run(
        """CREATE TABLE IF NOT EXISTS migration (
            name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
    )
    done = {name for [name] in connection.run("SELECT name FROM migration")}
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    new = [script for script in scripts if script.name.endswith(".sql") and script.name not in done]
    for script in new:
        connection.run(script.read_text())
        connection.run(f"INSERT INTO migration (name) VALUES ({text(script.name)})")
    return [script.name for script in new]
