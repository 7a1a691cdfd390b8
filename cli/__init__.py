"""The `dedup` command: a client of the HTTP API and nothing else."""
