"""Long-running operations: read once by whoever waits for them."""

from dataclasses import dataclass

from modelway.platforms.google.errors import GoogleError, error_of_status
from modelway.platforms.google.rest import GoogleApi


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation as it was at one time."""

    done: bool
    error: GoogleError | None = None
    """Why it failed."""


def read_operation(api: GoogleApi, service: str, name: str, *, what: str) -> Operation:
    """Return how an operation is now.

    :param name: ``projects/…/operations/…``; with it any process finds the operation again
    :param what: what it does, for the message of its error, such as ``deploy version 3 to the endpoint digits``
    :raises GoogleError: the API refuses or does not answer; the operation continues
    """
    document = api.get(service, name)
    status = document.get("error")
    return Operation(done=bool(document.get("done")), error=error_of_status(status, call=what) if status else None)
