"""A backend with the client that an Airflow Connection describes; without one the backend finds its own."""

from functools import cache
from pathlib import Path

from modelway.backends.base import Backend, backend_member, load_backend
from modelway.hooks.client import client_from_airflow


@cache
def backend_from_airflow(name: str, *, home: Path) -> Backend:
    """Return the backend of that name, one for all of a process: its triggers share what it watches.

    :raises CapabilityMissing: there is no such backend
    """
    return load_backend(name, home=home, client=client_from_airflow(name, hook=backend_member(name).hook))
