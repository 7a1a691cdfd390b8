"""Exceptions that several parts of the layer raise and handle. This module imports nothing of the layer."""


class Unavailable(Exception):
    """The database or another service failed or did not answer in time; a later attempt may succeed.

    The text says which service. It is shown to the caller."""


class Conflict(Exception):
    """The current state does not allow the request. The text says why and is shown to the caller."""


class KeyReused(Exception):
    """An Idempotency-Key was used before, for a request with other content."""


class Busy(Exception):
    """Another attempt holds the lease."""


class Superseded(Exception):
    """This attempt must stop: another attempt took over, or the task ended meanwhile."""


class NoRun(Exception):
    """No matching run is active, so there are no entities. The text is shown to the caller."""


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of an error that PostgreSQL reported, five characters; empty for any other exception.

    pg8000's DatabaseError has the fields of the server's message as its only argument, the code as `C`. The others may
    hold values of rows and must not be logged."""
    details = error.args[0] if error.args else None
    return str(details.get("C", "")) if isinstance(details, dict) else ""
