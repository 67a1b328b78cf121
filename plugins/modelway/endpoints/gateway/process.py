"""The gateway's process: started once, told everything else over its socket."""

import signal
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from modelway.artifacts.whole_files import replace_file, writing
from modelway.endpoints.gateway.haproxy import addresses, config, find_haproxy, is_current, plan
from modelway.endpoints.gateway.runtime_socket import Runtime, socket_path
from modelway.endpoints.local.state import State, write_state
from modelway.errors import EndpointNotReady, PortTaken
from modelway.platforms.processes import marked as _process

#: seconds until it answers on its socket, and until a server's health check has run
_START = 10.0
_TRIES = 3

#: server to its row of ``show stat``
Rows = Mapping[str, Mapping[str, str]]


def marker(folder: Path) -> str:
    """Return the argument by which the gateway's process is found."""
    return str(folder / "haproxy.cfg")


def runtime(folder: Path) -> Runtime:
    """Return the socket of the endpoint's gateway."""
    return Runtime(socket_path(folder))


def is_running(folder: Path, state: State) -> bool:
    """Return whether the gateway's process is there and answers."""
    if not _process.running(state.gateway_pid, marker(folder)):
        return False
    try:
        return "Version:" in runtime(folder).ask("show info")
    except EndpointNotReady:
        return False


def refuse_taken_port(folder: Path, state: State, *, host: str, port: int | None) -> None:
    """Refuse a named port that another program than this endpoint's gateway holds.

    :raises PortTaken: with the program, where the system tells
    """
    own = (host, port) == (state.host, state.port) and _process.running(state.gateway_pid, marker(folder))
    if port is not None and not own and not _is_free(host, port):
        raise _port_taken(host, port)


def ensure(folder: Path, state: State, *, host: str, port: int | None) -> None:
    """Have the gateway run at ``host`` and ``port``; start it again only if it does not, or is to listen elsewhere.

    :param port: None keeps the remembered one, or takes a free one
    :raises PortTaken: when another program holds the port that was named
    :raises EndpointNotReady: when it does not start
    """
    same = host == state.host and port in (None, state.port) and is_current(folder / "haproxy.cfg")
    if same and is_running(folder, state):
        return
    stop(folder, state)
    state.host = host
    for attempt in range(_TRIES):
        if port is not None:
            state.port = port
        elif attempt or state.port is None or not _is_free(host, state.port):
            state.port = _free_port(host)
        if _start(folder, state):
            return
    if port is not None and not _is_free(host, port):
        raise _port_taken(host, port)
    raise EndpointNotReady(
        f"the gateway did not start; the end of its log:\n{_process.tail(folder / 'gateway.log')}",
        where=f"endpoint {state.name}",
        do="Try again",
    )


def push(folder: Path, state: State) -> None:
    """Bring the gateway to ``state``: servers first, then, when their checks have passed, all shares at once.

    :raises EndpointNotReady: when a server that is to get requests does not pass its check
    """
    gateway = runtime(folder)
    gateway.set_addresses(addresses(state))
    _wait_up(gateway, state)
    gateway.set_plan(plan(state))


def counters(slot: Rows, pinned: Rows) -> dict[str, int]:
    """Return the counts of one version, given the rows of ``show stat`` of its two backends by server.

    A backend's row counts requests and what the client got in the end; columns of a server that count its tries, such
    as ``eresp``, say nothing about requests.
    """
    whole = [slot["BACKEND"], pinned["BACKEND"]]
    elsewhere = slot["stable"]
    answers = [f"hrsp_{kind}" for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")]
    failed = {name: _sum(whole, name) - _sum([elsewhere], name) for name in ("hrsp_4xx", "hrsp_5xx", "srv_abrt")}
    return {
        "requests": _sum(whole, "stot"),
        "client_errors": failed["hrsp_4xx"],
        "server_errors": failed["hrsp_5xx"],
        "broken_answers": failed["srv_abrt"],
        "rerouted": _sum([elsewhere], *answers),
    }


def slot_counters(folder: Path, slot: int) -> dict[str, int]:
    """Return the counts of one slot since the gateway started."""
    stats = runtime(folder).stats()
    slots = {name: stats[f"slot{slot}", name] for name in ("BACKEND", "stable")}
    return counters(slots, {"BACKEND": stats[f"pinned{slot}", "BACKEND"]})


def wait_empty(folder: Path, slot: int, *, patience: float) -> None:
    """Wait until a slot that gets no more requests has answered those it has, ``patience`` seconds at most."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        stats = runtime(folder).stats()
        if not any(int(stats[f"{kind}{slot}", "BACKEND"]["scur"]) for kind in ("slot", "pinned")):
            return
        time.sleep(0.02)


def stop(folder: Path, state: State) -> None:
    """End the gateway after the requests that it has in hand; it gives idle connections three seconds."""
    _process.stop(state.gateway_pid, marker(folder), patience=5, first=signal.SIGUSR1)
    state.gateway_pid = None
    socket_path(folder).unlink(missing_ok=True)


def _start(folder: Path, state: State) -> bool:
    """Start the gateway from the state as it is, so that it is right from its first request."""
    with writing(folder):
        replace_file(path=folder / "haproxy.cfg", data=config(state, socket_file=socket_path(folder)).encode())
        entries = "".join(f"{key} {value}\n" for key, value in plan(state).items())
        replace_file(path=folder / "plan.map", data=entries.encode())
    began = time.time()
    argv = [find_haproxy(), "-db", "-f", marker(folder)]
    state.gateway_pid = _process.spawn(argv, folder=folder, log=folder / "gateway.log")
    for server in state.servers:
        server.baseline, server.since = {}, began
    write_state(folder, state)
    end = time.monotonic() + _START
    while _process.running(state.gateway_pid, marker(folder)) and time.monotonic() < end:
        if is_running(folder, state):
            return True
        time.sleep(0.02)
    stop(folder, state)
    return False


def _wait_up(gateway: Runtime, state: State) -> None:
    needed = [server for server in state.wanted if server.weight]
    end = time.monotonic() + _START
    while True:
        stats = gateway.stats()
        late = [server for server in needed if not stats[f"slot{server.slot}", "main"]["status"].startswith("UP")]
        if not late:
            return
        if time.monotonic() > end:
            raise EndpointNotReady(
                f"the gateway finds version {late[0].version} not ready",
                where=f"endpoint {state.name}",
                do="Apply the endpoint again",
            )
        time.sleep(0.02)


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


def _port_taken(host: str, port: int) -> PortTaken:
    holder = "another program"
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,)
            if listens and connection.pid:
                holder = f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return PortTaken(
        f"port {port} of {host} is held by {holder}", do="Stop that program, name another port, or none for a free one"
    )
