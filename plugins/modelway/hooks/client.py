"""The client that an Airflow Connection describes, for a backend or an endpoint target."""

import importlib
from typing import Any

from modelway.hooks.connection import connection


def client_from_airflow(name: str, *, hook: str | None) -> Any:
    """Return the client of the optional connection ``modelway_<name>``; None where there is none.

    It is read by the provider's hook that is named: that of ``modelway_kubernetes`` (type ``kubernetes``) is the
    KubernetesHook. Without a hook it is the connection's ``host`` alone, such as ``tcp://engine:2376`` of
    ``modelway_docker``: the target connects when it must.
    """
    conn_id = f"modelway_{name}"
    found = connection(conn_id)
    if found is None or hook is None:
        return found.host if found else None
    module, _, kind = hook.rpartition(".")
    return getattr(importlib.import_module(module), kind)(conn_id=conn_id).get_conn()
