"""What stands before the servers, each on the first core: our gateway, HAProxy alone, nginx, a proxy in Python."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from modelway.endpoints.gateway.haproxy import find_haproxy
from modelway.endpoints.gateway.process import Gateway, Listener
from modelway.endpoints.gateway.routes import Route, Routes

HERE = Path(__file__).resolve().parent
#: the weights of the three servers
WEIGHTS: Mapping[str, int] = {"1": 30, "2": 50, "3": 20}

# The limits of our own gateway, for one server and without any choice.
_HAPROXY = """\
global
    nbthread 1
    maxconn 1000
    tune.bufsize 65536
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 300s
    timeout http-request 10s
    option http-buffer-request
    {closes}
frontend entry
    bind 127.0.0.1:{port}
    default_backend one
backend one
    server one 127.0.0.1:{server}
"""

_NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    split_clients $request_id $version {{ {shares} }}
    {upstreams}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://$version;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Contestant:
    """Something that listens on ``port``."""

    #: versions of the servers that it chooses among
    weights: Mapping[str, int] = WEIGHTS

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def cpu(self) -> float:
        """Return the CPU seconds of all of its threads so far, to the nanosecond."""
        main = psutil.Process(self.pid)
        total = 0
        for process in (main, *main.children(recursive=True)):
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def stop(self) -> None:
        """End it."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.pid)
            for process in (*main.children(recursive=True), main):
                process.kill()
            with suppress(psutil.TimeoutExpired):
                main.wait(5)


class Ours(Contestant):
    """The gateway of an endpoint with three predictors."""

    def __init__(self, folder: Path, servers: Sequence[int]) -> None:
        folder.mkdir()
        self.servers = servers
        listener = Listener()
        self.gateway = Gateway(folder, listener, started=lambda: None)
        self.gateway.ensure(self.routes(WEIGHTS), host="127.0.0.1", port=None)
        self.gateway.push(self.routes(WEIGHTS))
        assert listener.port is not None
        assert listener.pid is not None
        super().__init__(listener.port, listener.pid)

    def routes(self, weights: Mapping[str, int]) -> Routes:
        """Return the routes with these weights."""
        routes = (
            Route(name=f"v{at + 1}", version=at + 1, slot=at, addresses=(f"127.0.0.1:{port}",), weight=weight)
            for at, (port, weight) in enumerate(zip(self.servers, weights.values(), strict=True))
        )
        return Routes(all=tuple(routes), stable_name="v1")

    def stop(self) -> None:
        """End the gateway."""
        self.gateway.stop()


class Process(Contestant):
    """A program that is started with a port of its own."""

    def __init__(self, argv: Sequence[str], port: int, log: Path, weights: Mapping[str, int] = WEIGHTS) -> None:
        self.weights = weights
        with log.open("wb") as output:
            started = subprocess.Popen(argv, stdout=output, stderr=output, start_new_session=True)
        super().__init__(port, started.pid)
        end = time.monotonic() + 30
        while not listens(port):
            if started.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"does not listen: {argv}\n{log.read_text()}")
            time.sleep(0.01)


def haproxy(folder: Path, servers: Sequence[int], *, reuses: bool) -> Process:
    """HAProxy with the limits of our gateway and one server.

    :param reuses: whether it uses a connection to the server again, as it does by default
    """
    port, file = free_port(), folder / f"haproxy-{reuses}.cfg"
    closes = "" if reuses else "option http-server-close"
    file.write_text(_HAPROXY.format(port=port, server=servers[0], closes=closes))
    return Process([find_haproxy(), "-db", "-f", str(file)], port, file.with_suffix(".log"), {"1": 100})


def nginx(program: str, folder: Path, servers: Sequence[int]) -> Process:
    """Return nginx with ``split_clients``, which draws by the request."""
    port, folder = free_port(), folder / "nginx"
    folder.mkdir()
    *first, last = WEIGHTS
    shares = " ".join(f"{WEIGHTS[version]}% v{version};" for version in first) + f" * v{last};"
    upstreams = "\n".join(
        f"upstream v{version} {{ server 127.0.0.1:{server}; keepalive 64; }}"
        for version, server in zip(WEIGHTS, servers, strict=True)
    )
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, port=port, shares=shares, upstreams=upstreams))
    return Process([program, "-c", str(file), "-e", str(folder / "error.log")], port, folder / "log")


def python_proxy(folder: Path, servers: Sequence[int]) -> Process:
    """Return the proxy in Python."""
    port = free_port()
    pairs = [f"{weight}={server}" for weight, server in zip(WEIGHTS.values(), servers, strict=True)]
    return Process([sys.executable, str(HERE / "python_proxy.py"), str(port), *pairs], port, folder / "python.log")


def servers(folder: Path) -> list[Process]:
    """Return the servers of the three versions."""
    found = []
    for version in WEIGHTS:
        port = free_port()
        argv = [sys.executable, str(HERE / "echo.py"), str(port), version]
        found.append(Process(argv, port, folder / f"server-{version}.log"))
    return found


def pin(core: int) -> None:
    """Let this process, and what it starts from now on, run on one core."""
    os.sched_setaffinity(0, {core})


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
