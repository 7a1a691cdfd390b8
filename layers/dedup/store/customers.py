"""One customer: all of their records, in every source, and their erasure."""

from contextlib import suppress
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.connection import Unavailable
from dedup.store import decisions, entities
from dedup.store.base import FOLD_LOCK, UNKNOWN, WORK_LOCK, Base, note
from dedup.store.entities import in_force
from dedup.store.records import records_query
from dedup.store.removal import take_out

MAX_FILES = 1_000
"""Files that an erasure names at most."""

FIRST_RECORDS = 1_000
"""Records of a customer whose entities are looked for."""


@dataclass(frozen=True)
class Customer:
    """Who has a customer: the sources by name, the entities that their records belong to (none before the first run of
    the matching), and a page of the records in id order, as the text of a JSON array. `last` is the id that the next
    page comes after; None when this is the last."""

    sources: list[str]
    entities: list[int]
    records: str
    last: int | None


@dataclass(frozen=True)
class Traces:
    """Where a customer is known from: the sources by name, the addresses of their records and, as these are compared,
    those in the tables of runs of the matching, and the keys of the files that brought them. `known`: whether there is
    a record, or a run or a decision has kept something of them."""

    sources: list[str]
    addresses: list[str]
    files: list[str]
    known: bool


class Customers(Base):
    """The customers of one database, one by one."""

    def customer(self, customer_id: int, after: int | None, limit: int) -> Customer | None:
        """What is known of a customer, with at most `limit` records above id `after`; None where there is no record."""

        def work(connection: Connection) -> Customer | None:
            sources = _sources_of(connection, customer_id)
            if not sources:
                return None
            # By the index on customers: one has few records, and their order is made of these alone.
            chosen = f"customer_id = {customer_id} AND id > {after or 0} ORDER BY id + 0"
            [[records, last, more]] = connection.run(records_query(chosen, limit))
            return Customer(sources, _entities_of(connection, customer_id), records, int(last) if more else None)

        return self._database.read(work)

    def traces(self, customer_id: int) -> Traces:
        """Where a customer is known from; empty lists where they are not."""

        def work(connection: Connection) -> Traces:
            theirs = f"WHERE customer_id = {customer_id}"
            tables = ("record", *(tables.member for tables in entities.there(connection)))
            addresses = connection.run(" UNION ".join(f"SELECT email FROM {table} {theirs}" for table in tables))
            keys = connection.run(
                f"""SELECT object_key FROM upload WHERE object_key IS NOT NULL AND id IN (
                        SELECT upload_id FROM record WHERE customer_id = {customer_id})
                    ORDER BY id LIMIT {MAX_FILES}"""
            )
            said = connection.run(f"SELECT FROM decision WHERE {customer_id} = ANY (customer_ids) LIMIT 1")
            return Traces(
                _sources_of(connection, customer_id),
                [email for [email] in addresses if email],
                [key for [key] in keys],
                bool(addresses or said),
            )

        return self._database.read(work)

    def erase(self, customer_id: int, principal: str = UNKNOWN) -> int:
        """Deletes a customer's records, as `principal` asked, from membership and counts too, and from all that runs
        of the matching and decisions know; how many records there were."""

        def work(connection: Connection) -> int:
            connection.run(f"SELECT {WORK_LOCK}")
            connection.run(f"SELECT {FOLD_LOCK}")
            entities.forget(connection, customer_id)
            decisions.forget(connection, customer_id)
            removed = take_out(connection, f"customer_id = {customer_id}")
            note(connection, "erase customer", principal, customer_id=customer_id, records=removed)
            return removed

        removed = self._database.write(work, repeatable=False)
        with suppress(Unavailable):
            self.drain(batches=1)
        return removed


def _sources_of(connection: Connection, customer_id: int) -> list[str]:
    rows = connection.run(
        f"""SELECT name FROM source s
            WHERE EXISTS (SELECT FROM record r WHERE r.customer_id = {customer_id} AND r.source = s.bit)
            ORDER BY name"""
    )
    return [name for [name] in rows]


def _entities_of(connection: Connection, customer_id: int) -> list[int]:
    tables = in_force(connection)
    if not tables:
        return []
    rows = connection.run(
        f"""SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id IN (
                SELECT id FROM record WHERE customer_id = {customer_id} ORDER BY id + 0 LIMIT {FIRST_RECORDS})
            ORDER BY entity_id"""
    )
    return [entity for [entity] in rows]
