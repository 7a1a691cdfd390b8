"""The schema and its migrations."""

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from pg8000.native import Connection

from dedup.store.connection import Database
from dedup.store.locks import SCHEMA_LOCK_EXCLUSIVE
from dedup.store.sql import text

MIGRATIONS = files("dedup.store") / "migrations"
"""The folder of the SQL scripts that create the schema and change it, applied in the order of their names."""


class ChangedMigration(Exception):
    """A migration was changed after it was applied to the database, whose tables may differ from what the code expects.
    The text names it."""


class Schema:
    """The schema of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def migrate(self, folder: Traversable = MIGRATIONS) -> list[str]:
        """Applies the migrations in `folder` that this database does not have yet, in the order of their names and in
        one transaction: all of them or none. Returns the names of those applied now. Raises
        ChangedMigration."""
        return self._database.write(lambda connection: _migrate(connection, folder), repeatable=True)


def _migrate(connection: Connection, folder: Traversable) -> list[str]:
    connection.run(f"SELECT {SCHEMA_LOCK_EXCLUSIVE}")
    connection.run(
        """CREATE TABLE IF NOT EXISTS migration (
            name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
    )
    # Databases of earlier versions do not have it.
    connection.run("ALTER TABLE migration ADD COLUMN IF NOT EXISTS digest text")
    done = dict(connection.run("SELECT name, digest FROM migration"))
    scripts = sorted(folder.iterdir(), key=lambda script: script.name)
    contents = {script.name: script.read_text() for script in scripts if script.name.endswith(".sql")}
    digests = {name: sha256(content.encode()).hexdigest() for name, content in contents.items()}
    for name in digests.keys() & done.keys():
        if digests[name] != done[name]:
            raise ChangedMigration(f"{name} was changed after it was applied to this database")
    new = [name for name in contents if name not in done]
    for name in new:
        connection.run(contents[name])
        connection.run(f"INSERT INTO migration (name, digest) VALUES ({text(name)}, {text(digests[name])})")
    return new
