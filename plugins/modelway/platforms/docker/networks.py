"""Networks of an engine whose containers have fixed addresses, which stay theirs when the engine restarts."""

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
        made = engine.api.create_network(f"{name}-address", driver="bridge", labels={})["Id"]
        try:
            return str(engine.api.inspect_network(made)["IPAM"]["Config"][0]["Subnet"])
        finally:
            engine.api.remove_network(made)


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


def remove_network(engine: Engine, labels: Mapping[str, str]) -> None:
    """Remove the networks with these labels; one that is gone is gone."""
    import docker.errors

    while (found := find_network(engine, labels)) is not None:
        with translate_errors():
            try:
                engine.api.remove_network(found["Id"])
            except docker.errors.NotFound:
                continue


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
