"""The gateway's process: started once, everything else is sent over its socket."""

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from modelway.artifacts.whole_files import replace_file, writing
from modelway.endpoints.gateway.haproxy import config, find_haproxy, is_current, plan
from modelway.endpoints.gateway.listening import free_port, url_host
from modelway.endpoints.gateway.routes import Routes
from modelway.endpoints.gateway.running import RunningGateway
from modelway.endpoints.gateway.runtime_socket import Runtime, socket_path, unix_socket
from modelway.errors import EndpointNotReady, PortTaken
from modelway.platforms.processes import marked

#: name of the gateway's program
PROGRAM = "haproxy"
#: seconds until it answers on its socket
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
        return f"http://{url_host(self.host)}:{self.port}"


class Gateway(RunningGateway):
    """The gateway of one endpoint: a process of this machine."""

    def __init__(self, folder: Path, listener: Listener, *, started: Callable[[], None]) -> None:
        """Work in the endpoint's folder, whose name is the endpoint's.

        :param listener: is changed as the gateway starts and stops
        :param started: called when the process was started, with the listener as it is now: all counters are zero
        """
        super().__init__(folder.name)
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
        return Runtime(unix_socket(socket_path(self.folder)))

    @property
    def has_process(self) -> bool:
        """Whether the process is there."""
        return marked.running(self.listener.pid, self.marker)

    @property
    def is_running(self) -> bool:
        """Whether the process is there and answers."""
        return self.has_process and self.answers

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
                listener.port = free_port(host)
            if self._start(routes):
                return
        if port is not None and not _is_free(host, port):
            raise _port_in_use(host, port)
        raise EndpointNotReady(
            f"the gateway did not start; the end of its log:\n{marked.tail(self.folder / 'gateway.log')}",
            where=f"endpoint {self.folder.name}",
            do="Try again",
        )

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
