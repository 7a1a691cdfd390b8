"""Matching: finds records that describe the same entity, with match rules, a match model (Splink) and constraints.

The same code runs on DuckDB and on Spark. `python -m jobs.matching` matches files; `runs.run` works on a matching run
of the store."""
