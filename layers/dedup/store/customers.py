"""One customer: all of their records, in every source, and their erasure."""

from contextlib import suppress
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.errors import Unavailable
from dedup.store import decisions, entities, erasures
from dedup.store.base import MERGE_LOCK, UNKNOWN, WORK_LOCK, Base, note
from dedup.store.entities import active_run
from dedup.store.erasures import Remaining
from dedup.store.records import records_query
from dedup.store.removal import take_out
from dedup.traces import Hashes, addresses

MAX_FILES = 1_000
"""Files that an erasure names at most."""

MAX_NAMES = 1_000
"""Names of a customer by which keys of files are recognised."""

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
class ErasedCustomer:
    """What was erased of a customer: their records, the sources that had them by name, and the keys of the files that
    brought them; and what remains to be done in files of rejected rows."""

    records: int
    sources: list[str]
    files: list[str]
    remaining: Remaining


@dataclass(frozen=True)
class _Traces:
    """Where a customer is known from. `known`: whether there is a record, or a run or a decision has kept something of
    them. `emails`: hashes of their addresses in records and, as these are compared, in the tables of runs."""

    known: bool
    sources: list[str]
    files: list[str]
    names: list[str]
    emails: list[int]


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

    def erase(self, customer_id: int, principal: str = UNKNOWN) -> ErasedCustomer | None:
        """Deletes a customer's records, as `principal` asked, from membership and counts too, and from all that runs
        of the matching and decisions know; and notes which rejected rows are theirs. None where nothing is left of
        them, or nothing ever was there. Where an erasure of theirs has not ended, it goes on."""
        hashes = self._hashes()
        customer = hashes.customer(customer_id)

        def work(connection: Connection) -> tuple[ErasedCustomer, list[int]] | None:
            connection.run(f"SELECT {WORK_LOCK}")
            found = _traces(connection, customer_id, hashes)
            if not found.known and not erasures.is_known(connection, customer):
                return None
            # What waits for the next lock may hold the row of an upload.
            erasures.hide_keys(connection, customer_id, customer, found.emails, found.names)
            connection.run(f"SELECT {MERGE_LOCK}")
            # Again: others brought records while that lock was waited for.
            found = _traces(connection, customer_id, hashes)
            entities.forget(connection, customer_id)
            decisions.forget(connection, customer_id)
            removed = take_out(connection, f"customer_id = {customer_id}")
            if found.known:
                note(connection, "erase customer", principal, customer_id=customer_id, records=removed)
            remaining = erasures.begin(connection, customer, found.emails, anew=found.known)
            return ErasedCustomer(removed, found.sources, found.files, remaining), found.emails

        done = self._database.write(work, repeatable=False)
        if done is None:
            return None
        erased, emails = done
        with suppress(Unavailable):
            # Of files too that ended while the lock was waited for.
            self._database.write(
                lambda connection: erasures.hide_keys(connection, customer_id, customer, emails, ()), repeatable=True
            )
            self.drain(batches=1)
        return erased


def _traces(connection: Connection, customer_id: int, hashes: Hashes) -> _Traces:
    theirs = f"WHERE customer_id = {customer_id}"
    tables = ("record", *(tables.member for tables in entities.there(connection)))
    emails = [
        email for [email] in connection.run(" UNION ".join(f"SELECT email FROM {table} {theirs}" for table in tables))
    ]
    names = connection.run(f"SELECT DISTINCT name FROM record {theirs} LIMIT {MAX_NAMES}")
    keys = connection.run(
        f"""SELECT object_key FROM upload WHERE object_key IS NOT NULL AND id IN (
                SELECT upload_id FROM record {theirs})
            ORDER BY id LIMIT {MAX_FILES}"""
    )
    said = connection.run(f"SELECT FROM decision WHERE {customer_id} = ANY (customer_ids) LIMIT 1")
    return _Traces(
        bool(emails or said),
        _sources_of(connection, customer_id),
        [key for [key] in keys],
        [name for [name] in names],
        hashes.emails(set().union(*(addresses(email) for email in emails if email))),
    )


def _sources_of(connection: Connection, customer_id: int) -> list[str]:
    rows = connection.run(
        f"""SELECT name FROM source s
            WHERE EXISTS (SELECT FROM record r WHERE r.customer_id = {customer_id} AND r.source = s.bit)
            ORDER BY name"""
    )
    return [name for [name] in rows]


def _entities_of(connection: Connection, customer_id: int) -> list[int]:
    tables = active_run(connection)
    if not tables:
        return []
    rows = connection.run(
        f"""SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id IN (
                SELECT id FROM record WHERE customer_id = {customer_id} ORDER BY id + 0 LIMIT {FIRST_RECORDS})
            ORDER BY entity_id"""
    )
    return [entity for [entity] in rows]
