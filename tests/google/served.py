"""What stands behind Google's endpoints on this machine: our server per version as a process, and the routers that
split requests to them.
"""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelway.errors import ModelwayError
from modelway.oci.images import unpack_image

_PLUGINS = Path(__file__).parents[2] / "plugins"


class Server:
    """A container of a model's image, as a process."""

    def __init__(
        self,
        folder: Path,
        *,
        image: str,
        environment: Mapping[str, str],
        arguments: Sequence[str],
        login: tuple[str, str] | tuple[None, None] = (None, None),
    ) -> None:
        """Start it; an image that cannot be had leaves one that never runs."""
        self.image, self.problem = image, ""
        self.version = str(environment.get("MODELWAY_MODEL_VERSION", ""))
        self._folder = folder
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._start: Callable[[], subprocess.Popen[bytes]] | None = None
        self.log = folder / "server.log"
        folder.mkdir(parents=True)
        try:
            root = unpack_image(reference=image, into=folder.parent / "images", username=login[0], password=login[1])
        except ModelwayError as error:
            self.problem = f"Image '{image}' not found: {error.what}"
            return
        model = str(environment.get("MODELWAY_MODEL_DIR", "/models"))
        own = {**environment, "MODELWAY_MODEL_DIR": str(root / model.lstrip("/")), "PYTHONPATH": str(_PLUGINS)}
        command = [sys.executable, "-m", "modelway.server", *arguments, "--run-file", str(folder / "run.json")]
        self._start = partial(_started, command, environment=own, folder=folder)
        self._process = self._start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int | None:
        """The port that it listens on, None before it does."""
        if self._port is None and (file := self._folder / "run.json").exists():
            self._port = int(json.loads(file.read_text())["port"])
        return self._port

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def is_ready(self) -> bool:
        if self.has_ended or self.port is None:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def ensure(self) -> None:
        """Start it again where it was stopped."""
        if self.has_ended and self._start is not None:
            (self._folder / "run.json").unlink(missing_ok=True)
            self._port, self._process = None, self._start()

    def wait_ready(self) -> None:
        """Wait as long as a request waits for an instance."""
        end = time.monotonic() + 60
        while not self.has_ended and self.port is None and time.monotonic() < end:
            time.sleep(0.02)

    def stop(self) -> None:
        """Have it answer what it has, and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._leaving.append(self._process)
        self._process = None

    def close(self) -> None:
        """End it now."""
        for process in (self._process, *self._leaving):
            if process is not None:
                process.kill()
                process.wait(20)


def _started(command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log, cwd=folder)


@dataclass
class Backend:
    """Where a request goes: a server, or nowhere with a status."""

    name: str
    server: Server | None = None
    status: int = 503
    message: str = "Service Unavailable"
    #: the path that the server gets, where it is another one than that of the request
    path: str | None = None


class Router:
    """A listener whose requests go where ``choose`` says, each counted by ``count``."""

    def __init__(
        self,
        choose: Callable[[str, str, Mapping[str, str]], Backend],
        count: Callable[[Backend, int, float], None],
    ) -> None:
        """:param choose: by method, path and headers; called for each request
        :param count: gets status and seconds
        """
        self._server = _Server(("127.0.0.1", 0), _Proxy)
        self._server.choose, self._server.count = choose, count
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def chosen(percents: Sequence[tuple[str, int]]) -> str | None:
    """Return a name at random, by the per cents; None where there are none."""
    names = [name for name, percent in percents if percent]
    return random.choices(names, [percent for _, percent in percents if percent])[0] if names else None


class _Server(ThreadingHTTPServer):
    choose: Callable[[str, str, Mapping[str, str]], Backend]
    count: Callable[[Backend, int, float], None]
    daemon_threads = True
    request_queue_size = 128


class _Proxy(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._kept: dict[int, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        super().finish()
        for connection in self._kept.values():
            connection.close()

    def do_GET(self) -> None:
        began = time.monotonic()
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        backend = self.server.choose(self.command, self.path, self.headers)
        status, headers, body = backend.status, [("Content-Type", "text/plain")], backend.message.encode()
        if backend.server is not None:
            try:
                status, headers, body = self._ask(backend, content)
            except (OSError, http.client.HTTPException) as error:
                status, headers, body = 503, [], repr(error).encode()
        self.server.count(backend, status, time.monotonic() - began)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _ask(self, backend: Backend, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = backend.server
        assert server is not None
        assert server.port is not None
        connection = self._kept.get(server.port)
        if connection is None:
            connection = self._kept[server.port] = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        dropped = ("host", "connection", "content-length", "authorization")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        try:
            connection.request(self.command, backend.path or self.path, content or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except BaseException:
            connection.close()
            del self._kept[server.port]
            raise

    def log_message(self, format: str, *args: Any) -> None:
        pass
