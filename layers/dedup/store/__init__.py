"""PostgreSQL, the one place with SQL. The Store has a component for each subject; each has its own module.

Beside them: `connection` (transactions and retries), `locks` (which locks there are, and their order), `sql` (literals
and COPY), `region_counts` (membership and counts of customers and entities), `task_table` (the state machine of tasks),
`removal` (deleting records), `audit`, and `roles` (what the application's role may do)."""

from functools import cache, cached_property
from typing import TYPE_CHECKING

from dedup.settings import settings
from dedup.store.connection import Database

if TYPE_CHECKING:
    from dedup.store.change_log import ChangeLog
    from dedup.store.customers import Customers
    from dedup.store.erasures import Erasures
    from dedup.store.exports import Exports
    from dedup.store.jobs import Jobs
    from dedup.store.loads import Loads
    from dedup.store.maintenance import Maintenance
    from dedup.store.mappings import Mappings
    from dedup.store.matching.decisions import Decisions
    from dedup.store.matching.entities import Entities
    from dedup.store.matching.freshness import Freshness
    from dedup.store.matching.resolving import Resolving
    from dedup.store.matching.review import Review
    from dedup.store.matching.runs import Runs
    from dedup.store.previews import Previews
    from dedup.store.records import Records
    from dedup.store.reports import Reports
    from dedup.store.salt import Salt
    from dedup.store.schema import Schema
    from dedup.store.set_questions import Questions
    from dedup.store.sources import Sources
    from dedup.store.task_outbox import Tasks
    from dedup.store.uploads import Uploads

__all__ = ["Store", "open_store"]


class Store:
    """Everything that is stored, in one database. Components raise errors.Unavailable if the database can't be
    reached.

    Each component imports its module on first use: a function uses few of them, and importing all would take a third
    of its cold start."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def schema(self) -> "Schema":
        """The tables themselves, and their migrations."""
        from dedup.store.schema import Schema

        return Schema(self._database)

    @cached_property
    def maintenance(self) -> "Maintenance":
        """Sweep, merge and compact, in their order."""
        from dedup.store.maintenance import Maintenance

        return Maintenance(self._database)

    @cached_property
    def records(self) -> "Records":
        """Records as the API stores and lists them."""
        from dedup.store.records import Records

        return Records(self._database, self._sources, self.maintenance)

    @cached_property
    def customers(self) -> "Customers":
        """Customers: shown, cleared and erased."""
        from dedup.store.customers import Customers

        return Customers(self._database, self._salt, self.maintenance)

    @cached_property
    def questions(self) -> "Questions":
        """Set questions about customers and entities."""
        from dedup.store.set_questions import Questions

        return Questions(self._database)

    @cached_property
    def uploads(self) -> "Uploads":
        """Uploads and their state."""
        from dedup.store.uploads import Uploads

        return Uploads(self._database, self._salt, self.maintenance)

    @cached_property
    def loads(self) -> "Loads":
        """The loading of files."""
        from dedup.store.loads import Loads

        return Loads(self._database, self._sources, self._salt, self.maintenance)

    @cached_property
    def mappings(self) -> "Mappings":
        """Column mappings, of uploads and saved ones."""
        from dedup.store.mappings import Mappings

        return Mappings(self._database, self._salt)

    @cached_property
    def previews(self) -> "Previews":
        """What uploads that are previewed or held would do."""
        from dedup.store.previews import Previews

        return Previews(self._database)

    @cached_property
    def erasures(self) -> "Erasures":
        """Erased customers in files of rejected rows."""
        from dedup.store.erasures import Erasures

        return Erasures(self._database)

    @cached_property
    def exports(self) -> "Exports":
        """Exports and their state."""
        from dedup.store.exports import Exports

        return Exports(self._database)

    @cached_property
    def jobs(self) -> "Jobs":
        """Spark jobs and their state."""
        from dedup.store.jobs import Jobs

        return Jobs(self._database)

    @cached_property
    def reports(self) -> "Reports":
        """The numbers of the report, and kept ones."""
        from dedup.store.reports import Reports

        return Reports(self._database)

    @cached_property
    def runs(self) -> "Runs":
        """Matching runs."""
        from dedup.store.matching.runs import Runs

        return Runs(self._database, self.maintenance)

    @cached_property
    def entities(self) -> "Entities":
        """Entities of the active run."""
        from dedup.store.matching.entities import Entities

        return Entities(self._database)

    @cached_property
    def freshness(self) -> "Freshness":
        """How far entities are resolved."""
        from dedup.store.matching.freshness import Freshness

        return Freshness(self._database)

    @cached_property
    def review(self) -> "Review":
        """Pairs to review."""
        from dedup.store.matching.review import Review

        return Review(self._database)

    @cached_property
    def resolving(self) -> "Resolving":
        """What the resolver reads and writes."""
        from dedup.store.matching.resolving import Resolving

        return Resolving(self._database)

    @cached_property
    def decisions(self) -> "Decisions":
        """Decisions of people about pairs."""
        from dedup.store.matching.decisions import Decisions

        return Decisions(self._database)

    @cached_property
    def tasks(self) -> "Tasks":
        """The outbox of tasks."""
        from dedup.store.task_outbox import Tasks

        return Tasks(self._database)

    @cached_property
    def change_log(self) -> "ChangeLog":
        """The log of changed records."""
        from dedup.store.change_log import ChangeLog

        return ChangeLog(self._database)

    @cached_property
    def _sources(self) -> "Sources":
        from dedup.store.sources import Sources

        return Sources(self._database)

    @cached_property
    def _salt(self) -> "Salt":
        from dedup.store.salt import Salt

        return Salt(self._database)

    def ping(self) -> None:
        """Returns when the database answers; raises Unavailable within three seconds."""
        self._database.ping()

    def close(self) -> None:
        """Closes the connection. The next call opens another."""
        self._database.close()

    def with_own_connection(self) -> "Store":
        """The same store on a connection of its own."""
        return Store(self._database.with_own_connection())


@cache
def open_store() -> Store:
    """The store of this Lambda environment."""
    return Store(Database(settings()))
