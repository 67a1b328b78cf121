"""Endpoint ``local``: server processes on this machine behind HAProxy, which no change of versions restarts.

Per endpoint ``<root>/<name>/`` holds state.json, the gateway's configuration and log, and a folder per server;
``<root>/images/`` holds the unpacked images of all. Servers and gateway outlive the process that started them.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from modelway.artifacts.whole_files import writing
from modelway.endpoints.base import EndpointSpec, EndpointStatus, Login, PredictorMetrics
from modelway.endpoints.checking import check_spec, check_weights, read_platform
from modelway.endpoints.gateway.haproxy import find_haproxy
from modelway.endpoints.gateway.listening import default_host
from modelway.endpoints.gateway.locking import locked
from modelway.endpoints.gateway.places import check_replicas
from modelway.endpoints.gateway.sketches import sketches_of, sketches_path
from modelway.endpoints.local.member import MEMBER
from modelway.endpoints.local.section import LocalSection
from modelway.endpoints.local.service import Service
from modelway.endpoints.local.state import Life, State, read_state
from modelway.endpoints.local.weights import WeightsInPlace
from modelway.errors import EndpointElsewhere, EndpointNotReady, InvalidSpec, UnknownEndpoint
from modelway.oci.images import unpack_image
from modelway.platforms.processes.hosts import own_host

#: called with ``reference`` and ``into``, returns the root folder of the unpacked image
Unpack = Callable[..., Path]
#: folder of the unpacked images
_IMAGES = "images"


def open_endpoint(
    *,
    root: Path,
    login: Login | None = None,
    unpack: Unpack | None = None,
    ready_timeout: float = 60.0,
) -> "LocalEndpoint":
    """Return the endpoint whose files are in ``root``.

    :param login: for the images of one registry; for those of others, Docker's own settings are used
    :param unpack: unpacks an image; default: without a copy of the weights where they are on this machine
    :param ready_timeout: seconds that new servers may take to load their models
    """
    unpack = unpack or partial(_unpack, login=login)
    return LocalEndpoint(root=root.absolute(), unpack=unpack, ready_timeout=ready_timeout)


def _unpack(*, reference: str, into: Path, login: Login | None) -> Path:
    unpack = partial(unpack_image, reference=reference, into=into, in_place=WeightsInPlace())
    if login is not None and login.opens(reference):
        return unpack(username=login.username, password=login.password)
    return unpack()


@dataclass(frozen=True, kw_only=True)
class LocalEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`."""

    root: Path
    unpack: Unpack
    ready_timeout: float

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Bring the endpoint to the state of ``spec``."""
        check_spec(spec, target=MEMBER)
        check_replicas(spec)
        own = read_platform(spec, LocalSection)
        host = own.host or default_host()
        if spec.name == _IMAGES:
            raise InvalidSpec(f"an endpoint here cannot be called '{_IMAGES}'", do="Choose another name")
        find_haproxy()
        folder = self.root / spec.name
        with locked(self.root, spec.name):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            service = Service.read(folder) or Service(folder, State(name=spec.name))
            _refuse_elsewhere(service.state)
            service.state.host = own_host()
            service.stop_strays()
            service.gateway.refuse_used_port(host=host, port=own.port)
            chosen = service.ensure_servers(spec, unpack=self._unpacked, ready_timeout=self.ready_timeout)
            with service.restored_after_failure():
                service.settle(spec, chosen)
                service.ensure_gateway(host=host, port=own.port)
                service.state.gateway_life, service.state.stopped = Life(), False
                service.write()
                service.ensure_supervisor()
                service.push()
            service.retire()
            return service.status()

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that there are on this host."""
        found = sorted(path.parent for path in self.root.glob("*/state.json"))
        return tuple(folder.name for folder in found if not _is_elsewhere(read_state(folder)))

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was."""
        service = self._service(name)
        if not service.state.wanted:
            raise EndpointNotReady("it never served anything", where=f"endpoint {name}", do="Deploy a version")
        return self.apply(service.status().spec())

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        service = Service.read(self.root / name)
        if service is None:
            return None
        _refuse_elsewhere(service.state)
        return replace(service.status(), drift=self._drift(name, service))

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step."""
        with locked(self.root, name):
            service = self._service(name)
            wanted = service.state.wanted
            check_weights(weights, [*dict.fromkeys(server.name for server in wanted)], where=f"endpoint {name}")
            service.refuse_not_ready(weights)
            with service.restored_after_failure():
                for server in wanted:
                    server.weight = weights.get(server.name, 0)
                service.ensure_gateway(host=service.state.gateway.host, port=None)
                service.write()
                service.ensure_supervisor()
                service.push()
            return service.status()

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor; a restart of the gateway starts them again."""
        return self._service(name).metrics()

    def sketches(self, name: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what the servers of each predictor counted of inputs and outputs."""
        service = self._service(name)
        return sketches_of(service.pages(sketches_path(service.model)))

    def stop(self, name: str) -> None:
        """Stop everything of the endpoint but retain its state."""
        folder = self.root / name
        if not folder.exists():
            return
        with locked(self.root, name):
            service = Service.read(folder)
            if service is not None:
                _refuse_elsewhere(service.state)
            (service or Service(folder, State(name=name))).stop()
            if service is not None:
                service.state.stopped = True
                service.write()

    def delete(self, name: str) -> None:
        """Stop everything of the endpoint and remove its state; unpacked images stay for the next one."""
        folder = self.root / name
        if not folder.exists():
            return
        with locked(self.root, name):
            service = Service.read(folder) or Service(folder, State(name=name))
            _refuse_elsewhere(service.state)
            service.stop()
            with writing(folder):
                shutil.rmtree(folder)

    def _service(self, name: str) -> Service:
        """Return the endpoint of that name.

        :raises UnknownEndpoint: there is none
        """
        service = Service.read(self.root / name)
        if service is None:
            raise UnknownEndpoint(
                f"there is no endpoint '{name}'", where=str(self.root), known=self.names(), given=name
            )
        _refuse_elsewhere(service.state)
        return service

    def _drift(self, name: str, service: Service) -> tuple[str, ...]:
        """Return what was changed by hand: what differs while no change is in progress."""
        try:
            if not service.drift():
                return ()
            with locked(self.root, name, patience=0):
                current = Service.read(self.root / name)
                return current.drift() if current is not None else ()
        except EndpointNotReady:
            return ()

    def _unpacked(self, reference: str) -> Path:
        return self.unpack(reference=reference, into=self.root / _IMAGES)


def _is_elsewhere(state: State | None) -> bool:
    """Return whether an endpoint is another host's, of those that share this home; one that is stopped is nobody's."""
    own = own_host()
    return state is not None and bool(own and state.host) and state.host != own and not state.stopped


def _refuse_elsewhere(state: State) -> None:
    """Refuse an endpoint whose processes this host cannot see.

    :raises EndpointElsewhere: with its host
    """
    if _is_elsewhere(state):
        raise EndpointElsewhere.of(state.name, host=state.host, own=own_host())
