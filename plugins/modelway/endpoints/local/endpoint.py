"""Endpoint ``local``: server processes on this machine behind HAProxy, which no change of versions restarts.

Per endpoint ``<root>/<name>/`` holds state.json, the gateway's configuration and log, and a folder per server;
``<root>/images/`` holds the unpacked images of all. Servers and gateway outlive the process that started them.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from modelway.artifacts.whole_files import writing
from modelway.endpoints.base import (
    MAX_PREDICTORS,
    EndpointSpec,
    EndpointStatus,
    Predictor,
    PredictorMetrics,
    PredictorStatus,
    check_spec,
    check_weights,
)
from modelway.endpoints.gateway import process as _gateway
from modelway.endpoints.gateway.haproxy import find_haproxy
from modelway.endpoints.local import servers as _servers
from modelway.endpoints.local import supervisor as _supervisor
from modelway.endpoints.local.state import Life, ServerState, State, locked, read_state, write_state
from modelway.errors import EndpointNotReady, InvalidSpec, UnknownEndpoint
from modelway.oci.images import unpack_image

#: called with ``reference`` and ``into``, returns the root folder of the unpacked image
Unpack = Callable[..., Path]
#: folder of the unpacked images
_IMAGES = "images"
#: seconds that a server which runs may take to say that it is ready, before it counts as stuck
_STUCK = 5.0


def open_endpoint(
    *,
    root: Path,
    username: str | None = None,
    password: str | None = None,
    unpack: Unpack = unpack_image,
    ready_timeout: float = 60.0,
) -> "LocalEndpoint":
    """Return the endpoint that keeps its files in ``root``.

    :param username: login of the registry that images are pulled from
    :param password: and its password
    :param ready_timeout: seconds that new servers may take to load their models
    """
    if username or password:
        unpack = partial(unpack, username=username, password=password)
    return LocalEndpoint(root=root.absolute(), unpack=unpack, ready_timeout=ready_timeout)


@dataclass(frozen=True, kw_only=True)
class LocalEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`."""

    root: Path
    unpack: Unpack
    ready_timeout: float

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Make the endpoint what ``spec`` says."""
        check_spec(spec)
        if spec.name == _IMAGES:
            raise InvalidSpec(f"an endpoint here cannot be called '{_IMAGES}'", do="Choose another name")
        find_haproxy()
        folder = self.root / spec.name
        with locked(self.root, spec.name):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            state = read_state(folder) or State(name=spec.name)
            _stop_strays(folder, state)
            _gateway.refuse_taken_port(folder, state, host=spec.host, port=spec.port)
            chosen = self._ensure_servers(folder, state, spec)
            _settle(state, spec, chosen)
            _gateway.ensure(folder, state, host=spec.host, port=spec.port)
            state.gateway_life, state.stopped = Life(), False
            write_state(folder, state)
            _supervisor.ensure(folder, state)
            _gateway.push(folder, state)
            _retire(folder, state)
            return _status(folder, state)

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that there are."""
        return tuple(sorted(path.parent.name for path in self.root.glob("*/state.json")))

    def start(self, name: str) -> EndpointStatus:
        """Bring an endpoint back as it was."""
        state = self._state(name)
        if not state.wanted:
            raise EndpointNotReady("it never served anything", where=f"endpoint {name}", do="Deploy a version")
        one = state.wanted[0]
        spec = EndpointSpec(
            name=name,
            model=one.model,
            predictors=tuple(
                Predictor(version=each.version, image=each.image, weight=each.weight) for each in state.wanted
            ),
            stable=state.stable,
            host=state.host,
            port=state.port if state.port_named else None,
            model_path=one.model_path,
        )
        return self.apply(spec)

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        folder = self.root / name
        state = read_state(folder)
        return None if state is None else _status(folder, state)

    def set_weights(self, name: str, weights: Mapping[int, int]) -> EndpointStatus:
        """Change the split in one step."""
        folder = self.root / name
        with locked(self.root, name):
            state = self._state(name)
            check_weights(weights, [server.version for server in state.wanted], where=f"endpoint {name}")
            for server in state.wanted:
                server.weight = weights.get(server.version, 0)
                if server.weight and not _servers.is_ready(folder, server, patience=_STUCK):
                    raise EndpointNotReady(
                        f"version {server.version} is not ready", where=f"endpoint {name}", do="Apply the endpoint"
                    )
            _gateway.ensure(folder, state, host=state.host, port=None)
            write_state(folder, state)
            _supervisor.ensure(folder, state)
            _gateway.push(folder, state)
            return _status(folder, state)

    def metrics(self, name: str) -> Mapping[int, PredictorMetrics]:
        """Return the counts by version; a restart of the gateway starts them again."""
        folder = self.root / name
        state = self._state(name)
        result = {}
        for server in state.wanted:
            counts = _gateway.slot_counters(folder, server.slot)
            own = {key: max(0, value - server.baseline.get(key, 0)) for key, value in counts.items()}
            result[server.version] = PredictorMetrics(**own, since=server.since)
        return result

    def stop(self, name: str) -> None:
        """Stop everything of the endpoint but remember it."""
        folder = self.root / name
        if not folder.exists():
            return
        with locked(self.root, name):
            state = read_state(folder)
            _stop_all(folder, state or State(name=name))
            if state is not None:
                state.stopped = True
                write_state(folder, state)

    def delete(self, name: str) -> None:
        """Stop everything of the endpoint and forget it; unpacked images stay for the next one."""
        folder = self.root / name
        if not folder.exists():
            return
        with locked(self.root, name):
            _stop_all(folder, read_state(folder) or State(name=name))
            with writing(folder):
                shutil.rmtree(folder)

    def _state(self, name: str) -> State:
        state = read_state(self.root / name)
        if state is None:
            raise UnknownEndpoint(
                f"there is no endpoint '{name}'", where=str(self.root), known=self.names(), given=name
            )
        return state

    def _ensure_servers(self, folder: Path, state: State, spec: EndpointSpec) -> dict[int, ServerState]:
        """Have a ready server for every predictor; when one fails, those that were new are stopped again."""
        chosen = {predictor.version: _find(state, spec, predictor) for predictor in spec.predictors}
        fresh = [server for server in chosen.values() if server not in state.servers]
        for server in fresh:
            server.slot = state.free_slot()
            state.servers.append(server)
        try:
            waiting = [server for server in chosen.values() if not _keeps(folder, server)]
            for server in waiting:
                server.image_root = str(self.unpack(reference=server.image, into=self.root / _IMAGES))
                server.life = Life()
                _servers.start(folder, server)
                write_state(folder, state)
            until = time.monotonic() + self.ready_timeout
            for server in waiting:
                _servers.wait_ready(folder, server, until=until)
        except BaseException:
            for server in chosen.values() if state.stopped else fresh:
                _servers.stop(folder, server, patience=5)
            for server in fresh:
                state.servers.remove(server)
            write_state(folder, state)
            raise
        self._start_counting(folder, state, fresh)
        return chosen

    def _start_counting(self, folder: Path, state: State, fresh: list[ServerState]) -> None:
        running = _gateway.is_running(folder, state)
        for server in fresh:
            server.baseline = _gateway.slot_counters(folder, server.slot) if running else {}
            server.since = time.time()
        write_state(folder, state)


