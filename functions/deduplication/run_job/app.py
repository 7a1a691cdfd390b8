"""Starts the Spark jobs that its queue delivers."""

from dedup.api import queue_handler
from dedup.services import jobs

handler = queue_handler.handler("job", jobs.run)
