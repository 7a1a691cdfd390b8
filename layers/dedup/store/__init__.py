"""PostgreSQL, the one place with SQL. The Store has a component for each subject; each has its own module.

Beside them: `connection` (transactions and retries), `locks` (which locks there are, and their order), `sql` (literals
and COPY), `region_counts` (membership and counts of customers and entities), `task_table` (the state machine of tasks),
`removal` (deleting records), `audit`, and `roles` (what the application's role may do)."""

from functools import cache

from dedup.settings import settings
from dedup.store.change_log import ChangeLog
from dedup.store.connection import Database
from dedup.store.customers import Customers
from dedup.store.erasures import Erasures
from dedup.store.exports import Exports
from dedup.store.jobs import Jobs
from dedup.store.loads import Loads
from dedup.store.maintenance import Maintenance
from dedup.store.mappings import Mappings
from dedup.store.matching.decisions import Decisions
from dedup.store.matching.entities import Entities
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
    reached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        sources, salt = Sources(database), Salt(database)
        self.schema = Schema(database)
        self.maintenance = Maintenance(database)
        self.records = Records(database, sources, self.maintenance)
        self.customers = Customers(database, salt, self.maintenance)
        self.questions = Questions(database)
        self.uploads = Uploads(database, salt, self.maintenance)
        self.loads = Loads(database, sources, salt, self.maintenance)
        self.mappings = Mappings(database, salt)
        self.previews = Previews(database)
        self.erasures = Erasures(database)
        self.exports = Exports(database)
        self.jobs = Jobs(database)
        self.reports = Reports(database)
        self.runs = Runs(database, self.maintenance)
        self.entities = Entities(database)
        self.review = Review(database)
        self.decisions = Decisions(database)
        self.tasks = Tasks(database)
        self.change_log = ChangeLog(database)

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
