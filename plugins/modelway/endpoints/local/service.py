"""One endpoint of this machine: its folder, its state, its servers, its gateway and its supervisor."""

import contextlib
import copy
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelway.endpoints.base import (
    EndpointSpec,
    EndpointStatus,
    PredictorMetrics,
    PredictorStatus,
)
from modelway.endpoints.gateway import process as gateway_process
from modelway.endpoints.gateway.places import by_predictor, described, predictor_status, refuse_not_ready
from modelway.endpoints.gateway.process import Gateway
from modelway.endpoints.gateway.running import counted_since, counters
from modelway.endpoints.gateway.server_counts import read_server_counts
from modelway.endpoints.local import server as server_process
from modelway.endpoints.local.server import Server
from modelway.endpoints.local.state import Life, ServerState, State, read_state, write_state
from modelway.errors import ModelwayError
from modelway.platforms.processes import marked

SUPERVISOR = "modelway.endpoints.local.supervisor"
#: what may run in the folder of an endpoint
_PROGRAMS = (server_process.PROGRAM, gateway_process.PROGRAM, SUPERVISOR)
#: seconds that a server which runs may take to say that it is ready, before it counts as stuck
_STUCK = 5.0


class Service:
    """One endpoint; a caller that changes it holds its lock (``state.locked``)."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self.gateway = Gateway(folder, state.gateway, started=self._reset_counts)

    @classmethod
    def read(cls, folder: Path) -> "Service | None":
        """Return the endpoint of a folder, None when there is none.

        :raises DigestMismatch: its state cannot be read
        """
        state = read_state(folder)
        return None if state is None else cls(folder, state)

    def write(self) -> None:
        """Save the state as it is now.

        :raises NotWritable: when the folder cannot be written
        """
        write_state(self.folder, self.state)

    @property
    def servers(self) -> list[Server]:
        """All servers, those being retired included."""
        return [Server(self.folder, one) for one in self.state.servers]

    @property
    def wanted(self) -> list[Server]:
        """The servers that are not being retired."""
        return [Server(self.folder, one) for one in self.state.wanted]

    @property
    def marker(self) -> str:
        """The argument by which the supervisor's process is found."""
        return str(self.folder / "state.json")

    def ensure_supervisor(self) -> None:
        """Make sure that a supervisor runs; record its id."""
        if marked.running(self.state.supervisor_pid, self.marker):
            return
        argv = [sys.executable, "-P", "-m", SUPERVISOR, self.marker]
        self.state.supervisor_pid = marked.spawn(argv, folder=self.folder, log=self.folder / "supervisor.log")
        self.write()

    def ensure_gateway(self, *, host: str, port: int | None) -> None:
        """Make sure that the gateway runs there, with the servers and shares as they are; see ``Gateway.ensure``."""
        self.gateway.ensure(self.state.routes, host=host, port=port)

    def push(self) -> None:
        """Bring the running gateway to the state; see ``Gateway.push``."""
        self.gateway.push(self.state.routes)

    def ensure_servers(
        self, spec: EndpointSpec, *, unpack: Callable[[str], Path], ready_timeout: float
    ) -> dict[str, list[ServerState]]:
        """Make sure that every predictor has its ready servers; when one fails, the new ones are stopped again.

        :param unpack: returns the root folder of an image, by its reference
        :param ready_timeout: seconds that new servers may take to load their models
        """
        state = self.state
        before = list(state.servers)
        chosen = {
            each.name: state.choose(ServerState(**described(spec, each)), replicas=each.replicas)
            for each in spec.predictors
        }
        everyone = [one for servers in chosen.values() for one in servers]
        fresh = [one for one in state.servers if one not in before]
        try:
            waiting = [server for server in self._each(everyone) if not _continues(server)]
            for server in waiting:
                server.state.image_root = str(unpack(server.state.image))
                server.state.life = Life()
                server.start()
                self.write()
            until = time.monotonic() + ready_timeout
            for server in waiting:
                server.wait_ready(until=until)
        except BaseException:
            for server in self._each(everyone if state.stopped else fresh):
                server.stop(patience=5)
            for one in fresh:
                state.servers.remove(one)
            self.write()
            raise
        self._start_counting(fresh)
        return chosen

    def settle(self, spec: EndpointSpec, chosen: dict[str, list[ServerState]]) -> None:
        """Record what the spec wants; servers of no predictor are being retired."""
        self.state.settle(spec, chosen)
        self.state.platform = dict(spec.platform)

    @contextlib.contextmanager
    def restored_after_failure(self) -> Iterator[None]:
        """Restore the state and the split when a change of them fails; servers that the split does not need end."""
        before = copy.deepcopy(self.state)
        try:
            yield
        except BaseException:
            # A gateway that does not answer gets it when it is started.
            with contextlib.suppress(ModelwayError):
                self._restore(before)
            raise

    def _restore(self, before: State) -> None:
        # Processes that were started meanwhile are known.
        before.gateway, before.supervisor_pid = self.state.gateway, self.state.supervisor_pid
        self.state = before
        self.write()
        if before.stopped or not before.wanted:
            self.stop()
            return
        self.ensure_gateway(host=self.state.gateway.host, port=None)
        self.push()
        self.retire()

    def refuse_not_ready(self, weights: Mapping[str, int]) -> None:
        """Refuse a split of which a predictor that gets requests is not ready.

        :raises EndpointNotReady: with the predictor
        """
        refuse_not_ready(self._answers(), weights, endpoint=self.state.name)

    def retire(self) -> None:
        """Stop the servers that are being retired, once they have answered their open requests."""
        for server in [server for server in self.servers if not server.state.wanted]:
            self.gateway.wait_empty(server.state.slot, server.state.replica, patience=30)
            server.stop()
            shutil.rmtree(server.folder, ignore_errors=True)
            self.state.servers.remove(server.state)
            self.push()
            self.write()

    def stop(self) -> None:
        """Stop the supervisor and the gateway, then the servers, so that no request finds a server gone."""
        marked.stop(self.state.supervisor_pid, self.marker, patience=2)
        self.state.supervisor_pid = None
        self.gateway.stop()
        servers = self.servers
        # All at once: each waits for requests for half a second before it ends.
        with ThreadPoolExecutor(max(1, len(servers))) as ending:
            list(ending.map(Server.stop, servers))
        self.stop_strays()

    def stop_strays(self) -> None:
        """End processes of this endpoint that its state does not know, as after a crash between start and record."""
        known = {server.state.pid: server.marker for server in self.servers}
        known |= {self.state.gateway.pid: self.gateway.marker, self.state.supervisor_pid: self.marker}
        noted = {pid: marker for pid, marker in known.items() if pid is not None}
        for pid, marker in list(marked.strays(self.folder, noted, programs=_PROGRAMS)):
            marked.stop(pid, marker, patience=5)

    @property
    def model(self) -> str:
        """The name of the model in the URLs."""
        return self.state.wanted[0].model if self.state.wanted else self.state.name

    def status(self) -> EndpointStatus:
        """Return the endpoint as it is."""
        state = self.state
        predictors = tuple(_status(servers) for servers in by_predictor(self._answers()).values())
        has_gateway = not state.stopped and self.gateway.is_running
        return EndpointStatus(
            name=state.name,
            model=self.model,
            url=state.gateway.url,
            predictors=predictors,
            stable=state.stable,
            sticky=state.sticky,
            platform=state.platform,
            ready=has_gateway and all(one.ready for one in predictors if one.weight),
            gateway_ready=has_gateway,
            stopped=state.stopped,
            problem="" if has_gateway else state.gateway_life.problem,
        )

    def metrics(self) -> dict[str, PredictorMetrics]:
        """Return the counts by predictor since each moved in, or since the gateway started.

        :raises EndpointNotReady: when the gateway does not answer
        """
        wanted = self.wanted
        with ThreadPoolExecutor(max(1, len(wanted))) as asking:
            pages = list(asking.map(Server.metrics_page, wanted))
        stats = self.gateway.runtime.stats()
        result: dict[str, PredictorMetrics] = {}
        for server in self.state.wanted:
            if server.name in result:
                continue
            own = counted_since(counters(stats, server.slot), server.baseline)
            more = read_server_counts(
                page for each, page in zip(wanted, pages, strict=True) if each.state.name == server.name
            )
            result[server.name] = more.joined(own, since=server.since)
        return result

    def pages(self, path: str) -> dict[str, list[str]]:
        """Return what the servers of each predictor answer to a path; "" for one that does not answer."""
        wanted = self.wanted
        with ThreadPoolExecutor(max(1, len(wanted))) as asking:
            pages = list(asking.map(lambda server: server.page(path), wanted))
        found: dict[str, list[str]] = {}
        for server, page in zip(wanted, pages, strict=True):
            found.setdefault(server.state.name, []).append(page)
        return found

    def drift(self) -> tuple[str, ...]:
        """Return what of the gateway somebody changed by hand; nothing while it does not run."""
        if self.state.stopped or not self.gateway.is_running:
            return ()
        return self.gateway.drift(self.state.routes)

    def _each(self, states: Iterable[ServerState]) -> list[Server]:
        return [Server(self.folder, state) for state in states]

    def _reset_counts(self) -> None:
        """Record that the gateway was started, so that all its counters are zero."""
        began = time.time()
        for server in self.state.servers:
            server.baseline, server.since = {}, began
        self.write()

    def _start_counting(self, fresh: list[ServerState]) -> None:
        running = self.gateway.is_running
        for server in fresh:
            before = next((one for one in self.state.by_slot[server.slot] if one not in fresh), None)
            if before is not None:
                server.baseline, server.since = before.baseline, before.since
                continue
            server.baseline = self.gateway.slot_counters(server.slot) if running else {}
            server.since = time.time()
        self.write()

    def _answers(self) -> list[tuple[ServerState, bool]]:
        """Return whether each server is ready: all at once, so that several stuck ones take no longer than one."""
        if self.state.stopped:
            return [(server, False) for server in self.state.wanted]
        wanted = self.wanted
        with ThreadPoolExecutor(max(1, len(wanted))) as asking:
            answers = list(asking.map(lambda server: server.is_ready(patience=_STUCK), wanted))
        return [(server.state, ready) for server, ready in zip(wanted, answers, strict=True)]


def _continues(server: Server) -> bool:
    """Return whether the server runs and is ready; one that is stuck is ended."""
    end = time.monotonic() + _STUCK
    while server.is_running:
        if server.is_ready():
            return True
        if time.monotonic() > end:
            server.stop(patience=1)
        time.sleep(0.05)
    return False


def _status(servers: Sequence[tuple[ServerState, bool]]) -> PredictorStatus:
    """Return the status of a predictor from its servers, each with whether it is ready."""
    ready = [server for server, answers in servers if answers]
    problems = (server.life.problem for server, answers in servers if not answers)
    return predictor_status(
        servers,
        url=(ready or [servers[0][0]])[0].url,
        restarts=sum(server.life.restarts for server, _ in servers),
        problem=next(filter(None, problems), ""),
    )
