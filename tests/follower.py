"""A consumer of the change log for tests: it keeps the ids of the records, and accepts no change that does not fit."""

from dedup.store import Store, change_log
from dedup.store.change_log import Change

Changed = tuple[set[int], set[int], set[int]]
"""The ids of the records that were inserted, updated and deleted, all in all."""


def ids_of_records(store: Store) -> set[int]:
    return {record for [record] in store._database.read(lambda connection: connection.run("SELECT id FROM record"))}


class Follower:
    """Registered anew when it is made, while nobody writes."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        store.change_log.unregister(name)
        store.change_log.register(name)
        self.ids = ids_of_records(store)

    def read(self, limit: int = 3) -> list[Change]:
        """One batch, which it applies and commits."""
        batch = self._store.change_log.read(self._name, limit)
        assert sum(change.last - change.first + 1 for change in batch.changes) <= limit
        for change in batch.changes:
            self._apply(change)
        if batch.changes:
            self._store._database.write(
                lambda connection: change_log.commit(connection, self._name, batch), repeatable=False
            )
        return [*batch.changes]

    def catch_up(self, limit: int = 3) -> Changed:
        """Reads until there is nothing more."""
        before, updated = {*self.ids}, set[int]()
        while changes := self.read(limit):
            for change in changes:
                if change.operation == "updated":
                    updated |= {*range(change.first, change.last + 1)}
        return self.ids - before, updated & before & self.ids, before - self.ids

    def _apply(self, change: Change) -> None:
        records = {*range(change.first, change.last + 1)}
        if change.operation == "cleared":
            assert records == {0}
            self.ids = set()
        elif change.operation == "inserted":
            assert not records & self.ids, change
            self.ids |= records
        else:
            assert records <= self.ids, change
            if change.operation == "deleted":
                self.ids -= records
