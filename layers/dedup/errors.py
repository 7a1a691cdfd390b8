"""Exceptions that several parts of the layer raise and handle. This module imports nothing of the layer."""


class Unavailable(Exception):
    """The database or another service failed or did not answer in time; a later attempt may succeed.

    The text says which service. It is shown to the caller."""


class Conflict(Exception):
    """The current state does not allow the request. The text says why and is shown to the caller."""


class NotUndoable(Conflict):
    """An upload cannot be deleted, because the records that it replaced cannot be restored."""


class KeyReused(Exception):
    """An Idempotency-Key was used before, for a request with other content."""


class Busy(Exception):
    """Another attempt holds the lease."""


class Superseded(Exception):
    """This attempt must stop: another attempt took over, or the task has ended in the meantime."""


class NoRun(Exception):
    """No matching run is active, so there are no entities. The text is shown to the caller."""


def sqlstate(error: Exception) -> str:
    """Returns the five-character SQLSTATE of an error of PostgreSQL; empty for any other exception.

    The only argument of pg8000's DatabaseError are the fields of the server's message, with the code as `C`. The other
    fields may contain values of rows and must not be logged."""
    details = error.args[0] if error.args else None
    return str(details.get("C", "")) if isinstance(details, dict) else ""
