"""Long-running operations: read once by the triggerer, which waits between, or followed here by a command."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelway.platforms.google.errors import GoogleError, error_of_status
from modelway.platforms.google.exchange import Document
from modelway.platforms.google.rest import AsyncGoogleApi, GoogleApi


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation as it was at one time."""

    name: str
    """``projects/…/operations/…``; with it any process finds the operation again."""
    done: bool
    response: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: GoogleError | None = None
    """Why it failed."""

    def result(self) -> Mapping[str, Any]:
        """Return the response of one that is done.

        :raises GoogleError: it failed
        """
        if self.error is not None:
            raise self.error
        return self.response


def operation_of(document: Mapping[str, Any], *, what: str) -> Operation:
    """Return the operation that an answer describes.

    :param what: what it does, for the message of its error, such as ``deploy version 3 to the endpoint digits``
    """
    status = document.get("error")
    return Operation(
        name=str(document.get("name") or ""),
        done=bool(document.get("done")),
        response=document.get("response") or {},
        metadata=document.get("metadata") or {},
        error=error_of_status(status, call=what) if status else None,
    )


def read_operation(api: GoogleApi, service: str, name: str, *, what: str) -> Operation:
    """Return how an operation is now.

    :raises GoogleError: the API refuses or does not answer; the operation continues
    """
    return operation_of(api.get(service, name), what=what)


async def read_operation_async(api: AsyncGoogleApi, service: str, name: str, *, what: str) -> Operation:
    """Return how an operation is now; see ``read_operation``."""
    return operation_of(await api.get(service, name), what=what)


def wait_for(
    api: GoogleApi,
    service: str,
    document: Document,
    *,
    what: str,
    timeout_seconds: float,
    interval_seconds: float = 1.0,
) -> Operation:
    """Follow an operation to its end, in a command.

    :param document: the answer of the call that started it
    :returns: it, failed or not
    :raises GoogleError: it did not end in time; it continues
    """
    operation, end = operation_of(document, what=what), time.monotonic() + timeout_seconds
    while not operation.done:
        if time.monotonic() > end:
            raise GoogleError(
                f"{what}: the operation {operation.name} did not end within {timeout_seconds:g} s",
                code="DEADLINE_EXCEEDED",
                retryable=True,
                do="Try again later; it continues meanwhile",
            )
        time.sleep(interval_seconds)
        operation = read_operation(api, service, operation.name, what=what)
    return operation
