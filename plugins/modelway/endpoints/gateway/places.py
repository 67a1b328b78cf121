"""The servers of an endpoint and their places in its gateway: the slot of each predictor, and the replicas in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

from modelway.endpoints.base import EndpointSpec, Predictor, PredictorStatus, Sticky
from modelway.endpoints.gateway.routes import MAX_REPLICAS, SLOTS, Route, Routes
from modelway.errors import EndpointNotReady, InvalidSpec

#: what servers of a predictor that are interchangeable have in common
_ALIKE = ("name", "version", "image", "model", "model_path", "other_model", "resources", "batching")


@dataclass(eq=False, kw_only=True)
class PlacedServer:
    """One server behind a gateway, or one that should run."""

    #: name of its predictor
    name: str
    version: int
    image: str
    #: name of the model in the URLs
    model: str
    model_path: str
    #: backend of the gateway that it is in
    slot: int = -1
    #: which of the servers in that backend it is
    replica: int = 0
    #: the model whose version it is, where that is not the endpoint's
    other_model: str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    batching: dict[str, Any] = field(default_factory=dict)
    weight: int = 0
    #: False while it is new, and while it is being retired
    wanted: bool = False

    @property
    def address(self) -> str | None:
        """``host:port`` by which the gateway reaches it; None: it gets no requests."""
        raise NotImplementedError

    def is_alike(self, other: "PlacedServer") -> bool:
        """Return whether two servers are interchangeable."""
        return all(getattr(self, name) == getattr(other, name) for name in _ALIKE)

    def beside(self, *, slot: int, replica: int) -> Self:
        """Return a new server like this one in that place."""
        raise NotImplementedError


S = TypeVar("S", bound=PlacedServer)


class Places(Generic[S]):
    """The servers of one endpoint; a member's state of an endpoint has these and what else it must know."""

    name: str
    #: name of a predictor
    stable: str | None
    sticky: Sticky
    servers: list[S]

    @property
    def wanted(self) -> list[S]:
        """Servers that are to stay, in the order of the spec's predictors."""
        return [server for server in self.servers if server.wanted]

    @property
    def by_slot(self) -> dict[int, list[S]]:
        """The servers of each slot, those being retired included."""
        found: dict[int, list[S]] = {}
        for server in self.servers:
            found.setdefault(server.slot, []).append(server)
        return found

    @property
    def routes(self) -> Routes:
        """The routes of the gateway."""
        routes = tuple(_route(servers) for servers in self.by_slot.values())
        return Routes(all=routes, stable_name=self.stable, sticky=self.sticky)

    def choose(self, new: S, *, replicas: int) -> list[S]:
        """Return the servers of a predictor: those that are as ``new`` says, in one slot, and added ones.

        :raises EndpointNotReady: when interrupted changes have left servers in all places
        """
        same = [server for server in self.servers if server.is_alike(new)]
        # where an interrupted change left two slots, the one with requests stays
        slot = max(same, key=lambda server: server.wanted).slot if same else self._free_slot()
        servers = [server for server in same if server.slot == slot][:replicas]
        while len(servers) < replicas:
            servers.append(new.beside(slot=slot, replica=self._free_replica(slot)))
            self.servers.append(servers[-1])
        return servers

    def settle(self, spec: EndpointSpec, chosen: dict[str, list[S]]) -> None:
        """Record what the spec wants; servers of no predictor are being retired from now on."""
        weights = {predictor.name: predictor.weight for predictor in spec.predictors}
        wanted = [server for servers in chosen.values() for server in servers]
        for server in self.servers:
            server.wanted = server in wanted
            server.weight = weights[server.name] if server.wanted else 0
        self.servers = [*wanted, *(server for server in self.servers if not server.wanted)]
        self.stable, self.sticky = spec.stable, spec.sticky

    def _free_slot(self) -> int:
        used = self.by_slot
        for slot in range(SLOTS):
            if slot not in used:
                return slot
        raise EndpointNotReady(
            f"all {SLOTS} places for predictors are in use",
            where=f"endpoint {self.name}",
            do="Apply it once as it was before, so that old versions end",
        )

    def _free_replica(self, slot: int) -> int:
        used = {server.replica for server in self.servers if server.slot == slot}
        for replica in range(MAX_REPLICAS):
            if replica not in used:
                return replica
        raise EndpointNotReady(
            f"all {MAX_REPLICAS} places for servers of a predictor are in use",
            where=f"endpoint {self.name}",
            do="Apply it once as it was before, so that old servers end",
        )


def check_replicas(spec: EndpointSpec) -> None:
    """Refuse more servers of a predictor than a slot has places for.

    :raises InvalidSpec: with the predictor
    """
    for predictor in spec.predictors:
        if predictor.replicas > MAX_REPLICAS:
            raise InvalidSpec(
                f"predictor {predictor.name}: {predictor.replicas} replicas, there are {MAX_REPLICAS} at most here",
                where=f"endpoint {spec.name}",
            )


def described(spec: EndpointSpec, predictor: Predictor) -> dict[str, Any]:
    """Return what a server of a predictor is, as the fields of :class:`PlacedServer`."""
    return {
        "name": predictor.name,
        "version": predictor.version,
        "image": predictor.image,
        "model": spec.model,
        "model_path": predictor.model_path,
        "other_model": predictor.model if predictor.model != spec.model else None,
        "resources": dict(predictor.resources),
        "batching": dict(predictor.batching),
    }


def by_predictor(servers: Iterable[tuple[S, bool]]) -> dict[str, list[tuple[S, bool]]]:
    """Return servers, each with whether it is ready, by the names of their predictors."""
    found: dict[str, list[tuple[S, bool]]] = {}
    for server, answers in servers:
        found.setdefault(server.name, []).append((server, answers))
    return found


def refuse_not_ready(
    servers: Iterable[tuple[PlacedServer, bool]], weights: Mapping[str, int], *, endpoint: str
) -> None:
    """Refuse weights of which a predictor that gets requests has no server that is ready.

    :param servers: those that are to stay, each with whether it is ready
    :raises EndpointNotReady: with the predictor
    """
    for name, answers in by_predictor(servers).items():
        if weights.get(name) and not any(is_ready for _, is_ready in answers):
            raise EndpointNotReady(
                f"predictor {name} is not ready", where=f"endpoint {endpoint}", do="Apply the endpoint"
            )


def predictor_status(
    servers: Sequence[tuple[PlacedServer, bool]], *, url: str, restarts: int, problem: str
) -> PredictorStatus:
    """Return the status of a predictor from its servers, each with whether it is ready."""
    first = servers[0][0]
    ready = sum(answers for _, answers in servers)
    return PredictorStatus(
        name=first.name,
        version=first.version,
        model=first.other_model,
        image=first.image,
        model_path=first.model_path,
        weight=first.weight,
        ready=ready > 0,
        url=url,
        replicas=len(servers),
        ready_replicas=ready,
        resources=first.resources,
        batching=first.batching,
        restarts=restarts,
        problem=problem,
    )


def _route(servers: Sequence[PlacedServer]) -> Route:
    """Return the route to the servers of one slot; those that are being retired get no new requests."""
    first = next((server for server in servers if server.wanted), servers[0])
    used = {each.replica: each.address for each in servers if each.wanted == first.wanted and each.address is not None}
    return Route(
        name=first.name,
        version=first.version,
        model=first.other_model,
        slot=first.slot,
        addresses=tuple(used.get(replica) for replica in range(max(used, default=-1) + 1)),
        weight=first.weight,
        wanted=first.wanted,
    )
