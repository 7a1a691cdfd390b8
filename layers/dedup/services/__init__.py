"""Use cases that need the store and AWS."""
