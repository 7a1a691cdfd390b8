"""Works on the runs of the matching that the queue names."""

from dedup import worker

from jobs.runs import run

handler = worker.handler("run", run)
