"""The gateway's process: started once, everything else is sent over its socket."""

import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelway.artifacts.whole_files import replace_file, writing
from modelway.endpoints.gateway.haproxy import addresses, config, find_haproxy, is_current, plan
from modelway.endpoints.gateway.routes import MAX_REPLICAS, Route, Routes
from modelway.endpoints.gateway.runtime_socket import Runtime, Stats, socket_path
from modelway.errors import EndpointNotReady, PortTaken
from modelway.platforms.processes import marked

#: name of the gateway's program
PROGRAM = "haproxy"
#: seconds until it answers on its socket, and until a server's health check has run
_START = 10.0
_ATTEMPTS = 3


@dataclass(eq=False)
class Listener:
    """Where a gateway listens, and its process; the owner of the gateway stores it."""

    host: str = "127.0.0.1"
    port: int | None = None
    pid: int | None = None

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "*") else self.host
        return f"http://{host}:{self.port}"


class Gateway:
    """The gateway of one endpoint: a process of this machine."""

    def __init__(self, folder: Path, listener: Listener, *, started: Callable[[], None]) -> None:
        """Work in the endpoint's folder, whose name is the endpoint's.

        :param listener: is changed as the gateway starts and stops
        :param started: called when the process was started, with the listener as it is now: all counters are zero
        """
        self.folder = folder
        self.listener = listener
        self._started = started

    @property
    def marker(self) -> str:
        """The argument by which the process is found."""
        return str(self.folder / "haproxy.cfg")

    @property
    def runtime(self) -> Runtime:
        """The runtime socket."""
        return Runtime(socket_path(self.folder))

    @property
    def has_process(self) -> bool:
        """Whether the process is there."""
        return marked.running(self.listener.pid, self.marker)

    @property
    def is_running(self) -> bool:
        """Whether the process is there and answers."""
        if not self.has_process:
            return False
        try:
            return "Version:" in self.runtime.send("show info")
        except EndpointNotReady:
            return False

    def refuse_used_port(self, *, host: str, port: int | None) -> None:
        """Refuse a named port that another program than this gateway uses.

        :raises PortTaken: with the program, where the system says which
        """
        own = (host, port) == (self.listener.host, self.listener.port) and self.has_process
        if port is not None and not own and not _is_free(host, port):
            raise _port_in_use(host, port)

    def ensure(self, routes: Routes, *, host: str, port: int | None) -> None:
        """Run the gateway at ``host`` and ``port``; restart it only if it does not run, or must listen elsewhere.

        :param routes: the routes from its first request on
        :param port: None keeps the recorded one, or chooses a free one
        :raises PortTaken: when another program uses the port that was named
        :raises EndpointNotReady: when it does not start
        """
        listener = self.listener
        same = (
            host == listener.host
            and port in (None, listener.port)
            and is_current(self.folder / "haproxy.cfg", routes.sticky)
        )
        if same and self.is_running:
            return
        self.stop()
        listener.host = host
        for attempt in range(_ATTEMPTS):
            if port is not None:
                listener.port = port
            elif attempt or listener.port is None or not _is_free(host, listener.port):
                listener.port = _free_port(host)
            if self._start(routes):
                return
        if port is not None and not _is_free(host, port):
            raise _port_in_use(host, port)
        raise EndpointNotReady(
            f"the gateway did not start; the end of its log:\n{marked.tail(self.folder / 'gateway.log')}",
            where=f"endpoint {self.folder.name}",
            do="Try again",
        )

    def push(self, routes: Routes) -> None:
        """Bring the gateway to ``routes``: servers first, then, when their checks have passed, all shares at once.

        :raises EndpointNotReady: when a server that is to get requests does not pass its check
        """
        runtime = self.runtime
        runtime.set_addresses(addresses(routes))
        self._wait_up(runtime, routes)
        runtime.set_plan(plan(routes))

    def set_addresses(self, routes: Routes) -> None:
        """Bring the servers alone to ``routes``, and leave their shares."""
        self.runtime.set_addresses(addresses(routes))

    def slot_counters(self, slot: int) -> dict[str, int]:
        """Return the counts of one slot since the gateway started."""
        return counters(self.runtime.stats(), slot)

    def wait_empty(self, slot: int, replica: int, *, patience: float) -> None:
        """Wait until a server that gets no more requests has answered those it has, ``patience`` seconds at most."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            stats = self.runtime.stats()
            if not any(int(stats[f"{kind}{slot}", f"main{replica}"]["scur"]) for kind in ("slot", "pinned")):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process after the requests in progress; idle connections are closed after three seconds."""
        marked.stop(self.listener.pid, self.marker, patience=5, first=signal.SIGUSR1)
        self.listener.pid = None
        socket_path(self.folder).unlink(missing_ok=True)

    def _start(self, routes: Routes) -> bool:
        """Start the process with its routes, so that they are in place from its first request."""
        bind = f"{self.listener.host}:{self.listener.port}"
        text = config(routes, bind=bind, socket_file=socket_path(self.folder))
        with writing(self.folder):
            replace_file(path=self.folder / "haproxy.cfg", data=text.encode())
            entries = "".join(f"{key} {value}\n" for key, value in plan(routes).items())
            replace_file(path=self.folder / "plan.map", data=entries.encode())
        argv = [find_haproxy(), "-db", "-f", self.marker]
        self.listener.pid = marked.spawn(argv, folder=self.folder, log=self.folder / "gateway.log")
        self._started()
        end = time.monotonic() + _START
        while self.has_process and time.monotonic() < end:
            if self.is_running:
                return True
            time.sleep(0.02)
        self.stop()
        return False

    def _wait_up(self, runtime: Runtime, routes: Routes) -> None:
        needed = [route for route in routes.wanted if route.weight]
        end = time.monotonic() + _START
        while True:
            stats = runtime.stats()
            late = [route for route in needed if not _is_up(stats, route)]
            if not late:
                return
            if time.monotonic() > end:
                raise EndpointNotReady(
                    f"the gateway finds {late[0].name} not ready",
                    where=f"endpoint {self.folder.name}",
                    do="Apply the endpoint again",
                )
            time.sleep(0.02)


