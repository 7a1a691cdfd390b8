"""Starts the jobs that its queue names."""

from dedup import batch, worker

handler = worker.handler("job", batch.work)
