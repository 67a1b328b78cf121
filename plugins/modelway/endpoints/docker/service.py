"""One endpoint on an engine: its state, its network, its servers and its gateway."""

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping, Sequence

from modelway.endpoints.base import EndpointSpec, EndpointStatus, Login, Predictor, PredictorMetrics, PredictorStatus
from modelway.endpoints.docker.addresses import default_host
from modelway.endpoints.docker.containers import BODY, Key, Runnable, changeable, server_body
from modelway.endpoints.docker.drift import differences
from modelway.endpoints.docker.gateway import Changed, DockerGateway, files_of
from modelway.endpoints.docker.images import prepare, remove_unused_models
from modelway.endpoints.docker.section import DockerTargetSection
from modelway.endpoints.docker.servers import Servers, are_ready, ready_url
from modelway.endpoints.docker.state import FILE, ServerState, State, digest, read_state
from modelway.endpoints.gateway.commands import Command, Stats, address_commands, plan_commands, read_map, read_stats
from modelway.endpoints.gateway.container import PORT
from modelway.endpoints.gateway.drift import find_drift
from modelway.endpoints.gateway.haproxy import addresses, plan
from modelway.endpoints.gateway.places import by_predictor, described, predictor_status, refuse_not_ready
from modelway.endpoints.gateway.running import awaited, counted_since, counters
from modelway.endpoints.gateway.server_counts import read_server_counts
from modelway.errors import EndpointNotReady, ModelwayError
from modelway.platforms.docker.engine import Engine
from modelway.platforms.docker.networks import ensure_network, free_address, remove_networks

#: seconds that a retiring server may take to answer its open requests
_EMPTY = 30.0


