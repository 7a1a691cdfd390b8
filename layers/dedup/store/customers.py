"""One customer: all of their records, in every source, and their erasure."""

from contextlib import suppress
from dataclasses import dataclass

from pg8000.native import Connection

from dedup.customer_ids import CustomerId
from dedup.errors import Unavailable
from dedup.store import erasures, examples, samples
from dedup.store.audit import UNKNOWN, record_action
from dedup.store.connection import Database
from dedup.store.customer_columns import is_customer
from dedup.store.erasures import Remaining
from dedup.store.locks import LONG_WRITE_LOCK_SHARED, MERGE_LOCK_EXCLUSIVE
from dedup.store.maintenance import Maintenance
from dedup.store.matching import decisions, forgetting, run_tables
from dedup.store.records import records_query
from dedup.store.removal import delete_records
from dedup.store.salt import Salt
from dedup.store.sql import text
from dedup.store.uploads import uploads_of
from dedup.traces import Hashes, addresses

MAX_FILES = 1_000
"""Files that an erasure names at most."""

MAX_NAMES = 1_000
"""Names of a customer by which object keys are recognised."""

FIRST_RECORDS = 1_000
"""Records of a customer whose entities are reported."""


@dataclass(frozen=True)
class Customer:
    """One customer: the sources that have them, by name; the entities that their records belong to (none before the
    first matching run); and a page of the records in id order, as the text of a JSON array. `last` is the id that the
    next page comes after; None if this is the last."""

    sources: list[str]
    entities: list[int]
    records: str
    last: int | None


@dataclass(frozen=True)
class ErasedCustomer:
    """What an erasure deleted: the number of records, the sources that had the customer, by name, and the keys of the
    files that the records came from; and what remains to be done in files of rejected rows."""

    records: int
    sources: list[str]
    files: list[str]
    remaining: Remaining


@dataclass(frozen=True)
class _Traces:
    """What is stored about a customer. `known`: whether there is a record, or a run, a decision or an upsert refers to
    them.
    `emails`: hashes of their addresses in records and, normalised, in the tables of runs."""

    known: bool
    sources: list[str]
    files: list[str]
    names: list[str]
    emails: list[int]


class Customers:
    """The customers of one database, one by one."""

    def __init__(self, database: Database, salt: Salt, maintenance: Maintenance) -> None:
        self._database = database
        self._salt = salt
        self._maintenance = maintenance

    def get(self, customer_id: CustomerId, after: int | None, limit: int) -> Customer | None:
        """One customer, with at most `limit` records above id `after`; None if there is no record."""

        def work(connection: Connection) -> Customer | None:
            sources = _sources_of(connection, customer_id)
            if not sources:
                return None
            # Uses the index on customers and sorts their few records; `id + 0` keeps the index on id out.
            chosen = f"{is_customer(customer_id)} AND id > {after or 0} ORDER BY id + 0"
            [[records, last, more]] = connection.run(records_query(chosen, limit))
            return Customer(sources, _entities_of(connection, customer_id), records, int(last) if more else None)

        return self._database.read(work)

    def erase(self, customer_id: CustomerId, principal: str = UNKNOWN) -> ErasedCustomer | None:
        """Deletes a customer's records, as `principal` asked, also from membership, counts, matching runs and
        decisions; and records which rejected rows are theirs, to be cut out later. None if nothing is stored about the
        customer. An earlier erasure of the customer that has not ended continues."""
        hashes = self._salt.hashes()
        customer = hashes.customer(customer_id)

        def work(connection: Connection) -> tuple[ErasedCustomer, list[int]] | None:
            connection.run(f"SELECT {LONG_WRITE_LOCK_SHARED}")
            found = _traces(connection, customer_id, hashes)
            if not (
                found.known
                or erasures.is_known(connection, customer)
                or samples.has_customer(connection, customer, hashes)
                or examples.has_customer(connection, customer, hashes)
            ):
                return None
            # Before the next lock: who waits for it may hold the row of an upload.
            erasures.hide_keys(connection, customer_id, customer, found.emails, found.names)
            connection.run(f"SELECT {MERGE_LOCK_EXCLUSIVE}")
            # Again: records may have been added while this waited for the lock.
            found = _traces(connection, customer_id, hashes)
            forgetting.forget_customer(connection, customer_id)
            decisions.forget_customer(connection, customer_id)
            removed = delete_records(connection, is_customer(customer_id)).records
            connection.run(f"DELETE FROM stated_customer WHERE {is_customer(customer_id)}")
            if found.known:
                record_action(connection, "erase customer", principal, customer_id=customer_id, records=removed)
            remaining = erasures.begin(connection, customer, found.emails, anew=found.known)
            samples.forget_customer(connection, customer, found.emails, hashes)
            examples.forget_customer(connection, customer, found.emails, hashes)
            return ErasedCustomer(removed, found.sources, found.files, remaining), found.emails

        done = self._database.write(work, repeatable=False)
        if done is None:
            return None
        erased, emails = done
        with suppress(Unavailable):
            # Again, for files that finished while this waited for the lock.
            self._database.write(
                lambda connection: erasures.hide_keys(connection, customer_id, customer, emails, ()), repeatable=True
            )
            self._maintenance.merge_deferred(batches=1)
        return erased


def _traces(connection: Connection, customer_id: CustomerId, hashes: Hashes) -> _Traces:
    theirs, customer = f"WHERE {is_customer(customer_id)}", text(str(customer_id))
    queries = [f"SELECT email FROM record {theirs}", f"SELECT unnest(emails) FROM record {theirs}"]
    # The resolver removes from the active run what the records do not have any more.
    active = run_tables.active_run(connection)
    for tables in run_tables.all_runs(connection):
        if tables != active:
            queries.append(f"SELECT email FROM {tables.member} WHERE customer_id = {customer}")
    emails = [email for [email] in connection.run(" UNION ".join(queries))]
    names = connection.run(f"SELECT DISTINCT name FROM record {theirs} AND name IS NOT NULL LIMIT {MAX_NAMES}")
    keys = connection.run(
        f"""SELECT object_key FROM upload WHERE object_key IS NOT NULL AND id IN ({uploads_of(customer_id)})
            ORDER BY id LIMIT {MAX_FILES}"""
    )
    referred = connection.run(
        f"""SELECT FROM decision WHERE {customer} = ANY (customer_ids)
            UNION ALL SELECT FROM stated_customer {theirs} LIMIT 1"""
    )
    return _Traces(
        bool(emails or referred),
        _sources_of(connection, customer_id),
        [key for [key] in keys],
        [name for [name] in names],
        hashes.emails(set().union(*(addresses(email) for email in emails if email))),
    )


def _sources_of(connection: Connection, customer_id: CustomerId) -> list[str]:
    rows = connection.run(
        f"""SELECT name FROM source s
            WHERE EXISTS (SELECT FROM record r WHERE {is_customer(customer_id, "r.")} AND r.source = s.bit)
            ORDER BY name"""
    )
    return [name for [name] in rows]


def _entities_of(connection: Connection, customer_id: CustomerId) -> list[int]:
    tables = run_tables.active_run(connection)
    if not tables:
        return []
    rows = connection.run(
        f"""SELECT DISTINCT entity_id FROM {tables.member} WHERE record_id IN (
                SELECT id FROM record WHERE {is_customer(customer_id)} ORDER BY id + 0 LIMIT {FIRST_RECORDS})
            ORDER BY entity_id"""
    )
    return [entity for [entity] in rows]
