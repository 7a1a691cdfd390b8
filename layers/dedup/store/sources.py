"""The sources that have sent records, each with the bit that stands for it in a set of sources."""

from collections.abc import Collection, Mapping

from pg8000.native import Connection

from dedup.store.connection import Database
from dedup.store.locks import SCHEMA_LOCK_EXCLUSIVE
from dedup.store.sql import text


class Sources:
    """The sources of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bits: Mapping[str, int] = {}

    def bits(self, names: set[str]) -> Mapping[str, int]:
        """The bit of each source, at least of those named; new sources are registered. Not to be called within a
        transaction: a bit may only be cached once it is committed."""
        if not names <= self._bits.keys():
            self._bits = self._database.write(lambda connection: _register(connection, names), repeatable=True)
        return self._bits


def _register(connection: Connection, sources: Collection[str]) -> dict[str, int]:
    connection.run(f"SELECT {SCHEMA_LOCK_EXCLUSIVE}")
    for name in sorted(sources):
        connection.run(
            f"""INSERT INTO source (bit, name) SELECT coalesce(max(bit) + 1, 0), {text(name)} FROM source
                HAVING NOT bool_or(name = {text(name)}) OR count(*) = 0"""
        )
    return {name: int(bit) for name, bit in connection.run("SELECT name, bit FROM source")}
