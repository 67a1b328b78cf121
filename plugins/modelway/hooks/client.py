"""The client that an Airflow Connection describes, for a backend or an endpoint target."""

import importlib
from typing import Any

from modelway.hooks.connection import check_absent, connection


def client_from_airflow(name: str, *, hook: str | None) -> Any:
    """Return the client of the optional connection ``modelway_<name>``; None where there is none.

    A hook may name a connection that several members share (``shared_conn_id``): it is used without one of their own.

    It is read by the provider's hook that is named: that of ``modelway_kubernetes`` (type ``kubernetes``) is the
    KubernetesHook. Without a hook it is the connection's ``host`` alone, such as ``tcp://engine:2376`` of
    ``modelway_docker``: the target connects when it must.

    :raises LineageUnavailable: Airflow cannot say whether there is a connection of a hook of modelway
    """
    conn_id = f"modelway_{name}"
    found = connection(conn_id)
    if hook is None:
        return found.host if found else None
    if found is None:
        # A provider's hook takes seconds to import, and only ours names a shared connection.
        if not hook.startswith("modelway."):
            return None
        # Without the check the target would have the credentials of the machine for as long as this process runs.
        check_absent(conn_id)
        conn_id = _kind(hook).shared_conn_id
        if connection(conn_id) is None:
            check_absent(conn_id)
            return None
    return _kind(hook)(conn_id=conn_id).get_conn()


def _kind(path: str) -> Any:
    """Return the class at an import path."""
    module, _, kind = path.rpartition(".")
    return getattr(importlib.import_module(module), kind)