def _find(state: State, spec: EndpointSpec, predictor: Predictor) -> ServerState:
    """Return the server that runs this version from this very image, or a new one."""
    new = ServerState(predictor.version, predictor.image, spec.model, spec.model_path, slot=-1, wanted=False)
    same = ("version", "image", "model", "model_path")
    for server in state.servers:
        if all(getattr(server, name) == getattr(new, name) for name in same):
            return server
    return new


def _keeps(folder: Path, server: ServerState) -> bool:
    """Return whether the server runs and is ready; one that is stuck is ended."""
    end = time.monotonic() + _STUCK
    while _servers.is_running(folder, server):
        if _servers.is_ready(folder, server):
            return True
        if time.monotonic() > end:
            _servers.stop(folder, server, patience=1)
        time.sleep(0.05)
    return False


def _settle(state: State, spec: EndpointSpec, chosen: Mapping[int, ServerState]) -> None:
    """Note what the spec wants; servers of no predictor are on their way out."""
    weights = {predictor.version: predictor.weight for predictor in spec.predictors}
    for server in state.servers:
        server.wanted = chosen.get(server.version) is server
        server.weight = weights[server.version] if server.wanted else 0
    state.stable, state.port_named = spec.stable, spec.port is not None


def _retire(folder: Path, state: State) -> None:
    """Stop the servers that are on their way out, once they have answered what they have."""
    leaving = [server for server in state.servers if not server.wanted]
    for server in leaving:
        _gateway.wait_empty(folder, server.slot, patience=30)
        _servers.stop(folder, server)
        shutil.rmtree(_servers.server_folder(folder, server), ignore_errors=True)
        state.servers.remove(server)
        _gateway.push(folder, state)
        write_state(folder, state)


def _stop_all(folder: Path, state: State) -> None:
    """Stop the gateway, then the servers, so that no request finds a server gone."""
    _supervisor.stop(folder, state)
    _gateway.stop(folder, state)
    for server in state.servers:
        _servers.stop(folder, server)
    _stop_strays(folder, state)


def _stop_strays(folder: Path, state: State) -> None:
    known = {state.gateway_pid: _gateway.marker(folder), state.supervisor_pid: _supervisor.marker(folder)}
    others = {pid: marker for pid, marker in known.items() if pid is not None}
    _servers.stop_strays(folder, state.servers, others=others)


def _status(folder: Path, state: State) -> EndpointStatus:
    predictors = tuple(
        PredictorStatus(
            version=server.version,
            image=server.image,
            weight=server.weight,
            ready=ready,
            url=server.url,
            restarts=server.life.restarts,
            problem="" if ready else server.life.problem,
        )
        for server, ready in _answers(folder, state)
    )
    gateway = not state.stopped and _gateway.is_running(folder, state)
    return EndpointStatus(
        name=state.name,
        model=state.wanted[0].model if state.wanted else state.name,
        url=state.url,
        predictors=predictors,
        stable=state.stable,
        ready=gateway and all(one.ready for one in predictors if one.weight),
        gateway_ready=gateway,
        stopped=state.stopped,
        problem="" if gateway else state.gateway_life.problem,
    )


def _answers(folder: Path, state: State) -> list[tuple[ServerState, bool]]:
    """Return whether each server is ready: all queried at once, so that several stuck ones take no longer than one."""
    if state.stopped:
        return [(server, False) for server in state.wanted]
    with ThreadPoolExecutor(MAX_PREDICTORS) as asking:
        answers = asking.map(partial(_servers.is_ready, folder, patience=_STUCK), state.wanted)
        return list(zip(state.wanted, answers, strict=True))
