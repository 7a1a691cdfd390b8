"""Resolving what a test has changed, as the resolver does it."""

from dedup.store import Store

from jobs.matching.resolver import Resolver


def resolve(store: Store) -> None:
    """Resolves everything that the active run has not read of the change log, if a run is active."""
    run = store.runs.active()
    if run:
        with Resolver(store) as resolver:
            while resolver.step(run):
                pass
