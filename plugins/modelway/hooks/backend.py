"""A backend with the client that an Airflow Connection describes; without one the backend finds its own."""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from modelway.backends.base import Backend, backend_member, load_backend
from modelway.hooks.connection import connection


@cache
def backend_from_airflow(name: str, *, home: Path) -> Backend:
    """Return the backend of that name, one for all of a process: its triggers share what it watches.

    The optional connection ``modelway_<name>`` is read by the provider's hook that the backend names: that of
    ``modelway_kubernetes`` (type ``kubernetes``) is the KubernetesHook. Another backend gets the connection's ``host``
    alone, such as ``tcp://engine:2376`` of ``modelway_docker``: it connects when it must.

    :raises CapabilityMissing: there is no such backend
    """
    return load_backend(name, home=home, client=_client(name, hook=backend_member(name).hook))


def _client(name: str, *, hook: str | None) -> Any:
    conn_id = f"modelway_{name}"
    found = connection(conn_id)
    if found is None or hook is None:
        return found.host if found else None
    module, _, kind = hook.rpartition(".")
    return getattr(importlib.import_module(module), kind)(conn_id=conn_id).get_conn()
