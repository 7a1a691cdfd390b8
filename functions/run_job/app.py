"""Starts the jobs that its queue names."""

from dedup import spark_jobs, worker

handler = worker.handler("job", spark_jobs.work)
