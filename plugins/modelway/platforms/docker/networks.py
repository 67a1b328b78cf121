"""Networks of an engine whose containers have fixed addresses, which stay theirs when the engine restarts."""

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence

from modelway.errors import SubmitFailed
from modelway.failures import FailureKind
from modelway.platforms.docker.engine import Engine, Object, translate_errors

_ATTEMPTS = 5


def find_network(engine: Engine, labels: Mapping[str, str]) -> Object | None:
    """Return the network with these labels, None when there is none."""
    with translate_errors():
        found = engine.api.networks(filters={"label": [f"{key}={value}" for key, value in labels.items()]})
        return engine.api.inspect_network(found[0]["Id"]) if found else None


def ensure_network(engine: Engine, name: str, labels: Mapping[str, str]) -> Object:
    """Return the network with these labels, made now where there is none.

    :raises SubmitFailed: the engine refused it, or has no addresses left
    """
    known = find_network(engine, labels)
    if known is not None:
        return known
    for _ in range(_ATTEMPTS):
        # Only in a network whose subnet was named a container may choose its address: the engine's own choice is named.
        subnet = _free_subnet(engine, name, labels)
        try:
            _create(engine, name, labels, subnet)
        except SubmitFailed as error:
            if "overlaps" not in error.what and "already exists" not in error.what:
                raise
            continue
        found = find_network(engine, labels)
        if found is not None:
            return found
    raise SubmitFailed(
        f"the engine has no range of addresses for the network {name}",
        kind=FailureKind.REFUSED,
        do="Remove networks that are not used (docker network prune), or give the engine more default-address-pools",
    )


def _free_subnet(engine: Engine, name: str, labels: Mapping[str, str]) -> str:
    with translate_errors():
        # Without the labels: a crash now leaves a network that nobody takes for the right one.
        made = engine.api.create_network(_probe(name), driver="bridge", labels={})["Id"]
        try:
            return str(engine.api.inspect_network(made)["IPAM"]["Config"][0]["Subnet"])
        finally:
            engine.api.remove_network(made)


def _probe(name: str) -> str:
    """Return the name of the network that is there for a moment only."""
    return f"{name}-address"


def _create(engine: Engine, name: str, labels: Mapping[str, str], subnet: str) -> None:
    from docker.types import IPAMConfig, IPAMPool

    with translate_errors():
        engine.api.create_network(
            name,
            driver="bridge",
            labels=dict(labels),
            check_duplicate=True,
            ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
        )


def networks(engine: Engine, name: str, labels: Mapping[str, str]) -> list[str]:
    """Return the ids of the networks with these labels, and of those that a killed :func:`ensure_network` left."""
    with translate_errors():
        own = engine.api.networks(filters={"label": [f"{key}={value}" for key, value in labels.items()]})
        # The engine finds names that begin so.
        left = [one for one in engine.api.networks(names=[_probe(name)]) if one["Name"] == _probe(name)]
        return [one["Id"] for one in (*own, *left)]


def remove_networks(engine: Engine, name: str, labels: Mapping[str, str]) -> None:
    """Remove them; one that is gone is gone."""
    import docker.errors

    for found in networks(engine, name, labels):
        with translate_errors(), contextlib.suppress(docker.errors.NotFound):
            engine.api.remove_network(found)


def free_address(network: Object, used: Sequence[str]) -> str:
    """Return an address of a network that is not in ``used``.

    :raises SubmitFailed: there is none
    """
    config = network["IPAM"]["Config"][0]
    subnet = ipaddress.ip_network(config["Subnet"])
    # The first one is the engine's own.
    own = {config.get("Gateway") or str(subnet.network_address + 1), str(subnet.network_address + 1)}
    for address in subnet.hosts():
        if str(address) not in own and str(address) not in used:
            return str(address)
    raise SubmitFailed(
        f"the network {network['Name']} has no address left",
        kind=FailureKind.REFUSED,
        do="Let the endpoint have fewer servers, or give the engine larger default-address-pools",
    )
