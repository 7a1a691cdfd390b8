"""The one place with SQL: `records` for records and set questions, `customers` for one customer, `uploads` for what
happened to every file, `erasures` for what an erasure leaves to be done, `exports` for files that were asked for,
`matching` for runs and questions about entities, `entities` for keeping them in step with the records, `decisions`
for what people said of records, `reports` for the report's figures, `jobs` for jobs on Spark, `work` for what runs,
exports, erasures and jobs have in common, `tasks` for the messages of all that a queue starts, `removal` for taking
records away, `roles` for what the application's role may do, `base` for what all of them need."""

from functools import cache

from dedup.settings import settings
from dedup.store.base import UNKNOWN
from dedup.store.connection import Database
from dedup.store.customers import Customer, Customers, ErasedCustomer
from dedup.store.decisions import Decisions
from dedup.store.erasures import Cutting, ErasedMeanwhile, Erasures, RejectedFile
from dedup.store.exports import Export, Exports, Writing
from dedup.store.jobs import Job, Jobs
from dedup.store.matching import Claim, Found, Matching, Reading
from dedup.store.records import Records, Selection, Verification
from dedup.store.reports import Fault, Figures, Kept, People, Reports
from dedup.store.tasks import Task, Tasks
from dedup.store.uploads import Account, Load, Outdated, Uploads

__all__ = [
    "UNKNOWN",
    "Account",
    "Claim",
    "Customer",
    "Cutting",
    "ErasedCustomer",
    "ErasedMeanwhile",
    "Export",
    "Fault",
    "Figures",
    "Found",
    "Job",
    "Kept",
    "Load",
    "Outdated",
    "People",
    "Reading",
    "RejectedFile",
    "Selection",
    "Store",
    "Task",
    "Verification",
    "Writing",
    "open_store",
]


class Store(Matching, Decisions, Records, Customers, Uploads, Erasures, Exports, Reports, Jobs, Tasks):
    """Everything that is kept, in one database. Raises errors.Unavailable where that is not to be had."""


@cache
def open_store() -> Store:
    """The store of this Lambda environment."""
    return Store(Database(settings()))