class Service:
    """One endpoint, with the state as it was read."""

    def __init__(self, engine: Engine, key: Key) -> None:
        """Be the endpoint ``key``, without the state that it may have."""
        self.engine = engine
        self.key = key
        self.gateway = DockerGateway(engine, key)
        self.servers = Servers(engine, key)
        self.state = State(name=key.endpoint)
        self._text: str | None = None

    @classmethod
    def read(cls, engine: Engine, key: Key) -> "Service":
        """Return the endpoint with its state.

        :raises DigestMismatch: it cannot be read
        """
        service = cls(engine, key)
        service._text = service.gateway.read()
        if service._text is not None:
            service.state = read_state(service._text, where=f"endpoint {key.endpoint} on the Docker engine")
        return service

    @property
    def exists(self) -> bool:
        """Whether there is such an endpoint."""
        return self._text is not None

    @property
    def section(self) -> DockerTargetSection:
        """The section of the spec that it serves."""
        return DockerTargetSection.model_validate(dict(self.state.platform), strict=False)

    def write(self, commands: Sequence[Command] = (), *, up: Sequence[Sequence[str]] = ()) -> None:
        """Write the state and the gateway's files as they are now, and send commands with them.

        :param up: servers that it waits for a moment, see ``agent.wait_up``
        :raises Changed: somebody else changed the endpoint since it was read
        :raises EndpointNotReady: HAProxy refused a command or does not answer
        """
        text = self.state.text()
        files = {**files_of(self.state.routes), FILE: text}
        self.gateway.store(files, unless_changed={FILE: digest(self._text)}, commands=commands, up=up)
        self._text = text

    def apply(
        self, spec: EndpointSpec, *, section: DockerTargetSection, login: Login | None, ready_timeout: float
    ) -> None:
        """Bring the endpoint to the state of ``spec``; when a new server fails, all is as before."""
        state, before = self.state, list(self.state.servers)
        try:
            self._remove_strays()
            moved = self._ensure_places(spec, section)
            host = section.host or default_host(self.engine)
            runnables = {each.name: self._prepare(each, login) for each in spec.predictors}
            chosen = {
                each.name: state.choose(self._new(spec, each, runnables[each.name], host), replicas=each.replicas)
                for each in spec.predictors
            }
            fresh = [server for server in state.servers if server not in before]
            self._give_addresses(fresh)
            if fresh or moved:
                self.write()
            self._run(chosen, runnables, host=host, ready_timeout=ready_timeout)
        except Changed:
            raise
        except BaseException:
            self._withdraw([server for server in state.servers if server not in before])
            raise
        with self.restored_after_failure():
            began, stats = self.gateway.began, self._start_counting(fresh)
            state.settle(spec, chosen)
            state.platform, state.model, state.stopped = dict(spec.platform), spec.model, False
            self.ensure_gateway(section)
            self.push(stats if began == self.gateway.began else None)
        self._retire()

    def _ensure_places(self, spec: EndpointSpec, section: DockerTargetSection) -> bool:
        """Make sure that the network, the volume and the gateway are there; see :meth:`_ensure_gateway`."""
        state = self.state
        ensure_network(self.engine, self.key.name, self.key.labels())
        if not self.engine.volumes(self.key.labels("gateway")):
            self.engine.create_volume(self.key.name, self.key.labels("gateway"))
        if not state.servers:
            state.platform, state.sticky, state.model = dict(spec.platform), spec.sticky, spec.model
        return self._ensure_gateway(section)

    def _give_addresses(self, fresh: Sequence[ServerState]) -> None:
        if not fresh:
            return
        network = ensure_network(self.engine, self.key.name, self.key.labels())
        for server in fresh:
            # The first one is the gateway's.
            used = [free_address(network, ()), *(each.ip for each in self.state.servers if each.ip)]
            server.ip = free_address(network, used)

    def ensure_gateway(self, section: DockerTargetSection) -> None:
        """Make sure that the gateway runs, published as the section says.

        :raises PortTaken: the port that was named is used on the engine's machine
        :raises EndpointNotReady: it does not start
        """
        if self._ensure_gateway(section):
            self.write()

    def _ensure_gateway(self, section: DockerTargetSection) -> bool:
        """Do so, and return whether it is published elsewhere than before, which is to be written.

        :raises PortTaken: the port that was named is used on the engine's machine
        :raises EndpointNotReady: it does not start
        """
        state = self.state
        host = section.host or default_host(self.engine)
        network = ensure_network(self.engine, self.key.name, self.key.labels())
        if not self.gateway.has_form(state.routes):
            self.write()
        known = state.port if host == state.host else None
        # The first address of the network's containers is the gateway's.
        ip = free_address(network, ())
        port = self.gateway.ensure(state.routes, host=host, port=section.port, known_port=known, ip=ip)
        moved = (host, port) != (state.host, state.port)
        state.host, state.port = host, port
        return moved

    def push(self, stats: Stats | None = None) -> None:
        """Bring the gateway to the state: its servers first, then, when their checks have passed, all shares at once.

        :param stats: where they are known already
        :raises EndpointNotReady: when a server that is to get requests does not pass its check
        """
        routes = self.state.routes
        if commands := address_commands(stats or self._stats(), addresses(routes)):
            self.write(commands, up=awaited(routes))
            self.gateway.wait_up(routes)
        self.write(plan_commands(plan(routes)))

    @contextlib.contextmanager
    def restored_after_failure(self) -> Iterator[None]:
        """Restore the state and the split when a change of them fails; servers that the split does not need end."""
        before = copy.deepcopy(self.state)
        try:
            yield
        except Changed:
            raise
        except BaseException:
            # What cannot be restored now, since the engine does not answer, shows as drift until the next change.
            with contextlib.suppress(ModelwayError):
                self._restore(before)
            raise

    def _restore(self, before: State) -> None:
        if not before.wanted:
            self.delete()
            return
        # The failed change has replaced the files or not; one of somebody else stays.
        found = self.gateway.read()
        if found == self.state.text():
            self._text = found
        self.state = before
        self.write()
        if before.stopped:
            self.stop()
            return
        self.ensure_gateway(self.section)
        self.push()
        self._retire()

    def refuse_not_ready(self, weights: Mapping[str, int]) -> None:
        """Refuse a split of which a predictor that gets requests is not ready.

        :raises EndpointNotReady: with the predictor
        """
        wanted = self.state.wanted
        answers = zip(wanted, are_ready(wanted, self.gateway), strict=True)
        refuse_not_ready(answers, weights, endpoint=self.state.name)

    def status(self, *, address: str) -> EndpointStatus:
        """Return the endpoint as it is.

        :param address: of the engine's machine, for the URLs
        """
        state, found = self.state, self.servers.found()
        runs, drift = self.gateway.runs and not state.stopped, list[str]()
        ready = [False] * len(state.wanted)
        if runs:
            try:
                urls = [*map(ready_url, state.wanted)]
                answered = self.gateway.query(urls=urls, commands=["show map plan.map", "show stat"])
                ready = [status == 200 for status, _ in answered.pages]
                drift += find_drift(read_stats(answered.answers[1]), read_map(answered.answers[0]), state.routes)
            except EndpointNotReady:
                runs = False
        servers = by_predictor(zip(state.wanted, ready, strict=True))
        predictors = tuple(self._predictor(each, found, address) for each in servers.values())
        return EndpointStatus(
            name=state.name,
            model=state.model or state.name,
            url=f"http://{address}:{state.port}" if state.port else "",
            predictors=predictors,
            stable=state.stable,
            sticky=state.sticky,
            platform=state.platform,
            ready=runs and all(one.ready for one in predictors if one.weight),
            gateway_ready=runs,
            stopped=state.stopped,
            problem="" if runs or state.stopped else "the gateway's container does not run",
            drift=() if state.stopped else (*differences(self.key, state, found), *drift),
        )

    def metrics(self) -> dict[str, PredictorMetrics]:
        """Return the counts by predictor since each moved in, or since the gateway started.

        :raises EndpointNotReady: when the gateway does not answer
        """
        wanted = self.state.wanted
        urls = [f"http://{server.ip}:{PORT}/metrics" for server in wanted]
        answered = self.gateway.query(urls=urls, commands=["show stat", "show info"])
        shown, info = answered.answers
        stats, epoch = read_stats(shown), _epoch(info)
        texts: dict[str, list[str]] = {}
        for server, (_, text) in zip(wanted, answered.pages, strict=True):
            texts.setdefault(server.name, []).append(text)
        result: dict[str, PredictorMetrics] = {}
        for server in wanted:
            if server.name in result:
                continue
            # A gateway that has started since has counted nothing before.
            before, since = (server.baseline, server.since) if server.epoch == epoch else ({}, float(epoch))
            own = counted_since(counters(stats, server.slot), before)
            more = read_server_counts(texts[server.name])
            result[server.name] = more.joined(own, since=since)
        return result

    def pages(self, path: str) -> dict[str, list[str]]:
        """Return what the servers of each predictor answer to a path; "" for one that does not answer.

        :raises EndpointNotReady: when the gateway does not answer
        """
        wanted = self.state.wanted
        answered = self.gateway.query(urls=[f"http://{server.ip}:{PORT}{path}" for server in wanted], commands=[])
        found: dict[str, list[str]] = {}
        for server, (_, text) in zip(wanted, answered.pages, strict=True):
            found.setdefault(server.name, []).append(text)
        return found

    def stop(self) -> None:
        """Stop the gateway, then the servers, so that no request finds a server gone; everything stays."""
        if not self.state.stopped:
            self.state.stopped = True
            self.write()
        self.gateway.stop()
        self.servers.stop_named([*self.servers.found()], remove=False)

    def delete(self) -> None:
        """Remove everything of the endpoint."""
        self.gateway.remove()
        self.servers.stop_named([*self.servers.found()])
        for left in self.engine.containers(self.key.labels()):
            self.engine.remove(left["Id"])
        remove_networks(self.engine, self.key.name, self.key.labels())
        for volume in self.engine.volumes(self.key.labels()):
            self.engine.remove_volume(volume["Name"])

    def _prepare(self, predictor: Predictor, login: Login | None) -> Runnable:
        return prepare(self.engine, predictor.image, model_path=predictor.model_path, login=login, key=self.key)

    def _new(self, spec: EndpointSpec, predictor: Predictor, runnable: Runnable, host: str) -> ServerState:
        """Return a server of a predictor that has no place yet."""
        new = ServerState(**described(spec, predictor))
        new.made_of = server_body(self.key, new, runnable, host=host)["Labels"][BODY]
        return new

    def _run(
        self,
        chosen: Mapping[str, Sequence[ServerState]],
        runnables: Mapping[str, Runnable],
        *,
        host: str,
        ready_timeout: float,
    ) -> None:
        """Run all servers, and wait until they are ready."""
        found = self.servers.found()
        for name, servers in chosen.items():
            for server in servers:
                self.servers.ensure(server, runnables[name], host=host, found=found)
                server.limits = changeable(server_body(self.key, server, runnables[name], host=host))
        everyone = [server for servers in chosen.values() for server in servers]
        self.servers.wait_ready(everyone, self.gateway, until=time.monotonic() + ready_timeout)
        for server in everyone:
            server.started = True

    def _withdraw(self, fresh: Sequence[ServerState]) -> None:
        """Remove new servers after a failure; an endpoint that never served is removed whole."""
        self.servers.discard(fresh)
        for server in fresh:
            self.state.servers.remove(server)
        if not self.state.servers:
            self.delete()
        elif self.state.stopped:
            self.stop()
        elif fresh:
            self.write()

    def _remove_strays(self) -> None:
        """Remove containers that the state does not know, as after a crash, or that somebody else made."""
        known = {self.key.server(server) for server in self.state.servers}
        self.servers.stop_named([name for name in self.servers.found() if name not in known])
        for left in self.engine.containers(self.key.labels("state")):
            self.engine.remove(left["Id"])

    def _retire(self) -> None:
        """Stop the servers that are being retired, once they have answered their open requests."""
        retiring = [server for server in self.state.servers if not server.wanted]
        if not retiring:
            return
        for server in retiring:
            self.gateway.wait_empty(server.slot, server.replica, patience=_EMPTY)
        self.servers.stop(retiring)
        self.state.servers = self.state.wanted
        self.write(address_commands(self._stats(), addresses(self.state.routes)))
        remove_unused_models(self.engine, self.key)

    def _start_counting(self, fresh: Sequence[ServerState]) -> Stats | None:
        """Note what the gateway has counted before servers move in, and return its counters, None where none do."""
        if not fresh:
            return None
        shown, info = self.gateway.runtime.run([("show stat", None), ("show info", None)])
        stats, epoch = read_stats(shown), _epoch(info)
        for server in fresh:
            before = next((one for one in self.state.by_slot[server.slot] if one not in fresh), None)
            if before is not None:
                server.baseline, server.since, server.epoch = before.baseline, before.since, before.epoch
                continue
            server.baseline, server.since, server.epoch = counters(stats, server.slot), time.time(), epoch
        return stats

    def _stats(self) -> Stats:
        return self.gateway.runtime.stats()

    def _predictor(
        self, servers: Sequence[tuple[ServerState, bool]], found: Mapping[str, Mapping[str, object]], address: str
    ) -> PredictorStatus:
        ready = [server for server, answers in servers if answers]
        problems = (self.servers.problem(server, found) for server, answers in servers if not answers)
        containers = [found.get(self.key.server(server)) or {} for server, _ in servers]
        return predictor_status(
            servers,
            url=self.servers.url((ready or [servers[0][0]])[0], found, address=address),
            restarts=sum(int(str(one.get("RestartCount") or 0)) for one in containers),
            problem="" if self.state.stopped else next(filter(None, problems), ""),
        )


def _epoch(info: str) -> int:
    """Return when HAProxy has started, in seconds since the epoch of its machine, out of ``show info``."""
    entries = dict(line.partition(": ")[::2] for line in info.splitlines())
    return int(entries.get("Start_time_sec") or 0)
