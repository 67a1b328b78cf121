"""A backend with the client that an Airflow Connection describes; without one the backend finds its own."""

from functools import cache
from pathlib import Path
from typing import Any

from modelway.backends.base import Backend, load_backend
from modelway.hooks.connection import connection

KUBERNETES_CONN_ID = "modelway_kubernetes"
DOCKER_CONN_ID = "modelway_docker"


@cache
def backend_from_airflow(name: str, *, home: Path) -> Backend:
    """Return the backend of that name, one for all of a process: its triggers share what it watches.

    The optional connection ``modelway_kubernetes`` (type ``kubernetes``) is read by the provider's KubernetesHook;
    ``modelway_docker`` gives the engine's address in ``host``, such as ``tcp://engine:2376``.

    :raises CapabilityMissing: there is no such backend
    """
    client = _CLIENTS[name]() if name in _CLIENTS else None
    return load_backend(name, home=home, client=client)


def _kubernetes_client() -> Any:
    if connection(KUBERNETES_CONN_ID) is None:
        return None
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    return KubernetesHook(conn_id=KUBERNETES_CONN_ID).get_conn()


def _docker_client() -> Any:
    # The address alone: the backend connects when it must, and tells of an engine that is away.
    given = connection(DOCKER_CONN_ID)
    return given.host if given else None


_CLIENTS = {"kubernetes": _kubernetes_client, "docker": _docker_client}
