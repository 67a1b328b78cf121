"""The state of the local endpoint: one ``state.json`` per endpoint."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from modelway.artifacts.whole_files import replace_file, writing
from modelway.endpoints.base import Sticky, predictor_name
from modelway.endpoints.gateway.places import PlacedServer, Places
from modelway.endpoints.gateway.process import Listener
from modelway.errors import DigestMismatch


@dataclass(eq=False)
class Life:
    """How often a process ended by itself since somebody last started it."""

    restarts: int = 0
    #: times of its ends in the last minutes, in seconds since the epoch
    ends: list[float] = field(default_factory=list)
    #: description of its last end or start, while it does not run
    problem: str = ""
    #: True: it is not started again
    given_up: bool = False


@dataclass(eq=False, kw_only=True)
class ServerState(PlacedServer):
    """One server process, or one that should run."""

    pid: int | None = None
    port: int | None = None
    #: the gateway's counters of the slot when it moved in
    baseline: dict[str, int] = field(default_factory=dict)
    since: float = 0.0
    #: root folder of the unpacked image
    image_root: str = ""
    life: Life = field(default_factory=Life)

    @property
    def url(self) -> str:
        """Where this server alone answers."""
        return f"http://{self.address}" if self.port else ""

    @property
    def address(self) -> str | None:
        """``host:port``; None while its port is not known."""
        return None if self.port is None else f"127.0.0.1:{self.port}"

    def beside(self, *, slot: int, replica: int) -> "ServerState":
        """Return a new server like this one in that place."""
        return replace(self, slot=slot, replica=replica, life=Life())


@dataclass(eq=False)
class State(Places[ServerState]):
    """One endpoint."""

    name: str
    #: name of a predictor
    stable: str | None = None
    sticky: Sticky = field(default_factory=Sticky)
    #: the section of its spec, as it was written
    platform: Mapping[str, Any] = field(default_factory=dict)
    gateway: Listener = field(default_factory=Listener)
    gateway_life: Life = field(default_factory=Life)
    #: process that restarts what ended by itself
    supervisor_pid: int | None = None
    #: the host whose processes these are; empty where all of the deployment is on one
    host: str = ""
    #: whether somebody stopped the endpoint
    stopped: bool = False
    servers: list[ServerState] = field(default_factory=list)


def read_state(folder: Path) -> State | None:
    """Return the state in ``folder``, None when there is none.

    :raises DigestMismatch: when the file is not what :func:`write_state` wrote
    """
    path = folder / "state.json"
    try:
        document = _current(json.loads(path.read_text()))
        servers = [
            ServerState(**server | {"life": Life(**server.get("life", {}))}) for server in document.pop("servers")
        ]
        life, gateway = Life(**document.pop("gateway_life", {})), Listener(**document.pop("gateway"))
        sticky = Sticky(**document.pop("sticky", {}))
        return State(**document, gateway=gateway, gateway_life=life, sticky=sticky, servers=servers)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DigestMismatch(
            "is not the state of an endpoint", where=str(path), do="Remove the file and apply the endpoint again"
        ) from error


def _current(document: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it is written now.

    Earlier versions wrote versions in place of predictors, and the first ones the gateway's address at the top.
    """
    if isinstance(document.get("stable"), int):
        document["stable"] = predictor_name(document["stable"])
    if any("name" not in server for server in document["servers"]):
        named_servers = [{"name": predictor_name(each["version"]), **each} for each in document["servers"]]
        document["servers"] = sorted(named_servers, key=lambda server: int(server["version"]))
    if "gateway" in document or "host" not in document:
        return document
    host, port, named = document.pop("host"), document.pop("port"), document.pop("port_named")
    gateway = {"host": host, "port": port, "pid": document.pop("gateway_pid")}
    return {**document, "platform": {"host": host, "port": port if named else None}, "gateway": gateway}


def write_state(folder: Path, state: State) -> None:
    """Write the state.

    :raises NotWritable: when the folder cannot be written
    """
    with writing(folder):
        replace_file(path=folder / "state.json", data=json.dumps(asdict(state), indent=1).encode())
