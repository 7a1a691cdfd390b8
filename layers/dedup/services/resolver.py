"""Wakes the resolver, a function of its own that keeps the entities up to date."""

from time import time

from aws_lambda_powertools import Logger

from dedup.errors import Unavailable
from dedup.settings import SERVICE, settings

INTERVAL_SECONDS = 1.0
"""Least time between two messages of one Lambda environment."""

logger = Logger(service=SERVICE, child=True)

_woken_at = 0.0


def wake() -> None:
    """Tells the resolver that there is something to resolve: call it after a commit that changed records, decisions or
    the active run. Does nothing without the setting RESOLVER_QUEUE. Never raises: if the queue is not available, the
    resolver's schedule finds the change.

    Calls within INTERVAL_SECONDS of a message send none. The resolver stays awake for longer than that after its last
    work, so it sees their changes too."""
    global _woken_at
    # Not the monotonic clock: it may stand still while Lambda has frozen the environment.
    now = time()
    if not settings().resolver_queue or abs(now - _woken_at) < INTERVAL_SECONDS:
        return
    _woken_at = now
    # Imported here, so that functions start without botocore.
    from dedup.aws import queues

    try:
        queues.send(settings().resolver_queue, {})
    except Unavailable:
        logger.warning("The queue is not available: the resolver's schedule will find the change")