def _is_up(stats: Stats, route: Route) -> bool:
    """Return whether every server of a route that has an address has passed its check, and there is one."""
    used = [f"main{replica}" for replica, address in enumerate(route.addresses) if address is not None]
    return bool(used) and all(stats[f"slot{route.slot}", name]["status"].startswith("UP") for name in used)


def counters(stats: Stats, slot: int) -> dict[str, int]:
    """Return the counts of one predictor from the rows of ``show stat`` of its two backends.

    A backend's row counts requests and what the client got in the end; columns of a server that count its attempts,
    such as ``eresp``, say nothing about requests.
    """
    whole = [stats[f"slot{slot}", "BACKEND"], stats[f"pinned{slot}", "BACKEND"]]
    elsewhere = [stats[f"slot{slot}", f"stable{replica}"] for replica in range(MAX_REPLICAS)]
    answers = [f"hrsp_{kind}" for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")]
    failed = {name: _sum(whole, name) - _sum(elsewhere, name) for name in ("hrsp_4xx", "hrsp_5xx", "srv_abrt")}
    return {
        "requests": _sum(whole, "stot"),
        "client_errors": failed["hrsp_4xx"],
        "server_errors": failed["hrsp_5xx"],
        "broken_answers": failed["srv_abrt"],
        "rerouted": _sum(elsewhere, *answers),
        "named": _sum(whole[1:], "stot"),
    }


def _sum(rows: Iterable[Mapping[str, str]], *columns: str) -> int:
    return sum(int(row[column] or 0) for row in rows for column in columns)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # as HAProxy binds: connections that are still closing do not count
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _port_in_use(host: str, port: int) -> PortTaken:
    holder = "another program"
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,)
            if listens and connection.pid:
                holder = f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return PortTaken(
        f"port {port} of {host} is used by {holder}", do="Stop that program, name another port, or none for a free one"
    )
