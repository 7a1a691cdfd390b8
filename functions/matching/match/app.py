"""Works on the runs of the matching that the queue names."""

from dedup.api import queue_handler

from jobs.matching.runs import run

handler = queue_handler.handler("run", run)
