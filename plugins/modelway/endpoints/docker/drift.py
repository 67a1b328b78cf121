"""Differences between an endpoint's containers and its state: what somebody changed by hand on the engine."""

from collections.abc import Iterator, Mapping

from modelway.endpoints.docker.containers import Key, changeable
from modelway.endpoints.docker.state import ServerState, State
from modelway.platforms.docker.engine import Object

_WHAT = {"Memory": "memory", "MemorySwap": "memory", "NanoCpus": "CPU", "RestartPolicy": "restart policy"}


def differences(key: Key, state: State, found: Mapping[str, Object]) -> Iterator[str]:
    """Yield a phrase for each difference of the containers of an endpoint that was not stopped.

    :param found: the servers' containers
    """
    expected = {key.server(server): server for server in state.servers}
    for name, server in expected.items():
        yield from _of_server(name, server, found.get(name))
    for name in found:
        if name not in expected:
            yield f"the container {name} is not of any predictor"


def _of_server(name: str, server: ServerState, container: Object | None) -> Iterator[str]:
    if container is None:
        yield f"{server.name}: the container {name} was removed"
        return
    own = container["State"]
    if own.get("Paused"):
        yield f"{server.name}: the container {name} is paused"
    # A container that the engine restarts was not stopped by a person.
    elif own["Status"] == "exited" or own["Status"] == "created":
        yield f"{server.name}: the container {name} was stopped"
    recorded = server.limits
    if recorded:
        changed = {_WHAT[each] for each, value in changeable(container).items() if recorded.get(each) != value}
        for what in sorted(changed):
            yield f"{server.name}: the {what} of the container {name} was changed"
