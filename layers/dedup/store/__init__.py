"""The one place with SQL: `records` for records and set questions, `uploads` for what happened to every file."""

from functools import cache

from dedup.connection import Database
from dedup.settings import settings
from dedup.store.records import KeyReused, Records, Selection, Verification
from dedup.store.uploads import Account, Busy, Conflict, Load, Outdated, Superseded, Uploads

__all__ = [
    "Account",
    "Busy",
    "Conflict",
    "KeyReused",
    "Load",
    "Outdated",
    "Selection",
    "Store",
    "Superseded",
    "Verification",
    "open_store",
]


class Store(Records, Uploads):
    """Everything that is kept, in one database. Raises connection.Unavailable where that is not to be had."""


@cache
def open_store() -> Store:
    """The store of this Lambda environment."""
    return Store(Database(settings()))
