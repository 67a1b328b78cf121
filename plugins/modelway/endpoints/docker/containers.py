"""The containers of an endpoint: names, labels, and the bodies of the engine's requests; pure functions.

Source: the Docker Engine API's reference, ``POST /containers/create``, version 1.41.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelway.endpoints.docker.state import ServerState
from modelway.endpoints.gateway.container import FOLDER, GRACE_SECONDS, PORT, SOCKET, USER

GROUP = "modelway.dev"
ENDPOINT = f"{GROUP}/endpoint"
DEPLOYMENT = f"{GROUP}/deployment"
#: gateway, server, model or state
PART = f"{GROUP}/part"
#: digest of the body by which a container was created
BODY = f"{GROUP}/body"
PREDICTOR = f"{GROUP}/predictor"
#: of the configuration that the gateway reads when it starts
FORM = f"{GROUP}/form"
#: a server drains for 25 seconds at most
SERVER_GRACE_SECONDS = 30
_PIDS = 1024
_LOG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
#: what ``docker update`` can change by hand
CHANGEABLE = ("Memory", "MemorySwap", "NanoCpus", "RestartPolicy")


@dataclass(frozen=True, kw_only=True)
class Key:
    """One endpoint of one deployment of Airflow; an engine may have endpoints of several."""

    deployment: str
    endpoint: str

    @property
    def name(self) -> str:
        """The name of its network, its volume and, with more behind it, of its containers."""
        return f"modelway-{self.endpoint}-{self.deployment[:8]}"

    @property
    def gateway(self) -> str:
        """The name of the gateway's container."""
        return f"{self.name}-gateway"

    def server(self, state: ServerState) -> str:
        """Return the name of a server's container."""
        return f"{self.name}-{state.name}-{state.slot}.{state.replica}"

    def labels(self, part: str | None = None) -> dict[str, str]:
        """Return the labels of what belongs to the endpoint, or of one part of it."""
        own = {ENDPOINT: self.endpoint, DEPLOYMENT: self.deployment}
        return {**own, PART: part} if part else own


@dataclass(frozen=True, kw_only=True)
class Runnable:
    """What a server's container is made of."""

    #: what the engine calls the image that has the server
    image: str
    #: the image itself, whatever is called so later
    image_id: str
    #: volume with the model; None: it is in the image
    volume: str | None = None
    #: whether it is our server, whose options are known
    own: bool = True


def gateway_body(key: Key, *, image: tuple[str, str], host: str, port: int, ip: str, form: str) -> dict[str, Any]:
    """Return the body for the gateway's container.

    :param image: its name and its id
    :param host: address of the engine's machine to publish at
    :param form: of the configuration that HAProxy reads when it starts
    """
    name, image_id = image
    body = {
        "Image": name,
        "StopTimeout": GRACE_SECONDS,
        "Labels": {**key.labels("gateway"), FORM: form},
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "HostConfig": {
            **_confined(),
            "PortBindings": {f"{PORT}/tcp": [{"HostIp": host, "HostPort": str(port)}]},
            "Mounts": [_volume(key.name, FOLDER)],
            "Tmpfs": {str(SOCKET.parent): f"uid={USER},gid={USER},mode=0700,size=1m"},
            "NetworkMode": key.name,
        },
        "NetworkingConfig": _network(key, ip),
    }
    return _signed(body, image_id)


def agent_body(key: Key, *, image: str, command: list[str]) -> dict[str, Any]:
    """Return the body for a container that runs the agent once, where no gateway runs."""
    return {
        "Image": image,
        "Entrypoint": command[:1],
        "Cmd": command[1:],
        "Labels": key.labels("state"),
        "HostConfig": {**_confined(restart="no"), "Mounts": [_volume(key.name, FOLDER)], "NetworkMode": "none"},
    }


def server_body(key: Key, state: ServerState, runnable: Runnable, *, host: str) -> dict[str, Any]:
    """Return the body for a server's container.

    :param host: address of the engine's machine at which it is published, at a port that the engine chooses
    """
    model = [_volume(runnable.volume, state.model_path, read_only=True)] if runnable.volume else []
    body = {
        "Image": runnable.image,
        **({"Cmd": _options(state)} if runnable.own else {}),
        "Env": [f"{name}={value}" for name, value in sorted(_environment(state).items())],
        "StopTimeout": SERVER_GRACE_SECONDS,
        "Labels": {
            **key.labels("server"),
            PREDICTOR: state.name,
            f"{GROUP}/version": str(state.version),
            f"{GROUP}/model": state.other_model or state.model,
            f"{GROUP}/image": state.image,
        },
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "HostConfig": {
            **_confined(),
            **_limits(state.resources),
            "PortBindings": {f"{PORT}/tcp": [{"HostIp": host, "HostPort": ""}]},
            "Mounts": model,
            "Tmpfs": {"/tmp": "mode=1777,size=64m"},
            "NetworkMode": key.name,
        },
        "NetworkingConfig": _network(key, state.ip),
    }
    # Another image by the same name is another server.
    return _signed(body, runnable.image_id)


def changeable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a container is limited to, of a body or of the engine's description."""
    own = body["HostConfig"]
    found = {name: own.get(name) or 0 for name in ("Memory", "MemorySwap", "NanoCpus")}
    return {**found, "RestartPolicy": (own.get("RestartPolicy") or {}).get("Name") or "no"}


def _environment(state: ServerState) -> dict[str, str]:
    return {
        "MODELWAY_MODEL_NAME": state.model,
        "MODELWAY_MODEL_VERSION": str(state.version),
        "MODELWAY_MODEL_DIR": state.model_path,
        "MODELWAY_HOST": "0.0.0.0",
        "PORT": str(PORT),
    }


def _options(state: ServerState) -> list[str]:
    rows, cpu = state.batching.get("rows"), state.resources.get("cpu")
    options = ["--batch-size", str(rows)] if rows else []
    options += ["--model", state.other_model] if state.other_model else []
    return options + (["--threads", str(math.ceil(cpu))] if cpu else [])


def _confined(restart: str = "unless-stopped") -> dict[str, Any]:
    return {
        "RestartPolicy": {"Name": restart},
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": _PIDS,
        "LogConfig": _LOG,
    }


def _limits(resources: Mapping[str, Any]) -> dict[str, Any]:
    found = dict[str, Any]()
    if memory := resources.get("memory_bytes"):
        # Without swap: a server that swaps seems ready and answers nobody in time.
        found |= {"Memory": int(memory), "MemorySwap": int(memory)}
    if cpu := resources.get("cpu"):
        found["NanoCpus"] = round(float(cpu) * 1e9)
    if gpu := resources.get("gpu"):
        found["DeviceRequests"] = [{"Driver": "", "Count": int(gpu), "Capabilities": [["gpu"]]}]
    return found


def _network(key: Key, ip: str) -> dict[str, Any]:
    return {"EndpointsConfig": {key.name: {"IPAMConfig": {"IPv4Address": ip}}}}


def _volume(name: str | None, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "volume", "Source": name, "Target": target, "ReadOnly": read_only}


def _signed(body: dict[str, Any], *more: str) -> dict[str, Any]:
    """Add the digest of the body, by which a container is recognised as made of it."""
    described = json.dumps([body, *more], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:32]
    return {**body, "Labels": {**body["Labels"], BODY: digest}}
