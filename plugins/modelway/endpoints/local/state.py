"""The state of the local endpoint: one ``state.json`` per endpoint, and a lock around each change."""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelway.artifacts.whole_files import replace_file, writing
from modelway.endpoints.base import Sticky, predictor_name
from modelway.endpoints.gateway.process import Listener
from modelway.endpoints.gateway.routes import MAX_REPLICAS, SLOTS, Route, Routes
from modelway.errors import DigestMismatch, EndpointNotReady


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


@dataclass(eq=False)
class ServerState:
    """One server process, or one that should run."""

    #: name of its predictor
    name: str
    version: int
    image: str
    #: name of the model in the URLs
    model: str
    model_path: str
    #: backend of the gateway that it is in
    slot: int
    #: which of the servers in that backend it is
    replica: int = 0
    #: the model whose version it is, where that is not the endpoint's
    other_model: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    batching: dict[str, Any] = field(default_factory=dict)
    weight: int = 0
    pid: int | None = None
    port: int | None = None
    #: False while it is being retired
    wanted: bool = True
    #: the gateway's counters of the slot when it moved in
    baseline: dict[str, int] = field(default_factory=dict)
    since: float = 0.0
    #: root folder of the unpacked image
    image_root: str = ""
    life: Life = field(default_factory=Life)

    @property
    def url(self) -> str:
        """Where this server alone answers."""
        return f"http://127.0.0.1:{self.port}" if self.port else ""


@dataclass(eq=False)
class State:
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
    #: whether somebody stopped the endpoint
    stopped: bool = False
    servers: list[ServerState] = field(default_factory=list)

    @property
    def wanted(self) -> list[ServerState]:
        """Servers that are to stay, in the order of the spec's predictors."""
        return [server for server in self.servers if server.wanted]

    @property
    def by_slot(self) -> dict[int, list[ServerState]]:
        """The servers of each slot, those being retired included."""
        found: dict[int, list[ServerState]] = {}
        for server in self.servers:
            found.setdefault(server.slot, []).append(server)
        return found

    @property
    def routes(self) -> Routes:
        """The routes of the gateway."""
        routes = tuple(_route(servers) for servers in self.by_slot.values())
        return Routes(all=routes, stable_name=self.stable, sticky=self.sticky)

    def free_slot(self) -> int:
        """Return a backend that no server is in.

        :raises EndpointNotReady: when interrupted changes have left servers in all of them
        """
        used = self.by_slot
        for slot in range(SLOTS):
            if slot not in used:
                return slot
        raise EndpointNotReady(
            f"all {SLOTS} places for predictors are in use",
            where=f"endpoint {self.name}",
            do="Apply it once as it was before, so that old versions end",
        )

    def free_replica(self, slot: int) -> int:
        """Return a place of a backend that no server is in.

        :raises EndpointNotReady: when interrupted changes have left servers in all of them
        """
        used = {server.replica for server in self.servers if server.slot == slot}
        for replica in range(MAX_REPLICAS):
            if replica not in used:
                return replica
        raise EndpointNotReady(
            f"all {MAX_REPLICAS} places for servers of a predictor are in use",
            where=f"endpoint {self.name}",
            do="Apply it once as it was before, so that old servers end",
        )


def _route(servers: list[ServerState]) -> Route:
    """Return the route to the servers of one slot; those that are being retired alone get no new requests."""
    first = next((server for server in servers if server.wanted), servers[0])
    used = {each.replica: each.port for each in servers if each.wanted == first.wanted and each.port is not None}
    ports = (used.get(replica) for replica in range(max(used, default=-1) + 1))
    return Route(
        name=first.name,
        version=first.version,
        model=first.other_model,
        slot=first.slot,
        addresses=tuple(None if port is None else f"127.0.0.1:{port}" for port in ports),
        weight=first.weight,
        wanted=first.wanted,
    )


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


@contextlib.contextmanager
def locked(root: Path, name: str, *, patience: float = 600) -> Iterator[None]:
    """Lock the endpoint; the lock ends with the process that holds it.

    :raises NotWritable: when the lock's folder cannot be written
    :raises EndpointNotReady: when another change holds it for more than ``patience`` seconds
    """
    path = root / ".locks" / f"{name}.lock"
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise EndpointNotReady("another change of it is not done yet", where=f"endpoint {name}") from None
                time.sleep(0.05)
        yield
