"""A backend with the client that an Airflow Connection describes; without one the backend finds its own."""

import time
from pathlib import Path

from modelway.backends.base import Backend, Refusable, backend_member, load_backend
from modelway.hooks.client import client_from_airflow

#: a connection whose credentials are refused is read again at most this often
READ_AGAIN_SECONDS = 30.0
#: the backends of this process, and when their connections were read
_BACKENDS: dict[tuple[str, Path], tuple[Backend, float]] = {}


def backend_from_airflow(name: str, *, home: Path) -> Backend:
    """Return the backend of that name, one for all of a process: its triggers share what it watches.

    Where its credentials were refused, its connection is read again, which may have new ones.

    :raises CapabilityMissing: there is no such backend
    :raises LineageUnavailable: Airflow cannot say whether there is a connection
    """
    if found := _BACKENDS.get((name, home)):
        backend, read = found
        is_refused = isinstance(backend, Refusable) and backend.credentials_refused
        if not is_refused or time.monotonic() - read < READ_AGAIN_SECONDS:
            return backend
    made = load_backend(name, home=home, client=client_from_airflow(name, hook=backend_member(name).hook))
    _BACKENDS[name, home] = made, time.monotonic()
    return made


def forget_backends() -> None:
    """Have each backend made anew, with its connection as it is then."""
    _BACKENDS.clear()
