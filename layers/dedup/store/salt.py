"""The salt of this database's hashes of ids and addresses."""

from dedup.store.connection import Database
from dedup.traces import Hashes


class Salt:
    """The salt of one database. It is made once, by the first migration."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hashes: Hashes | None = None

    def hashes(self) -> Hashes:
        """Hashes with this salt. Not to be called within a transaction."""
        if self._hashes is None:
            [[salt]] = self._database.read(lambda connection: connection.run("SELECT salt FROM hash_salt"))
            self._hashes = Hashes(salt)
        return self._hashes
