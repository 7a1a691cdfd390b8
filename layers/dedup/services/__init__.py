"""Use cases that need storage and AWS."""
