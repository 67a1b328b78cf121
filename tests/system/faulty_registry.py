"""A registry behind a proxy that does what registries do on bad days: it refuses, cuts, waits and lies."""

import contextlib
import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 64 * 1024


@dataclass
class Fault:
    """What happens to the first requests of a method whose path matches, as often as ``times`` says."""

    method: str
    path: str
    times: int = 1
    status: int | None = None
    """Answered in the registry's place, once the body was read."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the request's body after which the connection is closed."""
    pause: float = 0.0
    """Seconds before each block of the body."""
    silent: float = 0.0
    """Seconds without an answer."""
    before: Callable[[], object] | None = None
    """Called before the request is passed on."""
    answered: Mapping[str, str] = field(default_factory=dict)
    """Headers that the registry's answer gets."""


class FaultyRegistry:
    """Passes requests on to a registry; those of a fault meet it instead."""

    def __init__(self, target_port: int, *faults: Fault, tls: ssl.SSLContext | None = None) -> None:
        self.target_port, self.faults = target_port, list(faults)
        self.answers: dict[str, bytes] = {}
        """What is answered to GET in the registry's place, by a part of the path."""
        self.met: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        """Method and path of everything that came."""
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            registry = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def count(self, method: str, path: str) -> int:
        return sum(1 for each, target in self.requests if each == method and re.search(path, target))

    def find(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    self.met.append(fault)
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: FaultyRegistry

    def handle_one(self) -> None:
        fault = self.registry.find(self.command, self.path) or Fault(self.command, self.path)
        if fault.before is not None:
            fault.before()
        if fault.silent:
            time.sleep(fault.silent)
        if fault.status is not None:
            for _ in self._body(fault):
                pass
            self._answer(fault.status, {**fault.headers, "Content-Length": "0"}, b"")
            return
        if self.command == "GET" and (
            found := [data for part, data in self.registry.answers.items() if part in self.path]
        ):
            self._answer(200, {"Content-Length": str(len(found[0]))}, found[0])
            return
        target = http.client.HTTPConnection("127.0.0.1", self.registry.target_port, timeout=60)
        try:
            target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                target.putheader(name, value)
            target.endheaders()
            for block in self._body(fault):
                target.send(block)
            answer = target.getresponse()
            content = answer.read()
            kept = {name: value for name, value in answer.getheaders() if name != "Transfer-Encoding"}
            self._answer(answer.status, {"Content-Length": str(len(content)), **kept, **fault.answered}, content)
        except ConnectionAbortedError:
            self.close_connection = True
        finally:
            target.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def _body(self, fault: Fault):
        left, passed = int(self.headers.get("Content-Length") or 0), 0
        while left:
            block = self.rfile.read(min(BLOCK, left))
            if not block:
                raise ConnectionAbortedError
            if fault.cut_after is not None and passed >= fault.cut_after:
                raise ConnectionAbortedError
            left -= len(block)
            passed += len(block)
            time.sleep(fault.pause)
            yield block

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()
