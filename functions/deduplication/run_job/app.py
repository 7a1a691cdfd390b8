"""Starts the jobs that its queue names."""

from dedup.api import queue_handler
from dedup.aws import spark

handler = queue_handler.handler("job", spark.work)
