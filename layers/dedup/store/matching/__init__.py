"""Matching in the database: runs, the entities of the active run, and decisions."""
