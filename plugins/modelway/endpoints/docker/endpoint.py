"""Endpoint ``docker``: servers in containers behind HAProxy in a container, on an engine here or elsewhere.

See docs/endpoints.md. Everything of an endpoint is on its engine: a network, a volume with the state and the gateway's
configuration, and containers that the engine restarts. No file of this machine is needed but the token of the
deployment, which keeps two Airflows apart, and a lock among this machine's processes.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from modelway.endpoints.base import EndpointSpec, EndpointStatus, Login, PredictorMetrics
from modelway.endpoints.checking import check_spec, check_weights, read_platform
from modelway.endpoints.docker.addresses import reachable_at
from modelway.endpoints.docker.containers import DEPLOYMENT, ENDPOINT, PART, Key
from modelway.endpoints.docker.gateway import Changed
from modelway.endpoints.docker.member import MEMBER
from modelway.endpoints.docker.section import DockerTargetSection
from modelway.endpoints.docker.service import Service
from modelway.endpoints.gateway.commands import plan_commands
from modelway.endpoints.gateway.haproxy import plan
from modelway.endpoints.gateway.locking import locked
from modelway.endpoints.gateway.places import check_replicas
from modelway.endpoints.gateway.sketches import sketches_of, sketches_path
from modelway.errors import CapabilityMissing, EndpointNotReady, SubmitFailed, UnknownEndpoint
from modelway.platforms.deployment import deployment, known_deployment
from modelway.platforms.docker.engine import Engine
from modelway.platforms.docker.networks import networks

#: how often a change is made anew when another process was faster
_ATTEMPTS = 3
_NVIDIA = "nvidia.com/gpu"
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class DockerEndpoint:
    """See :class:`modelway.endpoints.base.Endpoint`."""

    root: Path
    engine: Engine
    login: Login | None
    ready_timeout: float

    def apply(self, spec: EndpointSpec) -> EndpointStatus:
        """Bring the endpoint to the state of ``spec``."""
        check_spec(spec, target=MEMBER)
        check_replicas(spec)
        section = read_platform(spec, DockerTargetSection)

        def change(service: Service) -> EndpointStatus:
            self._refuse_resources(spec)
            service.apply(spec, section=section, login=self.login, ready_timeout=self.ready_timeout)
            return self._status(service)

        return self._change(spec.name, change)

    def names(self) -> tuple[str, ...]:
        """Return the names of the endpoints that there are."""
        own = known_deployment(self.root.parent)
        if own is None:
            return ()
        with _translated():
            volumes = self.engine.volumes({DEPLOYMENT: own, PART: "gateway"})
            return tuple(sorted(volume["Labels"][ENDPOINT] for volume in volumes))

    def start(self, name: str) -> EndpointStatus:
        """Restart an endpoint as it was."""
        status = self.status(name)
        if status is None:
            raise self._unknown(name)
        if not status.predictors:
            raise EndpointNotReady("it never served anything", where=f"endpoint {name}", do="Deploy a version")
        return self.apply(status.spec())

    def status(self, name: str) -> EndpointStatus | None:
        """Return the endpoint as it is."""
        service = self._find(name)
        if service is None:
            return None
        with _translated():
            return self._status(service)

    def set_weights(self, name: str, weights: Mapping[str, int]) -> EndpointStatus:
        """Change the split in one step."""

        def change(service: Service) -> EndpointStatus:
            wanted = service.state.wanted
            check_weights(weights, [*dict.fromkeys(server.name for server in wanted)], where=f"endpoint {name}")
            if service.state.stopped:
                raise EndpointNotReady("it is stopped", where=f"endpoint {name}", do="Start it, or apply it")
            if not service.gateway.runs:
                service.ensure_gateway(service.section)
            service.refuse_not_ready(weights)
            with service.restored_after_failure():
                for server in wanted:
                    server.weight = weights.get(server.name, 0)
                service.write(plan_commands(plan(service.state.routes)))
            return self._status(service)

        return self._change(name, change, known=True)

    def metrics(self, name: str) -> Mapping[str, PredictorMetrics]:
        """Return the counts by predictor; a restart of the gateway starts them again."""
        service = self._find(name)
        if service is None:
            raise self._unknown(name)
        with _translated():
            return service.metrics()

    def sketches(self, name: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what the servers of each predictor counted of inputs and outputs."""
        service = self._find(name)
        if service is None:
            raise self._unknown(name)
        with _translated():
            return sketches_of(service.pages(sketches_path(service.state.model or service.state.name)))

    def stop(self, name: str) -> None:
        """Stop everything of the endpoint but retain its state."""
        if self._find(name) is not None:
            self._change(name, lambda service: service.stop())

    def delete(self, name: str) -> None:
        """Remove everything of the endpoint; images stay on the engine."""
        own = known_deployment(self.root.parent)
        if own is None:
            return
        with _translated():
            key = Key(deployment=own, endpoint=name)
            labels = key.labels()
            if not (
                self.engine.containers(labels) or self.engine.volumes(labels) or networks(self.engine, key.name, labels)
            ):
                return
            with locked(self.root, name):
                Service(self.engine, key).delete()

    def _change(self, name: str, change: Callable[[Service], R], *, known: bool = False) -> R:
        """Change an endpoint, anew when another process was faster.

        :param known: whether it must be there
        """
        with locked(self.root, name):
            key = Key(deployment=deployment(self.root.parent), endpoint=name)
            for left in range(_ATTEMPTS, 0, -1):
                with _translated():
                    service = Service.read(self.engine, key)
                    if known and not service.exists:
                        raise self._unknown(name)
                    try:
                        return change(service)
                    except Changed:
                        if left == 1:
                            raise
            raise AssertionError("the last attempt returns or raises")

    def _find(self, name: str) -> Service | None:
        own = known_deployment(self.root.parent)
        if own is None:
            return None
        with _translated():
            service = Service.read(self.engine, Key(deployment=own, endpoint=name))
            return service if service.exists else None

    def _status(self, service: Service) -> EndpointStatus:
        own = service.section.address
        return service.status(address=reachable_at(self.engine, published=service.state.host, address=own))

    def _refuse_resources(self, spec: EndpointSpec) -> None:
        """Refuse what the engine's machine does not have.

        :raises CapabilityMissing: with the predictor
        """
        info = self.engine.info
        for predictor in spec.predictors:
            own = predictor.resources
            cpu, gpu, where = own.get("cpu"), own.get("gpu"), f"endpoint {spec.name}, predictor {predictor.name}"
            if cpu and cpu > info["NCPU"]:
                raise CapabilityMissing(
                    f"{cpu:g} CPU cores requested, the engine's machine has {info['NCPU']}",
                    where=where,
                    do=f"Set resources.cpu to at most {info['NCPU']}",
                )
            if gpu and own.get("gpu_type") not in (None, _NVIDIA):
                raise CapabilityMissing(
                    f"{own['gpu_type']} requested, the target 'docker' knows {_NVIDIA} only",
                    where=where,
                    do=f"Set resources.gpu_type to {_NVIDIA}",
                )
            if gpu and "nvidia" not in info["Runtimes"]:
                raise CapabilityMissing(
                    f"{gpu} GPU requested, the engine has none: it has no runtime nvidia",
                    where=where,
                    do="Install the NVIDIA container toolkit on the engine's machine, or leave resources.gpu out",
                )

    def _unknown(self, name: str) -> UnknownEndpoint:
        return UnknownEndpoint(f"there is no endpoint '{name}'", where="Docker engine", known=self.names(), given=name)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Translate a refusal or silence of the engine.

    :raises EndpointNotReady: in its place
    """
    try:
        yield
    except SubmitFailed as error:
        raise EndpointNotReady(error.what, where="Docker engine", do=error.do) from error
